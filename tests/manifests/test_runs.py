"""Run folders: what is written is read back, torn lines are none, damage is named."""

from __future__ import annotations

import json

import pytest

from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.runs import (
    JsonLines,
    SampledCompletion,
    SampledGroup,
    read_json,
    read_lines,
    read_records,
    write_json,
)

GROUP = SampledGroup(
    step=3,
    id="a",
    task="reid_pair",
    question="Same?",
    options=["Yes", "No"],
    answer=["A"],
    token_weighting="divergence",
    completions=[SampledCompletion(["<answer>", "Ä"], [1.0, 1.7], {"format": 1.0}, -0.5)],
)


def test_records_are_read_back_as_they_were_written(tmp_path):
    file = JsonLines(tmp_path / "samples.jsonl")
    file.append(GROUP)
    file.append(GROUP, GROUP)
    assert list(read_records(file.path, SampledGroup)) == [GROUP] * 3
    assert next(iter(file))["completions"][0]["tokens"] == ["<answer>", "Ä"]


def test_a_file_that_is_not_there_holds_nothing(tmp_path):
    assert list(JsonLines(tmp_path / "none.jsonl")) == []
    assert list(read_records(tmp_path / "none.jsonl", SampledGroup)) == []
    assert read_json(tmp_path / "none.json") is None


def test_a_torn_line_is_passed_over_and_mended(tmp_path):
    file = JsonLines(tmp_path / "log.jsonl")
    file.append({"step": 1}, {"step": 2})
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + b'{"step": 3, "lo')
    assert [record["step"] for record in file] == [1, 2]
    with pytest.raises(BadInput, match=r"line 3: is not JSON"):
        list(read_lines(file.path))
    file.mend()
    assert file.path.read_bytes() == whole
    file.append({"step": 3})
    assert [record["step"] for record in file] == [1, 2, 3]


def test_a_last_line_of_others_needs_no_end(tmp_path):
    (tmp_path / "others.jsonl").write_text('{"id": "a"}\n\n{"id": "b"}')
    assert [number for number, _ in read_lines(tmp_path / "others.jsonl")] == [1, 3]


def test_cutting_keeps_the_records_up_to_a_step(tmp_path):
    file = JsonLines(tmp_path / "log.jsonl")
    file.append(*({"step": step} for step in (1, 2, 2, 3)))
    file.cut(2)
    assert [record["step"] for record in file] == [1, 2, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "soon"}, "line 1: step: "),
        ({"answer": "A"}, "line 1: answer: "),
        ({"completions": []}, "line 1: .*needs completions"),
        ({"options": ["x"] * 27}, "line 1: .*a letter for every option"),
    ],
)
def test_a_record_of_another_shape_is_named(tmp_path, change, said):
    file = JsonLines(tmp_path / "samples.jsonl")
    file.append(GROUP)
    record = next(iter(file)) | change
    file.write([record])
    with pytest.raises(BadInput, match=said):
        list(read_records(file.path, SampledGroup))


def test_as_many_weights_as_tokens_are_needed():
    with pytest.raises(ValueError, match="2 tokens have 1 weights"):
        SampledCompletion(["a", "b"], [1.0], {}, 0.0)


def test_json_is_read_back_with_its_records(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"options": {"seed": 0}, "groups": [GROUP]})
    assert read_json(path, {"groups": list[SampledGroup]})["groups"] == [GROUP]
    path.write_text(json.dumps({"groups": [{"step": 1}]}))
    with pytest.raises(BadInput, match=r"summary.json: groups: 0.id: Field required"):
        read_json(path, {"groups": list[SampledGroup]})
    path.write_text("[1]")
    with pytest.raises(BadInput, match="needs an object"):
        read_json(path)
