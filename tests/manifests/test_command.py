"""Command lines: options from a dataclass, a configuration file below flags, errors that help."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nontrivial.manifests import command, errors
from nontrivial.manifests.command import guard, option, parse, printable, table, tolerate
from nontrivial.manifests.errors import BadInput, WorkFailed, require

ROOT = Path(__file__).parents[2]


@dataclass
class Options:
    """Options of every kind."""

    files: list[str] = option("what to read", positional=True)
    source: list[str] = option("data sets", default=["a"], choices=("a", "b"))
    out_dir: str = option("where to write", default="runs")
    top_k: int = option("neighbours, 100 % of them counted", default=50)
    ratio: float = option("share", default=0.5)
    limit: int | None = option("rows at most", default=None)
    embed: bool = option("store bytes", default=False)


def read(*words: str) -> Options:
    return parse(Options, words, prog="tests", description="A test.")


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(command).failed == 0
    assert doctest.testmod(errors).failed == 0


def test_flags_are_read_with_underscores_or_hyphens():
    for flag in ("--out_dir", "--out-dir"):
        assert read("x", flag, "a-b").out_dir == "a-b"
        assert read("x", f"{flag}=a-b").out_dir == "a-b"
    options = read("x", "y", "--source", "a", "b", "--top_k", "-1", "--limit", "3", "--embed")
    assert options.files == ["x", "y"]
    assert options.source == ["a", "b"]
    assert (options.top_k, options.limit, options.embed) == (-1, 3, True)
    assert read("x", "--embed", "false").embed is False


def test_defaults_are_not_shared_between_runs():
    read("x").source.append("b")
    assert read("x").source == ["a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "files"),
        (["x", "--top_k", "many"], "--top_k: invalid int value: 'many'"),
        (["x", "--source", "c"], "invalid choice: 'c'"),
        (["x", "--embed", "perhaps"], "neither true nor false"),
        (["x", "--nonsense", "1"], "unrecognized arguments: --nonsense"),
        (["x", "--out", "1"], "unrecognized arguments: --out"),
    ],
)
def test_bad_usage_is_named_and_exits_with_2(words, message, capsys):
    with pytest.raises(SystemExit) as exit:
        read(*words)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_a_configuration_sets_what_flags_do_not(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("files: [a, b]\ntop-k: 7\nsource: b\nembed: true\nlimit: null\nratio: 1e-1\n")
    options = read("--config", str(config), "--top_k", "9")
    assert options == Options(files=["a", "b"], source=["b"], top_k=9, ratio=0.1, embed=True)
    assert read("x", f"--config={config}").files == ["x"]
    assert read("--config", str(config), "--embed", "no").embed is False
    config.write_text("")
    assert read("x", "--config", str(config)) == Options(files=["x"])


def test_a_configuration_in_another_encoding_is_named(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_bytes("top_k: 7".encode("utf-16"))
    with pytest.raises(SystemExit) as exit:
        read("x", "--config", str(config))
    assert exit.value.code == 2
    assert "UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk: 1", "unknown options ['topk']"),
        ("- a", "needs a mapping"),
        ("a: [", "cannot be read"),
        ("top_k: some", "--top_k: invalid int value: 'some'"),
        ("top_k: 1.5", "--top_k: invalid int value: '1.5'"),
        ("source: [c]", "invalid choice: 'c'"),
        ("!!python/object/apply:os.getcwd []", "cannot be read"),
        ("source: &a [x, x]\nfiles: [*a, *a]", "aliases"),
        ("[" * 20_000, "cannot be read"),
        ("x" * (1 << 20) + "xx", "is longer than"),
    ],
)
def test_a_bad_configuration_is_named_and_exits_with_2(tmp_path, capsys, text, message):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(SystemExit) as exit:
        read("x", "--config", str(config))
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        read("x", "--config", str(tmp_path / "none.yaml"))
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_help_shows_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "A test." in shown
    assert "neighbours, 100 % of them counted (default: 50)" in shown
    assert "--source [{a,b} ...]" in shown


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (BadInput("no option"), 2, "error: no option"),
        (FileNotFoundError("x.parquet: no such file"), 2, "error: x.parquet: no such file"),
        (PermissionError(13, "Permission denied", "out"), 2, "Permission denied: 'out'"),
        (WorkFailed("diverged"), 1, "failed: diverged"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (KeyboardInterrupt(), 130, "goes on from here"),
    ],
)
def test_a_users_mistake_gets_a_message_and_a_status(error, status, message, capsys):
    def work(options):
        raise error

    assert guard(work, None) == status
    assert message in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        guard(lambda options: 1 // 0, None)


def test_a_reader_that_has_seen_enough_is_no_error():
    code = (
        "import sys; from manifests.command import guard\n"
        "sys.exit(guard(lambda _: [print('line') for _ in range(100000)] and None, None))"
    )
    command_line = f'{sys.executable} -c "{code}" | head -1'
    done = subprocess.run(["bash", "-c", command_line], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("line\n", "")


def test_a_missing_package_names_the_extra_and_a_broken_one_does_not_hide():
    with pytest.raises(BadInput, match=r"reading video needs .*nontrivial\[video\]"):
        require("no_such_package", "video", "reading video")


def test_tables_align_numbers_to_the_right():
    shown = table([("a", 1, None, "50.0%"), ("bb", -20.5, 3, "5.0%")], header=("x", "n", "", "%"))
    assert shown.splitlines() == [
        "x         n         %",
        "--  -------  -  -----",
        "a         1     50.0%",
        "bb  -20.500  3   5.0%",
    ]


CONTROLS = [
    *map(chr, [*range(32), *range(127, 160), 0xAD, 0x61C, 0x200B, 0x200E, 0x2028, 0x202E]),
    *map(chr, [0x2066, 0x2069, 0xFEFF, 0xD800, 0xDCFF, 0xE0041]),
]


def test_control_characters_are_seen_and_others_stay_as_they_are():
    shown = printable("".join(CONTROLS))
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith(r"\x00\x01")
    for words in ("Café 東京 👩\u200d👧 می\u200cخواهم a\xa0b \\x1b", "é" * 3):
        assert printable(words) == words
    assert printable("a\n\tb\x1b[0m\r", lines=True) == "a\n\tb\\x1b[0m\\r"


@pytest.mark.parametrize("error", [BadInput, WorkFailed, OSError])
def test_no_error_writes_to_the_terminal_what_data_say(error, capsys):
    def work(_):
        tolerate(["clip\x1b]0;owned\x07\n.mp4"], 1, 1.0, "clips are bad")
        raise error("m.parquet: row '\u202etxt.exe\x9b2J'")

    guard(work, None)
    shown = capsys.readouterr().err
    assert r"clip\x1b]0;owned\x07\n.mp4" in shown
    assert r"row '\u202etxt.exe\x9b2J'" in shown
    assert shown.replace("\n", "").isprintable()


def test_everything_is_said_through_one_function():
    """`say`, `table` and `guard` clean what they print; a bare `print` would not."""
    rooms = [ROOT / room for room in ("manifests", "models", "builders", "train", "eval")]
    files = {file for room in [*rooms, ROOT / "nontrivial"] for file in room.glob("**/*.py")}
    assert len(files) > 100
    bare = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted(files)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        if file.name != "command.py"
    ]
    assert bare == []
