"""Run folders: files that training and evaluation write and reports read.

train.warmup, train.grpo
    run.json                        the options of the run, as text; a resumed run needs the same
    log.jsonl                       `step` and metrics, one line a log
    samples.jsonl                   from time to time one whole `SampledGroup`
eval.qa
    summary.json                    options, and `AnswerScores` of each manifest
    <manifest>-<settings>.jsonl     `id` and `completion`, in the order they arrive
    <manifest>.scored.jsonl         `ScoredAnswer`s, sorted by id
eval.reid
    reid.json                       options, and `RankingScores`
    <table>-<settings>.judged.jsonl what the policy said of each pair, in that order
    <table>-<encoder>.lists.jsonl   `RankedList`s

A last line without its end, as a killed process leaves it, is skipped; `JsonLines.mend` removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from nontrivial.manifests.answers import LETTERS
from nontrivial.manifests.errors import BadInput
from nontrivial.manifests.files import atomic_path, write_text

OPTIONS, LOG, GROUPS, STATE = "run.json", "log.jsonl", "samples.jsonl", "trainer_state.json"
# Parts of a GRPO step whose shares of its time are logged: reading and encoding media, the vision
# tower where it runs once for a prompt, drawing completions, all else before the loss (scores,
# rewards, token weights), and loss, gradient and update.
PARTS = ("reading", "vision", "sampling", "scoring", "training", "evaluation")
SHARE = "time/{}"  # name of a part's share in the log
ANSWERS, RANKINGS = "summary.json", "reid.json"
SCORED, JUDGED, LISTS = ".scored.jsonl", ".judged.jsonl", ".lists.jsonl"

Record = TypeVar("Record")


@dataclass(frozen=True)
class SampledCompletion:
    """A completion as tokens, with the weight of each token and the rewards by name."""

    tokens: list[str]
    weights: list[float]
    rewards: dict[str, float]
    advantage: float

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.weights):
            raise ValueError(f"{len(self.tokens)} tokens have {len(self.weights)} weights")


@dataclass(frozen=True)
class SampledGroup:
    """All completions of one prompt at one step."""

    step: int
    id: str
    task: str
    question: str
    options: list[str]
    answer: list[str]
    token_weighting: str
    completions: list[SampledCompletion]

    def __post_init__(self) -> None:
        if not self.completions or len(self.options) > len(LETTERS):
            raise ValueError("needs completions, and a letter for every option")


@dataclass(frozen=True)
class AnswerScores:
    """Mean scores of a set of answered questions; intervals are (low, high)."""

    task: str
    family: str | None  # None: all families of the task
    n: int
    right: int
    soft: float
    soft_interval: tuple[float, float]
    strict: float
    strict_interval: tuple[float, float]
    per_option: float
    format: float
    blind_strategy: str  # with the best soft score
    blind_soft: float
    blind_strict: float
    # Of pairs of people, as their manifest reports it (`manifests.shortcuts`).
    shortcut: str | None = None
    shortcut_score: float | None = None
    # Of `draws` sampled completions of each question: the mean strict score, the share of questions
    # that one of them answers, and the AUC of options by the share of completions that choose them.
    draws: int = 0
    sampled_strict: float | None = None
    pass_at_draws: float | None = None
    option_auc: float | None = None

    @property
    def not_looking(self) -> tuple[str, float]:
        """The best rule that doesn't look, and its score."""
        if self.shortcut is None or (self.shortcut_score or 0) <= self.blind_soft:
            return self.blind_strategy, self.blind_soft
        return self.shortcut, self.shortcut_score or 0


@dataclass(frozen=True)
class ScoredAnswer:
    """A completion, the letters read from it, and its scores."""

    id: str
    task: str
    family: str
    soft: float
    strict: float
    per_option: float
    format: float
    completion: str
    letters: list[str]
    answer: list[str]


@dataclass(frozen=True)
class RankingScores:
    """One ranking of one data set by one encoder under one protocol, scored."""

    source: str
    encoder: str
    protocol: str
    ranking: str
    scores: dict[str, Any]  # queries, skipped, mean_ap, mean_inp, cmc
    interval: tuple[float, float] | None  # 95 %, of mAP, over identities; None for drawn galleries
    seconds: float | None = None  # of re-ranking, a query
    verdicts: dict[str, Any] | None = None  # eval.rerank.Consistency


@dataclass(frozen=True)
class ListedImage:
    """A gallery image in a query's list, with the policy's verdict if there is one."""

    path: str
    pid: str
    camid: int | None
    score: float
    right: bool
    p_same: float | None
    reasoning: str


@dataclass(frozen=True)
class RankedList:
    """The head of one query's list under one protocol."""

    source: str
    encoder: str
    protocol: str
    query: str
    pid: str
    camid: int | None
    ap: float
    first_rank: int
    fusion_alpha: float
    list: list[ListedImage]


class JsonLines:
    """A file of JSON objects, one a line."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the objects in order; none if the file does not exist."""
        if self.path.is_file():
            yield from (value for _, value in read_lines(self.path, torn=True))

    def append(self, *records: Any) -> None:
        """Append objects, one a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, records))

    def write(self, records: Iterable[Any]) -> None:
        """Replace the whole file, atomically."""
        with atomic_path(self.path) as path, path.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, records))

    def mend(self) -> None:
        """Remove a last line without its end, so that the next line is whole."""
        if self.path.is_file():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def cut(self, step: int) -> None:
        """Keep the records up to and including `step`."""
        if self.path.is_file():
            self.write([record for record in self if record["step"] <= step])


def read_lines(path: Path, *, torn: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line numbers and JSON objects; empty lines are skipped.

    With `torn` a last line without its end is skipped, too. Raises `BadInput` with file and line.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            if not text.strip() or (torn and not text.endswith("\n")):
                continue
            try:
                value = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise BadInput(f"{path}, line {number}: is not JSON ({error})") from error
            if not isinstance(value, dict):
                raise BadInput(f"{path}, line {number}: needs an object, has {text.strip()[:40]!r}")
            yield number, value


def read_records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """Yield the lines of a file, if there is one, as records; `BadInput` names line and field."""
    from pydantic import TypeAdapter

    adapter = TypeAdapter(kind)
    if path.is_file():
        for number, value in read_lines(path, torn=True):
            yield _checked(adapter, value, f"{path}, line {number}")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically; dataclasses in it become objects."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=asdict) + "\n")


def read_json(path: Path, fields: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Read an object that `write_json` wrote; None if the file does not exist.

    `fields` are the types of some of its values. Raises `BadInput` for anything else.
    """
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: needs an object, as train and eval write")
    from pydantic import TypeAdapter

    for name, kind in (fields or {}).items():
        value[name] = _checked(TypeAdapter(kind), value.get(name), f"{path}: {name}")
    return value


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return eight hex digits that stand for settings in a file name.

    >>> settings_digest({"seed": 0})
    'de7d7744'
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _line(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False, default=asdict) + "\n"


def _checked(adapter: Any, value: Any, where: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the record"
        raise BadInput(f"{where}: {field}: {first['msg']}") from error
