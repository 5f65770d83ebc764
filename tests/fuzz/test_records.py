"""Annotation files of benchmarks: sound questions, counted refusals, or an error that names it."""

from __future__ import annotations

import copy
import gzip
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nontrivial.builders import qa_invert
from nontrivial.builders.qa.benches import NAMES, load
from nontrivial.builders.qa.clips import locate
from nontrivial.manifests.errors import BadInput
from tests.builders.qa.questions import clevrer_scene
from tests.builders.qa.test_benches import RECORDS
from tests.builders.qa.test_published import FILES, write
from tests.fuzz.damage import each, other_bytes, strange, tries
from tests.fuzz.test_questions import check_made

AT_ONCE = 100  # records in one file
COUNT = tries(200) // AT_ONCE + 1
SPLITS = {name: split for name, (_, _, split) in FILES.items()}
IN_CSV = ("nextqa", "intentqa", "tgif_qa", "nextgqa")


def whole(name: str, root: Path) -> Any:
    """The content of a sound file of the benchmark."""
    if name == "clevrer":
        return [clevrer_scene(number) for number in range(3)]
    if name == "nextqa":
        return [
            dict(FILES["intentqa"][1][0]) | {"video": 7, "frame_count": 9, "width": 4, "height": 3}
        ]
    if name in FILES:
        write(root, name)  # what lies beside it, too
        return FILES[name][1]
    return RECORDS[name]


def changed(content: Any, rng: random.Random) -> Any:
    """Repeat the records under other keys, and change something in most of them."""
    if isinstance(content, dict):
        known = list(content.items())
        kept = [(f"{key}{n}" if n else key, item) for n in range(AT_ONCE) for key, item in known]
        return {key: some(item, n, rng) for n, (key, item) in enumerate(kept)}
    count = AT_ONCE // max(len(item.get("questions", "x")) for item in content)
    known = [copy.deepcopy(item) for _ in range(count) for item in content][:count]
    return [some(item, number, rng) for number, item in enumerate(known)]


def some(item: Any, number: int, rng: random.Random) -> Any:
    for name in ("id", "qid", "question_id", "q_uid", "scene_index", "key", "problem_id", "video"):
        if isinstance(item, dict) and name in item and rng.random() < 0.9:
            kind = type(item[name])
            item = item | {name: kind(number) if kind is int else f"{number}_{item[name]}"}
    for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
        item = strange(item, rng)
    return item


def written(content: Any, path: Path, rng: random.Random) -> Path:
    """Write it as JSON, JSON Lines or csv, packed or not; a tenth of the files is damaged, too."""
    form = rng.choice(["json", "json", "jsonl", "csv", "tsv"])
    records = content if isinstance(content, list) else []
    if form == "jsonl" and records:
        text = "\n".join(map(json.dumps, records))
    elif form in ("csv", "tsv") and records and isinstance(records[0], dict):
        between, names = ("\t" if form == "tsv" else ","), list(records[0])
        known = [record for record in records if isinstance(record, dict)]
        rows = [[record.get(name, "") for name in names] for record in known]
        text = "\n".join(between.join(quoted(item) for item in row) for row in [names, *rows])
    else:
        form, text = "json", json.dumps(content)
    data = text.encode("utf-8", "surrogatepass" if rng.random() < 0.1 else "replace")
    if rng.random() < 0.1:
        data = other_bytes(data, rng)
    if rng.random() < 0.1:
        form, data = f"{form}.gz", gzip.compress(data, 1)
        data = other_bytes(data, rng) if rng.random() < 0.5 else data
    path = path.with_name(f"{path.name}.{form}")
    path.write_bytes(data)
    return path


def quoted(item: Any) -> str:
    text = str(item)
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set(',\t\n"') else text


def check(rng: random.Random, name: str, content: Any, root: Path) -> None:
    path = written(changed(content, rng), root / "damaged", rng)
    split = SPLITS.get(name, "train")
    try:
        loaded = load(name, root, split, annotations=path, answer_is=None)
    except BadInput as error:
        if path.name not in str(error):
            raise AssertionError(f"names no file: {error}") from error
        return
    assert all(refused.id and refused.reason for refused in loaded.refused)
    located = locate(loaded.frame, root)
    assert len(located.frame) + len(located.refused) == len(loaded.frame)
    check_made(located.frame)


@pytest.mark.parametrize("name", NAMES)
def test_the_builder_makes_a_manifest_of_it_or_says_why_not(tmp_path, capsys, name):
    content = whole(name, tmp_path)
    words = ["--bench", name, "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    words += ["--max_bad", "1", "--form", "both", "--split", SPLITS.get(name, "train")]
    for seed in range(COUNT):
        rng = random.Random(f"{name}{seed}")
        path = written(changed(content, rng), tmp_path / "damaged", rng)
        capsys.readouterr()
        end = qa_invert.main([*words, "--annotations", str(path)])
        shown = capsys.readouterr()
        assert (end, bool(shown.err.count("error:"))) in ((0, False), (2, True)), seed
        assert "Traceback" not in shown.err
        assert shown.out.replace("\n", "").replace("\t", "").isprintable(), seed


@pytest.mark.parametrize("name", NAMES)
def test_any_annotation_file_is_read_counted_or_named(tmp_path, name):
    content = whole(name, tmp_path)
    sound = tmp_path / "sound.json"
    sound.write_text(json.dumps(content), encoding="utf-8")
    assert len(load(name, tmp_path, SPLITS.get(name, "train"), annotations=sound).frame) > 0
    each(COUNT, partial(check, name=name, content=content, root=tmp_path), salt=name)
