"""Other trainers load what is exported, score it as we do, and give it back."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow.parquet as pq
import pytest

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.answers import exact_score, is_formatted, read_answer, soft_score
from nontrivial.manifests.exports import IMPORTED, TRAINERS
from nontrivial.manifests.parquet import read_samples, write_samples
from nontrivial.manifests.prompts import question_text
from nontrivial.manifests.schema import samples_table
from tests.media_files import write_media
from tests.rows import media, reid_pair, video_question


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two pairs, one with embedded images, a question about a clip, and one about a part of it."""
    root = write_media(tmp_path / "media", 3)
    data = (root / "2.jpg").read_bytes()
    embedded = [{"bytes": data, "path": "x/2.JPG"}, {"bytes": data, "path": "evil.<b>"}]
    rows = [
        reid_pair("pair-0", images=[media("0.jpg"), media("1.jpg")], rationale="a red coat"),
        reid_pair("pair-1", images=embedded, answer=["B"]),
        video_question("whole", videos=[media("clip.mp4")], answer=["B", "D"]),
        video_question("part", videos=[media("clip.mp4")], clips=[{"start": 0.0, "end": 1.0}]),
    ]
    about = {"media_root": str(root), "builder": "tests"}
    write_samples(samples_table(rows), tmp_path / "some.parquet", about)
    return tmp_path


def exported(world: Path, to: str) -> Path:
    out = world / to
    assert main(["export", str(world / "some.parquet"), "--to", to, "--out", str(out)]) == 0
    return out


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def loaded(folder: Path, monkeypatch) -> ModuleType:
    """The reward file, imported with nothing of ours and a stand-in for ms-swift's registry."""
    plugin = SimpleNamespace(ORM=object, orms={})
    monkeypatch.setitem(sys.modules, "swift", SimpleNamespace(rewards=plugin))
    monkeypatch.setitem(sys.modules, "swift.rewards", plugin)
    text = (folder / "reward.py").read_text()
    assert "import nontrivial" not in text
    assert "from nontrivial" not in text
    spec = importlib.util.spec_from_file_location("reward", folder / "reward.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("to", TRAINERS)
def test_media_are_there_and_placeholders_count(world, to):
    out = exported(world, to)
    found, marks = [], []
    for file in out.iterdir():
        if file.suffix == ".jsonl":
            rows = lines(file)
        elif file.suffix == ".json" and file.stem == "some":
            rows = json.loads(file.read_text())
        elif file.suffix == ".parquet":
            rows = pq.read_table(file).to_pylist()
        else:
            continue
        for row in rows:
            images, videos = row.get("images") or [], row.get("videos") or []
            paths = [
                next(iter(p.values())) if isinstance(p, dict) else p for p in [*images, *videos]
            ]
            found += paths or [row["path"]]
            turns = row.get("messages") or row.get("prompt") or [{"content": row["problem"]}]
            said = turns[0]["content"]
            marks.append((said.count("<image>"), said.count("<video>"), len(images), len(videos)))
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in found)
    if to not in ("trl", "video-r1"):  # which place them by themselves
        assert sorted(marks) == [(0, 1, 0, 1), (2, 0, 2, 0), (2, 0, 2, 0)]
    embedded = {path.suffix for path in (out / "media").glob("*")}
    assert embedded == (set() if to == "video-r1" else {".jpg", ".bin"})
    assert (out / "README.md").read_text().startswith("# For ")


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("trl", "a video, which TRL's trainer does not take    1"),
        ("video-r1", "other than one image or video               2"),
        ("ms-swift", "a part of a video, which the format can't name  1"),
    ],
)
def test_what_a_format_cannot_hold_is_counted(world, capsys, to, reason):
    exported(world, to)
    assert " ".join(reason.split()) in " ".join(capsys.readouterr().out.split())


COMPLETIONS = [
    "<think>x</think><answer>B,D</answer>",
    "<think>x</think><answer>D, B</answer>",
    "<answer>D</answer>",
    "<think>y</think><answer>A</answer>",
    "<think>y</think><answer>(b) and d.</answer>",
    "none of this",
]


def by_ours(text: str, options: list[str], right: list[str]) -> tuple[float, float, float]:
    chosen = read_answer(text, options)
    formatted = float(is_formatted(text) and bool(chosen))
    return soft_score(chosen, right), exact_score(chosen, right), formatted


