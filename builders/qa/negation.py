"""Negate an English question, so that its wrong answers become the right ones.

Two operations return the new text and the id of the rule that was applied:

  toggle   add or remove *not* in a CLEVRER question whose options are true or false by themselves
  negate   ask for everything that is NOT an answer to a single-choice question

`negate` reformulates a question that a rule matches ("Which of the following is NOT a reason why
…?"). Any other question is kept behind "Select every option that is NOT a correct answer to this
question:". The clause of a why or how question is never negated, because that would deny what the
video shows. "Which X is not …" loses its *not*; any other negative question is refused. Case,
punctuation and names are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from nontrivial.builders.qa.grammar import (
    Clause,
    bare,
    free_participles,
    is_adverb,
    is_participle,
    is_third_person,
    read_clause,
    starts_noun_phrase,
)
from nontrivial.builders.qa.lexicon import (
    AUXILIARIES,
    BE,
    CLAUSE_OPENERS,
    DO,
    GOVERNING,
    MODALS,
    PREPOSITIONS,
)

FALLBACK = "Select every option that is NOT a correct answer to this question: "
IS_NEGATIVE = "the question is negative already"
NO_TEMPLATE = "no template of CLEVRER fits the question"


@dataclass(frozen=True)
class Negation:
    """The text of an inverted question and the id of the rule that made it."""

    text: str
    rule: str


@dataclass(frozen=True)
class NotNegated:
    """The reason why a question has no inversion."""

    reason: str


_NEGATIVE = re.compile(
    r"\b(not|never|no|none|nothing|nobody|nowhere|neither|nor|cannot|except|excluding|false|"
    r"incorrect|incorrectly|inaccurate|invalid|untrue|wrong|wrongly|unlikely|impossible|hardly|"
    r"fail(?:s|ed)? to|"
    # Some benchmarks write "doesn t" for "doesn't".
    r"(?:do|does|did|is|are|was|were|ca|could|wo|would|should|has|have|had|must|need|ai|)"
    r"n['’ ]?t)\b",
    re.IGNORECASE,
)
_TOGGLES = (
    (re.compile(r"\b(will|would)( not)?(?= happen\b)", re.IGNORECASE), "will_happen"),
    (re.compile(r"\b(is|are)( not)?(?= responsible\b)", re.IGNORECASE), "is_responsible"),
)
_CONTRACTED = re.compile(r"\bwon['’]?t(?= happen\b)", re.IGNORECASE)
_IS_NOT = re.compile(
    r"(?:[^?,;]{2,160}, )?(?:which|what)\b(?P<phrase>[^?,;]{0,80}?) (?:is|are|was|were)"
    r"(?P<no> not) (?P<next>\w+)[^?;]*\??",
    re.IGNORECASE,
)
# Several questions or sentences in one, or a superlative: a NOT would have the wrong scope.
_INTRICATE = re.compile(
    r"[.?!;:]\s|,[^,]* or [^,]*$|\b(?:and|or),? (?:\w+ )?(?:what|which|how|why|where|who|when)\b|"
    r"\b(?:best|most|mostly|likely)\b",
    re.IGNORECASE,
)
# Words that make the scope of a NOT in the clause unclear: "do all NOT sit" is not "not all sit".
_SCOPED = re.compile(
    r"\b(?:may|might|must|should|all|both|each|every|every(?:one|body|thing)|always|often|usually|"
    r"sometimes|mainly|mostly|only|also|again|still|either|else|(?:what|which) other)\b",
    re.IGNORECASE,
)
# What stands before a question: no question itself, whose commas only enclose a clause.
_FRONTED = re.compile(
    r"^(?P<front>(?!(?:what|which|who|whom|whose|why|how)\b)[^?,]{2,160},\s+)(?P<core>(?:(?:in|on|from|at|to|with|for|by)\s+)?"
    r"(?:what|which|who|where|when|why|how)\b.*)$",
    re.IGNORECASE | re.DOTALL,
)


@lru_cache(maxsize=100_000)
def toggle(question: str) -> Negation | NotNegated:
    """Add or remove *not* in a question whose options are true or false by themselves.

    Exactly the other options become right, so toggling twice returns the question.

    >>> toggle("What will happen without the cube?").text
    'What will not happen without the cube?'
    >>> toggle(toggle("Which of the following is responsible for the exit?").text).text
    'Which of the following is responsible for the exit?'
    """
    text = _CONTRACTED.sub("will not", _one_line(question))
    matches = [(match, rule) for pattern, rule in _TOGGLES for match in pattern.finditer(text)]
    negatives = len(_NEGATIVE.findall(text))
    if len(matches) != 1 or negatives != (matches[0][0][2] is not None):
        return NotNegated(NO_TEMPLATE)
    match, rule = matches[0]
    verb = match[1] if match[2] else f"{match[1]} not"
    way = "removed" if match[2] else "added"
    return Negation(text[: match.start()] + verb + text[match.end() :], f"{rule}.{way}")


@lru_cache(maxsize=100_000)
def negate(question: str, *, closed: bool = False, outer: bool = False) -> Negation | NotNegated:
    """Ask for every option that is not an answer; `closed` enables the rule for "how many".

    With `outer`, no NOT is put in front of the question's verb: its options deny something already.

    >>> negate("What did the boy do after he fell?").text
    'Which of the following did the boy NOT do after he fell?'
    >>> negate("why did the man in red run off").text
    'which of the following is NOT a reason why the man in red ran off'
    >>> negate("Why didn't she come?").reason
    'the question is negative already'
    """
    text = _one_line(question)
    if not text:
        return NotNegated("the question is empty")
    if _NEGATIVE.search(text):
        affirmed = _affirm(text)
        return Negation(affirmed, "affirmed") if affirmed else NotNegated(IS_NEGATIVE)
    body = text.rstrip(" ?.!")
    end = text[len(body) :]
    fronted = _FRONTED.match(body)
    front, core = (fronted["front"], fronted["core"]) if fronted else ("", body)
    if not _INTRICATE.search(core):
        rules = [_how_many] * closed + (OUTER if outer or _SCOPED.search(core) else RULES)
        for rule in rules:
            negated = rule(core.split(" "))
            if negated:
                return Negation(front + _cased(negated, core) + end, rule.__name__.strip("_"))
    return Negation(FALLBACK + text, "fallback")


def _affirm(text: str) -> str | None:
    """Turn "Which X is not shown" into "Which X is shown"; None if *not* has another scope."""
    match = _IS_NOT.fullmatch(text)
    if not match or len(_NEGATIVE.findall(text)) > 1 or starts_noun_phrase(match["next"]):
        return None
    if any(bare(word) in AUXILIARIES for word in match["phrase"].split()):
        return None
    return text[: match.start("no")] + text[match.end("no") :]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cased(negated: str, core: str) -> str:
    """Give the first letter the case of the question's first letter."""
    first = negated[0].upper() if core[0].isupper() else negated[0].lower()
    return first + negated[1:]


