"""Command lines from dataclasses: options, `--config`, exit statuses, tables.

    @dataclass
    class Options:
        source: list[str] = option("data set", default=["market1501"], choices=("market1501",))
        seed: int = option("draws everything random", default=0)

    def main(argv=None):
        options = parse(Options, argv, prog="builders.reid_hard", description=__doc__)
        return guard(run, options)

Flags are the field names in snake_case; hyphens are accepted. A field with `positional=True`
takes the arguments without a flag. `--config file.yaml` sets defaults, which flags override;
`--config recipe:NAME` reads one of the package's recipes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

from nontrivial.manifests.errors import BadInput, WorkFailed

Options = TypeVar("Options", bound=Any)

PACKAGE = "nontrivial"
RECIPE = "recipe:"
RECIPES = Path(__file__).parents[1] / "configs"
HIDDEN = "hidden_help"  # where a parser keeps the help of a rare option
LISTED = 20  # problems to print one by one
MAX_CONFIG = 1 << 20  # characters of a configuration file
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_MISUSED_PATHS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def option(
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    choices: Sequence[Any] | None = None,
    positional: bool = False,
    rare: bool = False,
) -> Any:
    """Make a dataclass field with a help text; a mutable default is copied for each instance.

    `--help` leaves out `rare` options; `--help_all` shows them.
    """
    metadata = {"help": help, "choices": choices, "positional": positional, "rare": rare}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(
    cls: type[Options], argv: Sequence[str] | None, *, prog: str, description: str | None
) -> Options:
    """Read the command line into `cls`; for bad usage argparse prints it and exits with 2."""
    parser = build_parser(cls, prog=prog, description=description)
    words = [snake_case(word) for word in (sys.argv[1:] if argv is None else argv)]
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    if path := finder.parse_known_args(words)[0].config:
        try:
            config = read_config(path, cls)
        except BadInput as error:
            parser.error(str(error))
        # Values of the file pass the same types and choices as their flags.
        absent = {field.name: argparse.SUPPRESS for field in dataclasses.fields(cls)}
        reader = build_parser(cls, prog=f"{prog} --config", description=None, defaults=absent)
        given = vars(reader.parse_args(_as_words(config, cls)))
        parser = build_parser(cls, prog=prog, description=description, defaults=given)
    values = vars(parser.parse_args(words))
    del values["config"]
    return cls(**values)


def build_parser(
    cls: type, *, prog: str, description: str | None, defaults: Mapping[str, Any] | None = None
) -> argparse.ArgumentParser:
    """Make a parser of a dataclass's fields; those in `defaults` are not required."""
    parser = argparse.ArgumentParser(
        prog=invocation(prog),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file of options, or recipe:NAME; flags override it"
    )
    fields, hints = _in_order(cls), typing.get_type_hints(cls)
    if any(field.metadata.get("rare") for field in fields):
        parser.add_argument("--help_all", action=_HelpAll, help="show rare options as well")
    for field in fields:
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        _add_field(parser, field, hints[field.name], (defaults or {}).get(field.name, default))
    return parser


def read_config(path: str, cls: type) -> dict[str, Any]:
    """Read options from a YAML mapping; the error for an unknown name lists the known ones."""
    values = read_yaml(path)
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadInput(f"--config {path}: unknown options {unknown}; known are {sorted(known)}")
    return values


