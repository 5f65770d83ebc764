"""Damaged images and videos: decoded, refused by name, or a contained crash, in bounded memory."""

from __future__ import annotations

import faulthandler
import io
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nontrivial.manifests import decoders
from nontrivial.manifests.decoders import sample_frames
from nontrivial.manifests.guarded import Crash, guarded
from nontrivial.manifests.media import IMAGE_FORMATS, MediaError, decode_image
from tests.fuzz.damage import MEMORY, SECONDS, other_bytes, peak, tries
from tests.manifests.test_decoders import CONTAINERS
from tests.media_files import write_clip

STUCK = 300  # seconds after which a decoder is taken to hang; the process ends then
REFUSED, DECODED = "refused", "decoded"
MODES = {"JPEG": "RGB", "PNG": "RGBA", "WEBP": "RGB", "BMP": "RGB", "GIF": "P", "TIFF": "L"}


class Item(NamedTuple):
    """Damaged bytes, and the file that they lie in; None for embedded ones."""

    seed: int
    data: bytes
    file: Path | None


class Found(NamedTuple):
    """What became of an item, in how many seconds of the processor, and the most memory so far."""

    outcome: str
    seconds: float
    memory: int


def look(item: Item, decoder: str) -> Found:
    """Decode an item through the project's own door, with PyAV where the decoder is not fit."""
    faulthandler.dump_traceback_later(STUCK, exit=True)
    decoders.DECODERS = tuple(d for d in decoders.installed() if d.name in (decoder, "PyAV"))
    begin = time.process_time()
    if item.file:
        item.file.write_bytes(item.data)
    source = item.file or item.data
    try:
        if decoder == "Pillow":
            decode_image(source)
        else:
            span = random.Random(item.seed).choice([None, None, (0.5, 1.5), (90.0, 99.0)])
            shown = sample_frames(source, nframes=3, clip=span).frames
            assert 1 <= len(shown) <= 3
            assert shown.dtype == np.uint8
        outcome = DECODED
    except MediaError as error:
        named = item.file.name if item.file else "embedded"
        outcome = REFUSED if named in str(error) else f"is not named: {error}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Found(outcome, time.process_time() - begin, peak())


def damaged(whole: list[bytes], count: int, folder: Path) -> list[Item]:
    """Items of each kind in turn, half of them in a file; headers are damaged more often."""
    items = []
    for seed in range(count):
        rng = random.Random(seed)
        data = whole[seed % len(whole)]
        end = rng.choice([64, 600, len(data)])
        made = other_bytes(data[:end], rng) + data[end:]
        file = folder / "damaged.file" if rng.random() < 0.5 else None
        items.append(Item(seed, made, file))
    return items


def check(whole: list[bytes], decoder: str, count: int, folder: Path) -> None:
    """Decode damaged items in a child; nothing but results, refusals and contained crashes."""
    sound = [Item(-1, data, None) for data in whole]
    items = [*sound, *damaged(whole, count, folder)]
    found = dict(guarded(partial(look, decoder=decoder), items, 1))
    assert [found[number].outcome for number in range(len(sound))] == [DECODED] * len(sound)
    crashes = {items[n].seed: result for n, result in found.items() if isinstance(result, Crash)}
    results = {items[n].seed: result for n, result in found.items() if n not in crashes}
    results = {seed: result for seed, result in results.items() if isinstance(result, Found)}
    told = Counter(result.outcome for result in results.values())
    print(f"{decoder}: {count} items, {dict(told)}, crashes {crashes}")
    others = {seed: r.outcome for seed, r in results.items() if r.outcome not in (REFUSED, DECODED)}
    assert not others
    assert told[REFUSED]
    slow = {seed: result.seconds for seed, result in results.items() if result.seconds > SECONDS}
    assert not slow
    memory = [result.memory for result in results.values()]
    assert max(memory) - min(memory) < MEMORY


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[bytes]:
    """A sound clip in each container."""
    folder = tmp_path_factory.mktemp("clips")
    return [
        write_clip(folder / f"a.{suffix}", frames=50, fps=25, codec=codec).read_bytes()
        for suffix, codec in CONTAINERS.items()
    ]


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    """A sound image of each format."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    made = []
    for kind in IMAGE_FORMATS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(MODES[kind]).save(buffer, kind)
        made.append(buffer.getvalue())
    return made


@pytest.mark.parametrize("decoder", [known.name for known in decoders.DECODERS])
def test_any_damage_of_a_clip_is_contained(tmp_path, clips, decoder):
    if decoder not in {known.name for known in decoders.installed()}:
        pytest.skip(f"{decoder} is not installed here, or does not find its libraries")
    check(clips, decoder, tries(60), tmp_path)


def test_any_damage_of_an_image_is_contained(tmp_path, images):
    check(images, "Pillow", tries(300), tmp_path)
