"""VLMEvalKit: a TSV for images and one for clips, and a module with their data set classes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from nontrivial.manifests.exports import Row
from nontrivial.manifests.files import atomic_path
from nontrivial.manifests.schema import family_of

MODULE = "nontrivial_vlmevalkit.py"
COLUMNS = ("index", "id", "question", "options", "answer", "task", "category")
ADAPTER = '''
import json
import os
from functools import partial
from pathlib import Path

import vlmeval.dataset as known
from vlmeval.dataset.image_base import ImageBaseDataset
from vlmeval.dataset.video_base import VideoBaseDataset
from vlmeval.dataset.video_dataset_config import supported_video_datasets
from vlmeval.smp import dump, load
from vlmeval.smp.file import get_intermediate_file_path

HERE = Path(__file__).resolve().parent
FRAMES = 16  # of a clip, for models that take images alone
SCORES = ("strict", "soft", "per_option", "format")


def names(kind):
    """Return the names of the data sets beside this file; `kind` is images or videos."""
    return sorted(file.stem for file in (HERE / kind).glob("*.tsv"))


def score(completion, options, answer):
    """Score a completion as `eval.qa` does."""
    completion = completion if isinstance(completion, str) else ""
    chosen, count = read_answer(completion, options), len(options)
    return {
        "strict": exact_score(chosen, answer),
        "soft": soft_score(chosen, answer),
        "per_option": per_option_score(chosen, answer, count),
        "format": float(is_formatted(completion)),
    }


def summarise(records):
    """Return the mean scores of each task, and of its categories where it has several."""
    scored = [
        (row["task"], str(row["category"]), score(
            row["prediction"], json.loads(row["options"]), json.loads(row["answer"])
        ))
        for row in records
    ]
    lines = []
    for task in sorted({task for task, _, _ in scored}):
        of_task = [(category, scores) for name, category, scores in scored if name == task]
        lines.append(mean(task, [scores for _, scores in of_task]))
        categories = sorted({category for category, _ in of_task})
        for category in categories if len(categories) > 1 else ():
            part = [scores for name, scores in of_task if name == category]
            lines.append(mean(f"{task}: {category}", part))
    return lines


def mean(name, scores):
    """Return the means of the scores of at least one completion."""
    means = {key: sum(row[key] for row in scores) / len(scores) for key in SCORES}
    return {"of": name, "n": len(scores), **means}


class Scored:
    """What both kinds of data sets share."""

    TYPE = "letters"  # no type of VLMEvalKit's, so that models do not put their own prompt

    @classmethod
    def supported_datasets(cls):
        return names(cls.KIND)

    @classmethod
    def evaluate(cls, eval_file, **judge_kwargs):
        """Score the completions of a file; there is no judge."""
        import pandas

        records = pandas.DataFrame(load(eval_file)).to_dict("records")  # a table, or a list
        table = pandas.DataFrame(summarise(records))
        dump(table, get_intermediate_file_path(eval_file, "_acc", "csv"))
        return table

    @classmethod
    def report_primary_metric(cls, metrics):
        """Return the strict score of each task, for the summary of a run."""
        wholes = [name for name in metrics or () if name.endswith("|strict") and ": " not in name]
        return {name: metrics[name] for name in wholes}


class NontrivialImages(Scored, ImageBaseDataset):
    """Questions about images."""

    KIND = "images"
    force_use_dataset_prompt = True

    def load_data(self, dataset):
        return load(str(HERE / self.KIND / f"{dataset}.tsv"))


class NontrivialVideos(Scored, VideoBaseDataset):
    """Questions about a clip each."""

    KIND = "videos"

    def __init__(self, dataset, pack=False, nframe=0, fps=-1):
        super().__init__(dataset=dataset, pack=pack, nframe=nframe, fps=fps)

    def prepare_dataset(self, dataset):
        folder = HERE / self.KIND
        return {"root": str(folder / "clips"), "data_file": str(folder / f"{dataset}.tsv")}

    def build_prompt(self, line, video_llm=False):
        line = self.data.iloc[line] if isinstance(line, int) else line
        if video_llm:
            clip = Path(self.data_root, f"{line['video']}.mp4")
            media = [{"type": "video", "value": str(clip)}]
        else:
            frames = self.save_video_frames(line["video"])
            media = [{"type": "image", "value": frame} for frame in frames]
        return [*media, {"type": "text", "value": line["question"]}]


def register():
    """Make the data sets known to VLMEvalKit by their names, and keep completions whole."""
    os.environ.setdefault("PRED_FORMAT", "tsv")  # a cell of .xlsx ends at 32,767 characters
    for cls in (NontrivialImages, NontrivialVideos):
        setattr(known, cls.__name__, cls)
        known.DATASET_CLASSES.append(cls)
        known.SUPPORTED_DATASETS.extend(cls.supported_datasets())
    for name in NontrivialVideos.supported_datasets():
        supported_video_datasets[name] = partial(NontrivialVideos, dataset=name, nframe=FRAMES)


register()
if __name__ == "__main__":
    from run import main

    main()
'''
README = """# For VLMEvalKit