def scored(
    module: ModuleType, to: str, text: str, options: list[str], right: list[str]
) -> list[float]:
    """Soft reward of a completion, and exact or format rewards where the target has them."""
    block = f"<answer>{','.join(right)}</answer>"
    if to == "ms-swift":
        rewards = [module.orms[f"nontrivial_{name}"]() for name in ("soft", "format")]
        return [r([text], answer=[right], options=[options], solution=[block])[0] for r in rewards]
    if to == "verl":
        told = module.compute_score("x", text, block, {"options": options})
        return [told["score"], told["acc"]]
    if to == "easyr1":
        [told] = module.compute_score([{"response": text, "ground_truth": block}])
        return [told["accuracy"]]
    if to == "video-r1":
        return module.soft_reward([[{"content": text}]], solution=[block])
    turns = [[{"role": "assistant", "content": text}]]
    return [
        module.soft_accuracy(turns, answer=[right], options=[options])[0],
        module.formatted(turns, options=[options])[0],
    ]


@pytest.mark.parametrize("to", [name for name in TRAINERS if name != "llamafactory"])
def test_the_reward_beside_it_is_ours(world, monkeypatch, to):
    module, options = loaded(exported(world, to), monkeypatch), ["red", "blue", "green", "grey"]
    for text in COMPLETIONS:
        soft, exact, formatted = by_ours(text, options, ["B", "D"])
        expected = {"ms-swift": [soft, formatted], "verl": [soft, exact], "trl": [soft, formatted]}
        assert scored(module, to, text, options, ["B", "D"]) == expected.get(to, [soft])


@pytest.mark.parametrize("to", [name for name in TRAINERS if name != "llamafactory"])
def test_real_rollouts_are_scored_alike(world, monkeypatch, shared_data, to):
    module, seen = loaded(exported(world, to), monkeypatch), set()
    options: list[str] = [] if to in ("easyr1", "video-r1") else ["w", "x", "y", "z"]
    for line in lines(shared_data / "rollouts_2000.jsonl"):
        text = line["completion"]
        expected = soft_score(read_answer(text, options), ["A", "C"])
        assert scored(module, to, text, options, ["A", "C"])[0] == expected
        seen.add(expected)
    assert seen == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("origin", IMPORTED)
def test_what_was_exported_comes_back(world, origin):
    """All but rows that have no place, embedded bytes, which become files, and null lists."""
    out = exported(world, origin)
    files = [str(f) for f in out.iterdir() if f.suffix in (".json", ".jsonl")]
    back = world / "back.parquet"
    words = ["import", *files, "--origin", origin, "--out", str(back), "--media_root", str(world)]
    assert main(words) == 0
    before = {row["id"]: row for row in read_samples(world / "some.parquet").to_pylist()}
    found = {row["id"]: row for row in read_samples(back).to_pylist()}
    assert found.keys() == ({"whole"} if origin == "video-r1" else before.keys() - {"part"})
    for name, row in found.items():
        for column in row.keys() - {"images", "videos"}:
            assert row[column] == before[name][column], column
        for kind in ("images", "videos"):
            items = row[kind] or []
            assert len(items) == len(before[name][kind] or [])
            for item, expected in zip(items, before[name][kind] or [], strict=True):
                data = expected["bytes"] or (world / "media" / expected["path"]).read_bytes()
                assert (world / item["path"]).read_bytes() == data
    assert main(["validate", str(back)]) == 0


def test_files_of_others_are_refused_by_what_they_lack(tmp_path, capsys):
    file = tmp_path / "other.jsonl"
    file.write_text('{"messages": [], "images": []}\n')
    words = ["import", str(file), "--origin", "ms-swift", "--out", str(tmp_path / "x.parquet")]
    assert main(words) == 2
    assert "record 1 has no answer" in capsys.readouterr().err
    file.write_text('{"a": 1}')
    assert main([*words[:2], "--origin", "video-r1", *words[4:]]) == 2
    assert "no list of Video-R1's problems" in capsys.readouterr().err


def test_trl_loads_its_export_with_pictures(world):
    from datasets import Image, List, load_dataset

    out = exported(world, "trl")
    data = load_dataset(
        "parquet",
        data_files=str(out / "some.parquet"),
        split="train",
        cache_dir=str(world / "cache"),
    )
    data = data.cast_column("images", List(Image()))
    assert len(data) == 2
    assert all(min(picture.size) > 0 for row in data for picture in row["images"])
    row = read_samples(world / "some.parquet").to_pylist()[0]
    expected = question_text(row["question"], row["options"], row["task"])
    assert expected in [turns[0]["content"] for turns in data["prompt"]]


