"""What the rooms can do, from arrays and plain values.

Each function makes of its arguments what the rooms work with, and plain values of their results.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


class Inverted(NamedTuple):
    """An inverted question; `answer` holds the letters of all right options, `rule` its origin."""

    question: str
    options: list[str]
    answer: list[str]
    rule: str


def invert(
    question: str, options: Sequence[str], answer: Collection[str], *, kind: str = "single"
) -> Inverted:
    """Make the question whose right options are exactly the old wrong ones.

    question  English text, without options
    options   their texts, without letters
    answer    the letters of the right options
    kind      how options relate: "single" (one is right; whether the others exclude it is judged
              from their texts), "exclusive" (by construction), "independent" (each true or false by
              itself, as CLEVRER's choices)

    Options that overlap the answer are left out. Raises `ValueError` that says why a question has
    no sound inversion. After TW-GRPO (arXiv 2505.24718), without the faults of its script.

    >>> invert("What color is the ball?", ["red", "green", "blue"], "A").question
    'Which of the following is NOT the color of the ball?'
    >>> invert("What color is the ball?", ["red", "green", "blue"], "A").answer
    ['B', 'C']
    >>> invert("Is it red?", ["yes", "no", "maybe"], "A")
    Traceback (most recent call last):
    ValueError: no sound inversion: the options are yes and no
    """
    from nontrivial.builders.qa import inversion
    from nontrivial.builders.qa.benches.question import EXCLUSIVE, INDEPENDENT, SINGLE, by_letters
    from nontrivial.manifests.answers import letters

    if kind not in (SINGLE, EXCLUSIVE, INDEPENDENT):
        raise ValueError(f"kind is {kind!r}; one of {SINGLE}, {EXCLUSIVE}, {INDEPENDENT}")
    right = by_letters(options, answer)
    made = inversion.invert(question, options, right, kind)
    if isinstance(made, inversion.NotInverted):
        raise ValueError(f"no sound inversion: {made.reason}")
    labels = letters(len(made.positions))
    return Inverted(
        made.question,
        [options[place] for place in made.positions],
        [label for label, place in zip(labels, made.positions, strict=True) if not right[place]],
        made.rule,
    )


def mine_pairs(
    vectors: ArrayLike | Sequence[ArrayLike],
    pids: ArrayLike,
    camids: ArrayLike,
    *,
    clothes: ArrayLike | None = None,
    budget: float = 0.209,
    top_k: int = 50,
    trust_labels: bool = False,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Mine the pairs of images that a first stage gets wrong: half one person, half two.

    vectors       (N, D) features of an encoder, or a list of such for several; any length
    pids, camids  (N,) identities and cameras, numbers or names
    clothes       (N,) outfits; positives then show changed clothes. None: unknown
    budget        share of the images (up to 1), or number of pairs (above 1)
    top_k         a negative is another person among so many nearest ones
    trust_labels  keep pairs whose labels look wrong

    Returns arrays (P,) by name: `anchor` and `candidate` (rows), `same` (bool), `similarity`,
    `margin` (by how much the first stage errs, float32) and `rank` among the anchor's negatives.
    Pairs cross cameras. Raises `ValueError` for shapes that differ. ReID-R style (arXiv
    2604.19218); `nontrivial.builders.reid.pairs` has the definitions. Needs FAISS.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> people = rng.normal(size=(20, 16)).repeat(6, axis=0)
    >>> seen = people + 0.8 * rng.normal(size=people.shape)
    >>> pairs = mine_pairs(seen, np.arange(120) // 6, np.arange(120) % 3, budget=12)
    >>> len(pairs["anchor"]), int(pairs["same"].sum())
    (12, 6)
    """
    import numpy as np

    from nontrivial.builders.reid.mining import Rules, mine
    from nontrivial.builders.reid.pairs import POSITIVES, quotas
    from nontrivial.builders.reid.space import build_space

    encoders = [_unit(x) for x in _list_of_matrices(vectors)]
    rows = len(encoders[0])
    known = {"pids": pids, "camids": camids} | ({} if clothes is None else {"clothes": clothes})
    codes = {name: _codes(name, [values], [rows])[0] for name, values in known.items()}
    if any(len(x) != rows for x in encoders):
        raise ValueError(f"vectors have {[len(x) for x in encoders]} rows, need the same")
    everyone = np.arange(rows)
    space = build_space(encoders, **codes, anchors=everyone, candidates=everyone)
    (wanted,) = quotas(budget, [rows])
    rules = Rules(wanted, top_k=top_k, trust_labels=trust_labels, seed=seed)
    mined = mine(space, rules)
    pairs = mined.ranked(space, mined.hard)
    names = ("anchor", "candidate", "similarity", "margin", "rank")
    same = pairs["kind"].is_in(POSITIVES).to_numpy()
    return {name: pairs[name].to_numpy() for name in names} | {"same": same}


def ranking_metrics(
    query: ArrayLike,
    gallery: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    max_rank: int = 10,
) -> dict[str, Any]:
    """Score the ranking of a gallery for each query by cosine similarity.

    query, gallery  (Q, D) and (G, D) features of any length
    *_pids          (Q,) and (G,) identities; *_camids: cameras; numbers or names

    Images of a query's identity and camera are dropped, queries without a match are skipped, and a
    tie counts against the match. Returns `mAP`, `mINP`, `cmc` (max_rank,), `queries`, `skipped`.
    Raises `ValueError` for shapes that differ, and where no query has a match. Protocol of
    Market-1501 (Zheng et al., ICCV 2015); mINP by Ye et al. (TPAMI 2021).

    >>> ranking_metrics([[1, 0]], [[1, 0], [0, 1]], ["ann"], ["ann", "bob"], [1], [2, 2])["mAP"]
    1.0
    """
    import numpy as np

    from nontrivial.eval.ranking import STANDARD, Labels, rank, similarity_blocks, summarise

    asked, offered = _unit(query), _unit(gallery)
    sizes = len(asked), len(offered)
    pids = _codes("pids", (query_pids, gallery_pids), sizes)
    camids = _codes("camids", (query_camids, gallery_camids), sizes)
    seekers, sought = (
        Labels(*both, np.full(len(both[0]), -1)) for both in zip(pids, camids, strict=True)
    )
    (ranked,) = rank(similarity_blocks(asked, offered), seekers, sought, STANDARD[0])
    scores = summarise(ranked.ranks, max_rank)
    return {
        "mAP": scores.mean_ap,
        "mINP": scores.mean_inp,
        "cmc": scores.cmc,
        "queries": scores.queries,
        "skipped": scores.skipped,
    }


def _list_of_matrices(vectors: Any) -> list[np.ndarray]:
    """One encoder's features, or those of several."""
    import numpy as np

    several = isinstance(vectors, (list, tuple)) and np.ndim(vectors[0]) == 2
    return [np.asarray(x) for x in vectors] if several else [np.asarray(vectors)]


def _unit(x: Any) -> np.ndarray:
    """(N, D) float32 rows of length 1."""
    import numpy as np

    x = np.asarray(x, np.float32)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"features have the shape {x.shape}, need (N, D)")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        raise ValueError("a feature is zero or not finite")
    return x / length


def _codes(name: str, parts: Sequence[Any], sizes: Sequence[int]) -> list[np.ndarray]:
    """Names or numbers of several arrays as int64 from 0, equal where they are equal."""
    import numpy as np

    arrays = [np.asarray(part) for part in parts]
    for values, size in zip(arrays, sizes, strict=True):
        if values.shape != (size,):
            raise ValueError(f"{name} have the shape {values.shape}, need ({size},)")
    codes = np.unique(np.concatenate(arrays), return_inverse=True)[1].astype(np.int64)
    return np.split(codes, np.cumsum(sizes)[:-1])