# Each rule takes the words of a question without front and end, and returns the new text or None.

_EVENTS = re.compile(
    r"(?:what|which (?:event|one|of the following(?: events)?)) "
    r"(?P<verb>will|would|could|can) happen(?P<rest>.*)",
    re.IGNORECASE,
)
_COLOR = r"colou?r|shape|material|size|pattern|texture|brand|name|genre|style|weather|topic"
_ATTRIBUTE = re.compile(rf"what (?P<noun>{_COLOR}) (?P<be>is|are|was|were) (?P<rest>.+)", re.I)
_NOUN_OF = re.compile(
    r"(?:what|which) (?P<be>is|are|was|were) "
    r"(?P<rest>the (?:\w+ ){0,2}?\w+ (?:of|between|for|behind) .+)",
    re.IGNORECASE,
)
_IDENTIFY = re.compile(
    r"(?:can|could) you (?:identify|tell|name|find|determine) (?P<rest>the .+)", re.IGNORECASE
)
_THERE = re.compile(r"how many (?P<noun>.+?) are there(?P<rest>.*)", re.IGNORECASE)
_COUNTED = re.compile(
    r"how many (?P<noun>\w+(?: \w+)*?) "
    r"(?P<verb>are|were|enter|exit|happen|collide|move|leave|appear)\b(?P<rest>.*)",
    re.IGNORECASE,
)
_STRANDED = PREPOSITIONS | {"doing", "do", "made", "called"}
_WHICH = "Which of the following"


def _how_many(words: list[str]) -> str | None:
    """Negate a count of a closed family: "… is NOT the number of spheres that enter the scene"."""
    text = " ".join(words)
    match = _THERE.fullmatch(text)
    if match:
        return f"{_WHICH} is NOT the number of {match['noun']}{match['rest']}"
    match = _COUNTED.fullmatch(text)
    if match:
        return f"{_WHICH} is NOT the number of {match['noun']} that {match['verb']}{match['rest']}"
    return None


def _event(words: list[str]) -> str | None:
    """Negate "what happens", "what happened" or "what will happen"."""
    text = " ".join(words)
    match = _EVENTS.fullmatch(text)
    if match:
        return re.sub(r"(?i)\b(will|would|could|can) happen", r"\1 NOT happen", text, count=1)
    if len(words) < 2 or bare(words[0]) != "what" or bare(words[1]) not in ("happened", "happens"):
        return None
    aux = "did" if bare(words[1]) == "happened" else "does"
    return " ".join([_WHICH, aux, "NOT happen", *words[2:]])


def _attribute(words: list[str]) -> str | None:
    """Negate "what colour is X", "what is the colour of X", "can you identify the … of X"."""
    text = " ".join(words)
    match = _ATTRIBUTE.fullmatch(text)
    if match and _is_noun_phrase(match["rest"]):
        return f"{_WHICH} is NOT the {match['noun']} of {match['rest']}"
    match = _NOUN_OF.fullmatch(text)
    if match and _is_noun_phrase(match["rest"]):
        return f"{_WHICH} {match['be']} NOT {match['rest']}"
    match = _IDENTIFY.fullmatch(text)
    return f"{_WHICH} is NOT {match['rest']}" if match else None