def test_llamafactory_is_told_about_every_file(world):
    out = exported(world, "llamafactory")
    info = json.loads((out / "dataset_info.json").read_text())
    assert info["some"]["formatting"] == "sharegpt"
    assert info["some"]["columns"] == {
        "messages": "messages",
        "images": "images",
        "videos": "videos",
    }
    rows = json.loads((out / info["some"]["file_name"]).read_text())
    taught = {row["messages"][1]["content"] for row in rows}
    assert "<think>a red coat</think><answer>B</answer>" in taught


def test_what_is_missing_is_said(world, capsys):
    assert main(["export", str(world / "some.parquet"), "--out", "x"]) == 2
    assert "--to (ms-swift, verl" in capsys.readouterr().err


def test_media_that_are_not_there_are_counted(world, capsys):
    (world / "media" / "1.jpg").unlink()
    exported(world, "verl")
    assert "an image or a video that is not there 1" in " ".join(capsys.readouterr().out.split())
    out = ["--out", str(world / "x")]
    assert (
        main(
            ["export", str(world / "some.parquet"), "--to", "trl", *out, "--media_root", "/nowhere"]
        )
        == 0
    )
    assert len(pq.read_table(world / "x" / "some.parquet")) == 1  # with embedded images


@pytest.mark.parametrize(("to", "held"), [("trl", "pairs"), ("video-r1", "videos")])
@pytest.mark.parametrize("order", [("pairs", "videos"), ("videos", "pairs")])
def test_a_file_that_a_target_can_hold_nothing_of_is_left_out(world, capsys, to, held, order):
    rows = read_samples(world / "some.parquet").to_pylist()
    about = {"media_root": str(world / "media"), "builder": "tests"}
    for name, of_task in (("pairs", rows[:2]), ("videos", rows[2:])):
        write_samples(samples_table(of_task), world / f"{name}.parquet", about)
    files = [str(world / f"{name}.parquet") for name in order]
    assert main(["export", *files, "--to", to, "--out", str(world / "x")]) == 0
    assert {file.stem for file in (world / "x").iterdir()} >= {held, "reward", "README"}
    [other] = {"pairs", "videos"} - {held}
    capsys.readouterr()
    words = ["export", str(world / f"{other}.parquet"), "--to", to, "--out", str(world / "y")]
    assert main(words) == 2
    assert f"{to} can hold none of the rows" in capsys.readouterr().err
    assert not (world / "y").exists()


def test_manifests_of_one_name_are_refused(tmp_path, capsys):
    files = [tmp_path / folder / "x.parquet" for folder in "ab"]
    for file in files:
        file.parent.mkdir()
        write_samples(samples_table([reid_pair("p")]), file, {})
    assert main(["export", *map(str, files), "--to", "ms-swift", "--out", str(tmp_path / "e")]) == 2
    assert "2 manifests have the name x" in capsys.readouterr().err


def test_readme_names_every_file(world):
    write = (world / "some.parquet").read_bytes()
    (world / "other.parquet").write_bytes(write)
    files = [str(world / f"{name}.parquet") for name in ("some", "other")]
    for to in ("ms-swift", "llamafactory"):
        out = world / f"two_{to}"
        assert main(["export", *files, "--to", to, "--out", str(out)]) == 0
        told = (out / "README.md").read_text()
        assert ("beside it are `other.jsonl`" in told) == (to == "ms-swift")
    assert "beside it" not in (exported(world, "ms-swift") / "README.md").read_text()


@pytest.mark.parametrize("to", ["ms-swift", "verl", "easyr1", "trl"])
def test_files_of_several_tasks_have_one_type(world, to):
    """Trainers join the data sets they are given; a column of two types would stop them."""
    from datasets import concatenate_datasets, load_dataset

    rows = read_samples(world / "some.parquet").to_pylist()
    about = {"media_root": str(world / "media"), "builder": "tests"}
    for name, of_task in (("pairs", rows[:2]), ("videos", rows[3:])):
        write_samples(samples_table(of_task), world / f"{name}.parquet", about)
    out = world / "both"
    files = [
        str(world / f"{name}.parquet") for name in ("pairs", *(["videos"] if to != "trl" else []))
    ]
    assert main(["export", *files, "--to", to, "--out", str(out)]) == 0
    written = sorted(f for f in out.iterdir() if f.suffix in (".jsonl", ".parquet"))
    assert len(written) == len(files)
    form = {".jsonl": "json", ".parquet": "parquet"}
    parts = [
        load_dataset(
            form[f.suffix], data_files=str(f), split="train", cache_dir=str(world / "cache")
        )
        for f in written
    ]
    assert len(concatenate_datasets(parts)) == 3 if to != "trl" else 2
