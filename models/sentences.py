"""How alike the texts of options are, by a text encoder that the user names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nontrivial.manifests import hub
from nontrivial.manifests.errors import BadInput

BATCH = 256  # texts encoded at a time
LONGEST = 128  # tokens of a text that count


@dataclass(frozen=True)
class Likeness:
    """The cosine of two known texts.

    place    row of each text
    vectors  (N, D) float32 of unit length
    """

    place: dict[str, int]
    vectors: np.ndarray

    def __call__(self, first: str, second: str) -> float:
        one, other = self.vectors[self.place[first]], self.vectors[self.place[second]]
        return float(np.clip(one @ other, 0, 1))


def encode(name: str, texts: Iterable[str]) -> Likeness:
    """Encode each text once with `AutoModel.from_pretrained(name)`, mean over its tokens."""
    import torch
    from tqdm import tqdm
    from transformers import AutoModel, AutoTokenizer

    hub.prepare(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModel.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise BadInput(f"--paraphrase_encoder {name}: cannot be loaded: {error}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    known = sorted(set(texts), key=lambda text: (len(text), text))  # little padding in a batch
    rows = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(known), BATCH), "option texts", unit="batch"):
            batch = tokenizer(
                known[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            ).to(device)
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean.float(), dim=-1).cpu().numpy())
    return Likeness({text: row for row, text in enumerate(known)}, np.concatenate(rows))
