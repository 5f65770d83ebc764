"""Read the house: what imports what, what may, and the page and picture that show it.

    python -m scripts.house     write docs/house.md and docs/house.svg anew

The tree in the page is made of the first line of every module's docstring, the arrows in the
picture of the imports themselves. Tests hold both current, and the rules below kept.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nontrivial"
# Each room, and those it may import. A room within a room is named first.
STANDS_ON: dict[str, frozenset[str]] = {
    "manifests": frozenset(),
    "models": frozenset({"manifests"}),
    "builders.truth": frozenset({"manifests"}),
    "builders.reid": frozenset({"manifests", "models", "builders.truth"}),
    "builders.qa": frozenset({"manifests", "builders.truth"}),
    "builders.synthetic": frozenset({"manifests", "builders.truth"}),
    "builders": frozenset(
        {"manifests", "models", "builders.truth", "builders.reid", "builders.qa"}
    ),
    "train": frozenset({"manifests", "models"}),
    "eval": frozenset({"manifests", "models"}),
    PACKAGE: frozenset(
        {"manifests", "models", "builders.reid", "builders.qa", "builders", "train", "eval"}
    ),
}
# Libraries that a room has to run without.
NEVER = {
    "manifests": {"torch", "transformers", "trl", "faiss"},
    "models": {"trl", "polars", "faiss"},
    "builders": {"transformers", "trl"},
    "train": {"polars", "faiss"},
    "eval": {"polars", "trl"},
}
FOLDERS = ("manifests", "models", "builders", "train", "eval", PACKAGE)


class Import(NamedTuple):
    """One import: the module it stands in, its line, what it names, and if types alone need it."""

    module: str
    line: int
    target: str
    for_types: bool


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the house by its name below the package, in the order of `FOLDERS`."""
    found = {}
    for folder in FOLDERS:
        # Links are not followed: the rooms are read where they lie.
        for file in sorted((root / folder).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imports(name: str, file: Path) -> Iterator[Import]:
    """Every import of a module, wherever it stands in the code, relative ones resolved."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        for target in _targets(node, package):
            yield Import(name, node.lineno, target, node in typing_only)


def room_of(target: str) -> str | None:
    """The room of a module of ours, by its full name or its name below the package; else None.

    >>> room_of("nontrivial.builders.reid.space"), room_of("numpy")
    ('builders.reid', None)
    """
    if target.split(".")[0] not in FOLDERS:
        return None
    inner = target.removeprefix(f"{PACKAGE}.")
    return next((room for room in STANDS_ON if f"{inner}.".startswith(f"{room}.")), PACKAGE)


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    found: dict[str, set[str]] = {room: set() for room in STANDS_ON}
    for name, file in modules(root).items():
        own = _own(name)
        targets = (room_of(each.target) for each in imports(name, file))
        found[own] |= {room for room in targets if room} - {own}
    return found


def bare(each: Import) -> bool:
    """True for an import of a room by its bare name, which only a checkout knows."""
    return each.target.split(".")[0] in set(FOLDERS) - {PACKAGE}


def upward(each: Import) -> bool:
    """True against the arrows of `STANDS_ON`, and for what stands outside the house."""
    room, own = room_of(each.target), _own(each.module)
    outside = each.target.split(".")[0] in ("tests", "scripts", "benchmarks")
    return outside or not (room is None or room in STANDS_ON[own] | {own})


def unwanted(each: Import) -> bool:
    """True for a library that the room has to run without."""
    return each.target.split(".")[0] in NEVER.get(each.module.split(".")[0], ())


def broken(rule: Callable[[Import], bool], name: str, file: Path) -> list[str]:
    """The imports of a module that break a rule, as module, line and target."""
    return [f"{name}:{each.line}: {each.target}" for each in imports(name, file) if rule(each)]


def circles(root: Path = ROOT) -> list[str]:
    """Circles of modules that import each other when they run."""
    known = modules(root)
    graph = {
        name: {
            target
            for each in imports(name, file)
            if not each.for_types and (target := _module(each.target, known)) not in (None, name)
        }
        for name, file in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def tree(root: Path = ROOT) -> str:
    """The rooms, their files, and the first line of each docstring."""
    lines = []
    for file in modules(root).values():
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        first = docstring.split("\n")[0]
        depth = len(file.relative_to(root).parts) - 1
        label = f"{file.parent.name}/" if file.name == "__init__.py" else file.name
        depth -= file.name == "__init__.py"
        lines.append(f"{'  ' * depth}{label:<{28 - 2 * depth}}{first}".rstrip())
    return "\n".join(lines)


def picture(found: Mapping[str, set[str]]) -> str:
    """An SVG of the rooms in rows, each row standing on those below, with an arrow an import.

    Arrows that follow from two others are left out.
    """
    level, below = _levels(found), _reduced(found)
    rows: dict[int, list[str]] = {}
    for room in found:
        rows.setdefault(level[room], []).append(room)
    width, box, step, top = 1000, (150, 40), 96, max(rows)
    place: dict[str, tuple[float, float]] = {}
    for height, row in sorted(rows.items()):
        # Each room above the middle of those it stands on, so that few arrows cross.
        row.sort(key=lambda room: sum(place[o][0] for o in below[room]) / (len(below[room]) or 1))
        for number, room in enumerate(row, 1):
            place[room] = width * number / (len(row) + 1), 40 + (top - height) * step
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {80 + top * step}" '
        'font-family="sans-serif" font-size="15" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>',
        f'<rect width="{width}" height="{80 + top * step}" fill="#fff"/>',
    ]
    for room, others in below.items():
        for other in sorted(others):
            (x, y), (u, v) = place[room], place[other]
            parts.append(
                f'<line x1="{x:.0f}" y1="{y + box[1] / 2:.0f}" x2="{u:.0f}" '
                f'y2="{v - box[1] / 2:.0f}" stroke="#667" marker-end="url(#tip)"/>'
            )
    for room, (x, y) in place.items():
        parts.append(
            f'<rect x="{x - box[0] / 2:.0f}" y="{y - box[1] / 2:.0f}" width="{box[0]}" '
            f'height="{box[1]}" rx="6" fill="#eef2f8" stroke="#345"/>'
            f'<text x="{x:.0f}" y="{y + 5:.0f}">{room}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def page(root: Path = ROOT) -> str:
    """docs/house.md: the text around the tree stays, the tree is made anew."""
    text = (root / "docs" / "house.md").read_text(encoding="utf-8")
    before, _, rest = text.partition("```tree\n")
    _, _, after = rest.partition("\n```\n")
    return f"{before}```tree\n{tree(root)}\n```\n{after}"


def main() -> int:
    (ROOT / "docs" / "house.md").write_text(page(), encoding="utf-8")
    (ROOT / "docs" / "house.svg").write_text(picture(arrows()), encoding="utf-8")
    print("docs/house.md, docs/house.svg")
    return 0


def _targets(node: ast.AST, package: str) -> Iterator[str]:
    """What an import statement names, or a call of `require` or `import_module`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([PACKAGE, *above, *([base] if base else [])])
        # `from a import b` may name the module a.b.
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("require", "import_module", "__import__"):
            first = node.args[0]
            if isinstance(first, ast.JoinedStr):
                first = first.values[0]
            if isinstance(first, ast.Constant):
                yield str(first.value).rstrip(".")


def _own(name: str) -> str:
    room = room_of(name)
    if room is None:
        raise ValueError(f"{name} is in no room")
    return room


def _module(target: str, known: Mapping[str, Path]) -> str | None:
    """The module of ours that an import names, or that holds the name."""
    if not target.startswith(f"{PACKAGE}."):
        return None
    inner = target.removeprefix(f"{PACKAGE}.")
    return (
        inner
        if inner in known
        else next((part for part in (inner.rpartition(".")[0],) if part in known), None)
    )


def _levels(found: Mapping[str, set[str]]) -> dict[str, int]:
    """How high each room stands: one above the highest it stands on."""
    level: dict[str, int] = {}
    for room in TopologicalSorter(found).static_order():
        level[room] = 1 + max((level[other] for other in found[room]), default=-1)
    return level


def _reduced(found: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The arrows without those that two others imply."""

    def reached(room: str) -> set[str]:
        return found[room] | {far for other in found[room] for far in reached(other)}

    return {
        room: {o for o in below if not any(o in reached(p) for p in below - {o})}
        for room, below in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