def read_yaml(path: str) -> dict[str, Any]:
    """Read a YAML mapping of option names, made snake_case, to values; `recipe:NAME` works too.

    Aliases are refused: a few lines of them can stand for gigabytes.
    """
    import yaml

    try:
        with open(recipe_path(path), encoding="utf-8") as file:
            text = file.read(MAX_CONFIG + 1)
        if len(text) > MAX_CONFIG:
            raise BadInput(f"--config {path}: is longer than {MAX_CONFIG:,} characters")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise BadInput(f"--config {path}: aliases (*name) are not read; write the value out")
        values = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise BadInput(f"--config {path}: cannot be read as YAML in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"--config {path}: needs a mapping of option names to values")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def recipe_path(path: str) -> Path:
    """Return the file of `recipe:NAME` or of a plain path; raise `BadInput` for unknown recipes."""
    if not path.startswith(RECIPE):
        return Path(path)
    file = RECIPES / f"{path.removeprefix(RECIPE)}.yaml"
    known = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
    if file.stem not in known:
        raise BadInput(f"--config {path}: no such recipe; known are {', '.join(known)}")
    return file


def invocation(module: str) -> str:
    """Return a command as the user called it, such as `nontrivial reid-hard`.

    >>> invocation("builders.reid_hard")
    'python -m builders.reid_hard'
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    called = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    if called == PACKAGE:
        return f"{PACKAGE} {module.rpartition('.')[2].replace('_', '-')}"
    room = f"{PACKAGE}." if called.startswith(f"{PACKAGE}.") else ""
    return f"python -m {room}{module}"


def check_share(
    problems: Sequence[str], total: int, max_bad: float, what: str, remedy: str = ""
) -> None:
    """Raise `BadInput` with some of the problems if they exceed the share `max_bad` of `total`.

    `remedy` is a further sentence on what to do.
    """
    if len(problems) > max_bad * total:
        raise BadInput(
            f"{_listed(problems, total, what)}\nThat is over --max_bad {max_bad:g}: repair "
            f"or remove them, or raise --max_bad to continue without them{remedy and '. ' + remedy}"
        )


def tolerate(
    problems: Sequence[str], total: int, max_bad: float, what: str, remedy: str = ""
) -> None:
    """Print problems that are few enough to tolerate; raise `BadInput` as `check_share` does."""
    check_share(problems, total, max_bad, what, remedy)
    if problems:
        say(_listed(problems, total, what), file=sys.stderr)


def say(text: object = "", *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print lines of text, of which data may be a part: as `printable` has them."""
    print(printable(text, lines=True), file=file, flush=flush)


def printable(text: object, *, lines: bool = False) -> str:
    """Return text whose control characters, with which data could write to a terminal, are escaped.

    Those that turn the direction of writing, that cannot be seen, and halves of characters count as
    well; with `lines`, ends of lines and tabs do not.

    >>> printable("red\\x1b[2J"), printable("a\\nb", lines=True)
    ('red\\\\x1b[2J', 'a\\nb')
    """
    kept = "\n\t" if lines else ""
    return _CONTROLS.sub(
        lambda found: found[0] if found[0] in kept else ascii(found[0])[1:-1], str(text)
    )


def guard(work: Callable[[Any], int | None], options: Any) -> int:
    """Run a command's body; return 0 done, 1 work failed, 2 bad input, 130 interrupted."""
    try:
        status = work(options) or 0
        sys.stdout.flush()
        return status
    except (BadInput, *_MISUSED_PATHS) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as `head`, closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (WorkFailed, OSError) as error:
        say(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted: the same command goes on from here", file=sys.stderr)
        return 130


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pause the search for garbage, a third of the time where many objects are made.

    For objects without cycles, such as the rows of a table.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def table(rows: Sequence[Sequence[Any]], header: Sequence[str] | None = None) -> str:
    """Align rows as plain text, numbers to the right.

    >>> print(table([("kept", 3), ("refused", 12)]))
    kept      3
    refused  12
    """
    lines = [[_cell(value) for value in row] for row in ([header] if header else []) + list(rows)]
    if not lines:
        return ""
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(lines[0]))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    aligned = (
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in aligned)


def snake_case(word: str) -> str:
    """Replace hyphens in a flag's name: `--media-root=a-b` -> `--media_root=a-b`."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


class _HelpAll(argparse.Action):
    """The action of `--help_all`: print all options and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        absent = argparse.SUPPRESS
        super().__init__(option_strings, dest=absent, default=absent, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        for action in parser._actions:
            action.help = getattr(action, HIDDEN, action.help)
        parser.print_help()
        parser.exit()


def _in_order(cls: type) -> list[dataclasses.Field]:
    """Return the fields of a dataclass, those of its `shown_last` bases last."""
    last = {
        field.name
        for base in cls.__mro__
        if vars(base).get("shown_last") and base is not cls
        for field in dataclasses.fields(base)
    }
    return sorted(dataclasses.fields(cls), key=lambda field: field.name in last)


def _listed(problems: Sequence[str], total: int, what: str) -> str:
    shown = "".join(f"\n  {printable(problem)}" for problem in problems[:LISTED])
    more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return f"{len(problems)} of {total} {what}:{shown}{more}"


def _as_words(config: Mapping[str, Any], cls: type) -> list[str]:
    """Turn a configuration into the equivalent command line, positional arguments first."""
    positional = {
        field.name for field in dataclasses.fields(cls) if field.metadata.get("positional")
    }
    words: list[str] = []
    for name, value in sorted(config.items(), key=lambda item: item[0] not in positional):
        if value is None:
            continue
        values = [str(item) for item in (value if isinstance(value, list) else [value])]
        if name in positional:
            words += values
        else:
            words += [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]
    return words


def _add_field(
    parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any, default: Any
) -> None:
    kind, many = _element_type(hint)
    positional, required = field.metadata.get("positional"), default is dataclasses.MISSING
    default = None if required else default
    choices = field.metadata.get("choices") or None
    arguments = {"help": _help(field, default), "default": default, "choices": choices}
    if kind is bool:
        arguments |= {"type": _boolean, "nargs": "?", "const": True, "metavar": "BOOL"}
    else:
        arguments["type"] = kind
        if many:
            arguments["nargs"] = "+" if required else "*"
        elif positional and not required:
            arguments["nargs"] = "?"
    if positional:
        action = parser.add_argument(field.name, **arguments)
    else:
        action = parser.add_argument(f"--{field.name}", required=required, **arguments)
    if field.metadata.get("rare"):
        setattr(action, HIDDEN, action.help)
        action.help = argparse.SUPPRESS


def _element_type(hint: Any) -> tuple[Callable[[str], Any], bool]:
    """Return the type of a value, and True for lists: `list[str] | None` -> (str, True)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _help(field: dataclasses.Field, default: Any) -> str:
    text = field.metadata.get("help", "")
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    full = text if shown in (None, "") else f"{text} (default: {shown})"
    return full.replace("%", "%%")


def _boolean(word: str) -> bool:
    value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if word.lower() not in value:
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return value[word.lower()]


def _is_number(value: Any) -> bool:
    """True for a number, a percentage or an empty cell."""
    text = _cell(value).removeprefix("-").rstrip("%").replace(".", "", 1)
    return text.isdigit() or not text


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else printable(value)
