"""Functions of the public API, on arrays and plain values.

Each function converts its arguments to the types of the rooms, and their results to plain values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


class Inverted(NamedTuple):
    """An inverted question: `answer` holds the letters of all right options, `rule` its rule."""

    question: str
    options: list[str]
    answer: list[str]
    rule: str


def invert(
    question: str, options: Sequence[str], answer: Collection[str], *, kind: str = "single"
) -> Inverted:
    """Make the question whose right options are exactly the old wrong ones.

    question  English text, without options
    options   texts of the options, without letters
    answer    letters of the right options
    kind      relation of the options: "single" (one is right; their texts decide whether the others
              exclude it), "exclusive" (they exclude each other by construction), "independent"
              (each is true or false by itself, as in CLEVRER)

    Options that overlap the answer are left out. Raises `ValueError` with the reason if a question
    has no sound inversion. After TW-GRPO (arXiv 2505.24718), without the faults of its script.

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
    labels = letters(len(options))
    if not answer or not set(answer) <= set(labels):
        raise ValueError(f"answer is {answer!r}; one or more of the letters {', '.join(labels)}")
    right = by_letters(options, answer)
    inverted = inversion.invert(question, options, right, kind)
    if isinstance(inverted, inversion.NotInverted):
        raise ValueError(f"no sound inversion: {inverted.reason}")
    kept = inverted.positions
    return Inverted(
        inverted.question,
        [options[place] for place in kept],
        [
            letter
            for letter, place in zip(letters(len(kept)), kept, strict=True)
            if not right[place]
        ],
        inverted.rule,
    )


def mine_pairs(
    vectors: ArrayLike | Sequence[ArrayLike],
    pids: ArrayLike,
    camids: ArrayLike | None,
    *,
    clothes: ArrayLike | None = None,
    budget: float = 0.209,
    top_k: int = 50,
    trust_labels: bool = False,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Mine pairs of images that a first stage knows nothing about: half positives, half negatives.

    vectors       (N, D) features of one encoder, or a list of these for several; any norm
    pids, camids  (N,) identities and cameras, numbers or names; None: unknown cameras
    clothes       (N,) outfits; positives then show changed clothes. None: unknown
    budget        share of the images (up to 1), or number of pairs (above 1)
    top_k         twins are found among the anchor's `top_k` nearest images of other people
    trust_labels  keep pairs whose labels look wrong

    Returns arrays (P,) by name: `anchor` and `candidate` (rows), `same` (bool), `similarity`,
    `difficulty` (0 to 1), `rank` among the anchor's negatives, and `twin`: two pairs of one number
    share their anchor, their cameras and nearly their similarity, and one is of the same person; −1
    for a single pair. Pairs cross cameras. Raises `ValueError` for mismatched shapes. ReID-R style
    (arXiv 2604.19218); `nontrivial.builders.reid.twins` has the definitions. Needs FAISS.

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
    named = {"pids": pids, "camids": camids, "clothes": clothes}
    known = {name: values for name, values in named.items() if values is not None}
    codes = {name: _codes(name, [values], [rows])[0] for name, values in known.items()}
    codes.setdefault("camids", np.full(rows, -1))
    if any(len(x) != rows for x in encoders):
        raise ValueError(f"vectors have {[len(x) for x in encoders]} rows, need the same number")
    images = np.arange(rows)
    space = build_space(encoders, **codes, anchors=images, candidates=images)
    (wanted,) = quotas(budget, [rows])
    rules = Rules(wanted, top_k=top_k, trust_labels=trust_labels, seed=seed)
    mined = mine(space, rules)
    pairs = mined.ranked(space, mined.hard)
    names = ("anchor", "candidate", "similarity", "difficulty", "rank")
    same = pairs["kind"].is_in(POSITIVES).to_numpy()
    twin = pairs["twin"].fill_null(-1).to_numpy()
    return {name: pairs[name].to_numpy() for name in names} | {"same": same, "twin": twin}


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

    query, gallery  (Q, D) and (G, D) features of any norm
    *_pids          (Q,) and (G,) identities; *_camids: cameras; numbers or names

    Gallery images of the query's identity and camera are dropped, queries without a match are
    skipped, and a tie counts against the match. Returns `mAP`, `mINP`, `cmc` (max_rank,), and the
    counts `queries` and `skipped`. Raises `ValueError` for mismatched shapes, or if no query has a
    match. Protocol of Market-1501 (Zheng et al., ICCV 2015); mINP by Ye et al. (TPAMI 2021).

    >>> ranking_metrics([[1, 0]], [[1, 0], [0, 1]], ["ann"], ["ann", "bob"], [1], [2, 2])["mAP"]
    1.0
    """
    import numpy as np

    from nontrivial.eval.ranking import STANDARD, Labels, rank, similarity_blocks, summarise

    queries, candidates = _unit(query), _unit(gallery)
    sizes = len(queries), len(candidates)
    pids = _codes("pids", (query_pids, gallery_pids), sizes)
    camids = _codes("camids", (query_camids, gallery_camids), sizes)
    of_query, of_gallery = (
        Labels(pid, camid, np.full(len(pid), -1)) for pid, camid in zip(pids, camids, strict=True)
    )
    blocks = similarity_blocks(queries, candidates)
    (ranked,) = rank(blocks, of_query, of_gallery, STANDARD[0])
    scores = summarise(ranked.ranks, max_rank)
    return {
        "mAP": scores.mean_ap,
        "mINP": scores.mean_inp,
        "cmc": scores.cmc,
        "queries": scores.queries,
        "skipped": scores.skipped,
    }


def _list_of_matrices(vectors: Any) -> list[np.ndarray]:
    """Return the features of each encoder, of one or several."""
    import numpy as np

    several = isinstance(vectors, (list, tuple)) and np.ndim(vectors[0]) == 2
    return [np.asarray(x) for x in vectors] if several else [np.asarray(vectors)]


def _unit(x: Any) -> np.ndarray:
    """Return (N, D) float32 rows of norm 1."""
    import numpy as np

    x = np.asarray(x, np.float32)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"features have the shape {x.shape}, need (N, D)")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        raise ValueError("a feature is zero or not finite")
    return x / length


def _codes(name: str, parts: Sequence[Any], sizes: Sequence[int]) -> list[np.ndarray]:
    """Number the distinct values of all `parts` from 0, in int64; return one array per part."""
    import numpy as np

    arrays = [np.asarray(part) for part in parts]
    for values, size in zip(arrays, sizes, strict=True):
        if values.shape != (size,):
            raise ValueError(f"{name} have the shape {values.shape}, need ({size},)")
    codes = np.unique(np.concatenate(arrays), return_inverse=True)[1].astype(np.int64)
    return np.split(codes, np.cumsum(sizes)[:-1])
