"""Descriptions as anchors: images of people are searched by what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from nontrivial.builders.reid.questions import description
from nontrivial.builders.reid.sources.data_set import GALLERY, QUERY
from nontrivial.builders.reid.vectors import Embedded
from nontrivial.manifests.errors import BadInput
from nontrivial.models.encoders import Encoder


def asked_by_text(embedded: Embedded, encoders: Sequence[Encoder], seed: int) -> Embedded:
    """Return images that only answer, and behind them one row that asks for each description.

    A row that asks has its image's labels, its text's vectors, and of encoders that pairs are not
    mined with its image's vectors.
    """
    rows = list(embedded.frame.iter_rows(named=True))
    texts = {row: text for row, image in enumerate(rows) if (text := description(image, seed))}
    asking = list(texts)
    vectors = {name: np.concatenate([x, x[asking]]) for name, x in embedded.vectors.items()}
    for encoder in encoders:
        encode_texts = getattr(encoder, "encode_texts", None)
        if encode_texts is None:
            raise BadInput(f"--anchor text: {encoder.spec} reads no text; name openclip encoders")
        vectors[encoder.name][len(rows) :] = encode_texts(list(texts.values()))
    answer, ask = (pl.lit(role).alias("role") for role in (GALLERY, QUERY))
    frame = embedded.frame.with_columns(answer)
    frame = pl.concat([frame, embedded.frame[asking].with_columns(ask)])
    return replace(embedded, frame=frame, vectors=vectors)
