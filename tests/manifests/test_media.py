"""Media are untrusted: what leaves the root, is too large or damaged is refused by name."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from nontrivial.manifests import media
from nontrivial.manifests.media import (
    MediaError,
    NameIndex,
    decode_image,
    read_image,
    resolve,
)
from tests import rows
from tests.media_files import write_image


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(media).failed == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A media root with a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "root"
    write_image(folder / "inside" / "a.jpg")
    return folder


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "../../etc/passwd",
        "inside/../../secret.txt",
        "/etc/passwd",
        "inside/link.txt",
        "linked/secret.txt",
        "../root2/a.jpg",
        "loop/a.jpg",
        "a\0.jpg",
        "x" * 5000,
    ],
    ids=lambda path: repr(path)[:24],
)
def test_a_path_that_leaves_its_root_is_refused(root, path):
    (root / "inside/link.txt").symlink_to(root.parent / "secret.txt")
    (root / "linked").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    (root.parent / "root2").mkdir()
    with pytest.raises(MediaError):
        read_image(rows.media(path), root)


def test_paths_within_the_root_are_followed_even_through_links(root, monkeypatch):
    (root / "link.jpg").symlink_to(root / "inside/a.jpg")
    inside = (root / "inside/a.jpg").resolve()
    for path in ("inside/a.jpg", "link.jpg", "inside/../inside/a.jpg", str(inside)):
        assert resolve(root, path) == inside
    monkeypatch.chdir(root)
    assert resolve(".", "inside/a.jpg") == inside


def test_a_file_is_found_by_its_name_unless_two_bear_it(root):
    write_image(root / "b/x.jpg")
    write_image(root / "c/x.jpg")
    index = NameIndex(root)
    assert index.find("/mnt/elsewhere/a.jpg") == "inside/a.jpg"
    assert index.find("missing.jpg") is None
    with pytest.raises(MediaError, match=r"'x.jpg' is ambiguous under .*: b/x.jpg, c/x.jpg"):
        index.find("x.jpg")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        NameIndex(root / "none")


def test_images_come_as_upright_rgb_from_files_and_bytes(root):
    from PIL import Image

    grey = Image.new("LA", (4, 2), (200, 10))
    grey.save(root / "grey.png")
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "turned.jpg", exif=exif)
    assert read_image(rows.media("grey.png"), root).mode == "RGB"
    assert read_image(rows.media("turned.jpg"), root).size == (2, 4)
    data = (root / "inside/a.jpg").read_bytes()
    embedded = read_image(rows.media("a.jpg", data), None)
    assert np.array_equal(embedded, decode_image(root / "inside/a.jpg"))


def test_an_image_without_root_says_what_to_do():
    with pytest.raises(MediaError, match="--media_root"):
        read_image(rows.media("a.jpg"), None)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises an image of this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def damaged_images() -> dict[str, bytes]:
    from PIL import Image

    jpeg = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(jpeg, "JPEG")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    return {
        "truncated.jpg": jpeg.getvalue()[:700],
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500,
        "empty.jpg": b"",
        "text.jpg": b"not an image",
        "bomb.png": png_header(60_000, 60_000),
        "large.png": png_header(9_000, 9_000),
        "short.png": png_header(500, 500),
        "script.eps": eps,
    }


@pytest.mark.parametrize("name", damaged_images())
def test_a_damaged_image_is_named(root, name):
    (root / name).write_bytes(damaged_images()[name])
    with pytest.raises(MediaError, match=name):
        read_image(rows.media(name), root)


def test_large_images_are_refused_for_their_size_before_they_are_decoded(root):
    for name in ("bomb.png", "large.png"):
        with pytest.raises(MediaError, match="pixels"):
            decode_image(damaged_images()[name])


def test_a_pipe_in_the_place_of_an_image_does_not_block(root):
    os.mkfifo(root / "pipe.jpg")
    with pytest.raises(MediaError, match=r"pipe\.jpg: is not a file"):
        read_image(rows.media("pipe.jpg"), root)


@pytest.mark.filterwarnings("ignore")
def test_any_damage_to_an_image_either_decodes_or_is_a_media_error():
    from PIL import Image

    rng = random.Random(0)
    noise = Image.effect_noise((48, 48), 90).convert("RGB")
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        noise.save(buffer, kind)
        for _ in range(60):
            data = bytearray(buffer.getvalue())
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
            with contextlib.suppress(MediaError):
                assert decode_image(bytes(data)).mode == "RGB"