def _is_noun_phrase(rest: str) -> bool:
    """True if no word of "is X" belongs to a predicate: no participle, no stranded preposition."""
    words = [bare(word) for word in rest.split(" ")]
    if is_participle(words[0]) or not {"doing", "like", "possible", "there"}.isdisjoint(words):
        return False
    return not free_participles(words) and words[-1] not in _STRANDED


def _does(words: list[str]) -> str | None:
    """Negate "what did X do" or "what is X doing": the subject ends at "do" or "doing"."""
    if len(words) < 4 or bare(words[0]) != "what":
        return None
    aux = bare(words[1])
    verb = "doing" if aux in BE else "do" if aux in DO | MODALS else None
    places = [i for i, word in enumerate(words[2:], 2) if bare(word) == verb]
    if not places or places[0] < 3:
        return None
    subject, rest = words[2 : places[0]], words[places[0] :]
    if (
        is_adverb(subject[-1])
        or bare(subject[-1]) in PREPOSITIONS
        or any(bare(word) in CLAUSE_OPENERS for word in subject)
    ):
        return None
    if (GOVERNING | AUXILIARIES | {"you"}).intersection(map(bare, subject)):
        return None
    following = bare([*rest, "."][1])
    # "doing and saying", "doing that made them laugh", "doing lying in bed"
    if following in ("and", "or", "that", "which") or following.endswith("ing"):
        return None
    if any('"' in word or "“" in word for word in words):
        return None
    return " ".join([_WHICH, aux, *subject, "NOT", *rest])


def _subject(words: list[str]) -> str | None:
    """Negate where the wh-phrase is the subject: "which object was put down", "what is on X"."""
    place = _find(words, BE | MODALS)
    if not 0 < place < len(words) - 1 or not _is_wh(words[:place]):
        return None
    following = bare(words[place + 1])
    located = bare(words[place]) in BE and following in _PLACES and not _is_stranded(words)
    if starts_noun_phrase(following) or not (is_participle(following) or located):
        return None
    return " ".join([*words[: place + 1], "NOT", *words[place + 1 :]])


def _find(words: list[str], verbs: frozenset[str]) -> int:
    """Return the position of the first of these verbs behind a short wh-phrase, or -1."""
    places = (i for i, word in enumerate(words[:_LONGEST_PHRASE]) if bare(word) in verbs)
    return next(places, -1)


_LONGEST_PHRASE = 8
_PLACES = frozenset({"on", "in", "under", "behind", "beside", "near", "inside", "at", "above"})


def _is_stranded(words: list[str]) -> bool:
    return bare(words[-1]) in PREPOSITIONS


def _is_wh(words: list[str]) -> bool:
    """True for a wh-phrase that can be a subject: what, who, which … without a verb."""
    if not words or bare(words[0]) not in ("what", "which", "who"):
        return False
    if bare(words[0]) != "which" and starts_noun_phrase([*words, "."][1]):  # "what the girl is"
        return False
    if bare(words[0]) != "which" and not PREPOSITIONS.isdisjoint(map(bare, words)):
        return False  # "what in his hand is NOT …"
    clausal = AUXILIARIES | CLAUSE_OPENERS | {"how", "that", "who", "which", "whose"}
    return not any(bare(word) in clausal or is_third_person(word) for word in words[1:])


_ADJUNCTS = {"why": "a reason why", "how": "how", "where": "where", "when": "when"}


def _adjunct(words: list[str]) -> str | None:
    """Negate why, how, where, when: "… is NOT a reason why", then the clause as a statement."""
    kind = _ADJUNCTS.get(bare(words[0]))
    if kind is None or len(words) < 4 or bare(words[1]) not in AUXILIARIES:
        return None
    clause = read_clause(words[1], words[2:]) or _short_place(words)
    if clause is None or bare(clause.subject[0]) == "you":  # "why do you think …"
        return None
    statement = clause.declarative()
    return f"{_WHICH} is NOT {kind} {statement}" if statement else None


def _short_place(words: list[str]) -> Clause | None:
    """Read "where is this place": two words at most, and no participle ("this happening")."""
    rest = words[2:]
    short = len(rest) <= 2 and bare(rest[0]) in ("this", "the", "that")
    if bare(words[0]) != "where" or bare(words[1]) not in BE or not short:
        return None
    return None if is_participle(rest[-1]) else Clause(words[1], rest, [""])


Rule = Callable[[list[str]], str | None]
RULES: list[Rule] = [_event, _attribute, _does, _subject, _adjunct]
# Rules that put NOT in front of everything the question asks.
OUTER: list[Rule] = [_attribute, _adjunct]