In a checkout of VLMEvalKit:

    PYTHONPATH=. python {at}/nontrivial_vlmevalkit.py --data {name} \\
        --model Qwen2.5-VL-7B-Instruct

The command is VLMEvalKit's `run.py` with these data sets beside its own, and takes its options; or
import the module before you call `vlmeval.dataset.build_dataset`. A data set holds the rows with
images, or those with a clip, of one manifest. No judge is asked: `nontrivial_vlmevalkit.py` reads
letters as `eval.qa` does and prints its `strict`, `soft`, `per_option` and `format`, by task and by
family. VLMEvalKit prints a long table without its head, which is in the file `*_acc.csv`. Models
that take clips read `videos/clips`, the others 16 frames (`FRAMES`).

Completions are kept as `.tsv` unless `PRED_FORMAT` says otherwise: `.xlsx` cuts them at 32,767
characters, and with them the answers of models that think for long. Leave `SPLIT_THINK` unset: it
takes out what a model thinks, which `format` reads.
"""


def lacks(row: Row) -> str | None:
    """Return why a row has no place: it shows several clips, or images and a clip."""
    if row.images and row.videos:
        return "images and videos in one row"
    return "several videos" if len(row.videos) > 1 else None


def write(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Write one TSV for rows with images and one for those with a clip; link to the clips."""
    files = []
    for kind, column in (("images", "image_path"), ("videos", "video")):
        of_kind = [row for row in rows if getattr(row, kind)]
        if not of_kind:
            continue
        files.append(folder / kind / f"nontrivial_{name}_{kind}.tsv")
        with (
            atomic_path(files[-1]) as whole,
            whole.open("w", encoding="utf-8", newline="") as file,
        ):
            lines = csv.writer(file, delimiter="\t", lineterminator="\n")
            lines.writerow((*COLUMNS, column))
            lines.writerows(_cells(of_kind, kind, folder))
    return files


def _cells(rows: Sequence[Row], kind: str, folder: Path) -> Iterator[tuple[object, ...]]:
    for number, row in enumerate(rows):
        about = row.columns
        # Lists as JSON: pandas reads bare words such as "None" as missing.
        lists = [json.dumps(about[column], ensure_ascii=False) for column in ("options", "answer")]
        shown = _link(row.videos[0], folder) if kind == "videos" else json.dumps(row.images)
        category = family_of(about) or "all"
        yield number, about["id"], row.text, *lists, about["task"], category, shown


def _link(clip: str, folder: Path) -> str:
    """Link to a clip from the folder where VLMEvalKit looks for `NAME.mp4`; return the name."""
    name = hashlib.blake2b(clip.encode(), digest_size=8).hexdigest()
    link = folder / "videos" / "clips" / f"{name}.mp4"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(clip)
    return name
