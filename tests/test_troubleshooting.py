"""Each error of docs/troubleshooting.md is produced, says what the page says, and what to do."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
from pathlib import Path

import pytest

from tests.pages import MATCHED, ROOT
from tests.test_written_commands import parts, runnable

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (\d+)\. .*\n\n```text\n\$ (.*)\n((?:.*\n)*?)```$", re.M)
ERRORS = {int(number): (command, said) for number, command, said in SECTION.findall(PAGE)}
# What the message itself has to name.
REMEDIES = {
    1: "--root",
    2: "(?P<camid>…)",
    3: "--encoder osnet_x1_0=FILE",
    4: "builders write manifests/*.parquet",
    5: "--answer text|letter|index0|index1",
    6: "save_pretrained",
    7: "import path",
    8: "multiple of num_generations, 8",
    9: "--restart",
    10: "--media_root",
}
EMPTY, MOVED = (1, 4), (10,)
QUESTIONS = """id,video,question,a0,a1,a2,answer
1,a.mp4,How many discs are there?,1,2,3,1
2,b.mp4,How many discs move?,1,2,0,2
"""


def call(line: str) -> int:
    """Run a command line of the page in this process; return its exit status."""
    name, words = parts(line)
    return importlib.import_module(runnable(name)).main(words)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """A folder where work has begun, one that has its manifests without media, and an empty one."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("begun", "moved", "empty")}
    begun = made["begun"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(begun)
        (begun / "questions.csv").write_text(QUESTIONS, encoding="utf-8")
        few = "--identities 24 --test_identities 1"
        train = "python -m train.grpo manifests/market1501_reid_hard.parquet"
        for line in (
            f"python -m builders.synthetic --only market1501 {few}",
            "python -m builders.reid_hard --source market1501 --encoder stripes",
            f"{train} --per_device_train_batch_size 16 --max_steps 1",
        ):
            assert call(line) == 0
    shutil.copytree(begun / "manifests", made["moved"] / "manifests")
    return made


@pytest.mark.parametrize("number", ERRORS)
def test_the_message_is_that_of_the_page_and_says_what_to_do(number, places, monkeypatch, capsys):
    if number == 3:
        pytest.importorskip("torchreid", reason="the extra reid is not installed")
    place = "empty" if number in EMPTY else "moved" if number in MOVED else "begun"
    monkeypatch.chdir(places[place])
    monkeypatch.setenv("TORCH_HOME", str(places["empty"]))
    command, said = ERRORS[number]
    try:
        status = call(command)
    except SystemExit as error:
        status = error.code
    printed = capsys.readouterr().err
    message = printed[printed.index("error: ") :]
    assert status == 2
    assert doctest.OutputChecker().check_output(said, message, MATCHED), message
    assert REMEDIES[number] in message


def test_the_page_has_ten():
    assert list(ERRORS) == list(REMEDIES) == list(range(1, 11))
