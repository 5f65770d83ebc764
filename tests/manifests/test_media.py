"""Media are untrusted: what leaves the root, is too large or damaged is refused by name."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import random
import socket
import struct
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nontrivial.manifests import media
from nontrivial.manifests.media import (
    Clip,
    MediaError,
    NameIndex,
    decode_image,
    frame_indices,
    read_image,
    resolve,
    sample_frames,
)
from tests import rows
from tests.media_files import write_clip, write_image


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


@pytest.mark.parametrize("total", [1, 2, 7, 128])
@pytest.mark.parametrize("wanted", [1, 2, 8, 500, None])
@pytest.mark.parametrize("clip", [None, (0.0, 0.01), (0.1, 0.3), (0.2, 99.0), (50.0, 60.0)])
def test_frame_numbers_ascend_are_distinct_and_lie_in_their_range(total, wanted, clip):
    rate = 10.0
    found = frame_indices(total, rate, nframes=wanted, clip=clip)
    assert len(found) >= 1
    assert wanted is None or len(found) <= wanted
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < total
    if clip is None and wanted is not None and wanted <= total:
        assert len(found) == wanted
        shares = found * wanted // total
        assert shares.tolist() == list(range(wanted)), "one frame from each equal share"
    if clip and clip[1] * rate <= total:
        assert found[0] >= np.floor(clip[0] * rate)
        assert found[-1] <= max(np.floor(clip[0] * rate), clip[1] * rate)


def test_a_rate_takes_that_many_frames_of_a_second_up_to_the_most():
    assert len(frame_indices(100, 10.0, nframes=None, fps=2.0)) == 20
    assert len(frame_indices(100, 10.0, nframes=8, fps=2.0)) == 8
    assert len(frame_indices(100, 10.0, nframes=64, fps=2.0, clip=(1.0, 2.0))) == 2


def brightness(clip: Clip) -> list[int]:
    return clip.frames.reshape(len(clip.frames), -1).mean(1).round().astype(int).tolist()


def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
def test_the_frames_that_are_sampled_are_those_asked_for(tmp_path, monkeypatch, decoder):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    path = write_clip(tmp_path / "a.mp4", frames=24, fps=12)
    for source in (path, path.read_bytes()):
        whole = sample_frames(source, nframes=4)
        assert whole.indices.tolist() == [3, 9, 15, 21]
        assert np.abs(np.subtract(brightness(whole), [30, 90, 150, 210])).max() <= 3
        assert (whole.fps, whole.total) == (12.0, 24)
        assert whole.sampled_fps == pytest.approx(2.0)
        part = sample_frames(source, nframes=2, clip=(1.0, 1.5))
        assert part.indices.tolist() == [13, 16]


def test_both_decoders_give_the_same_pixels_of_a_real_clip(shared_data, monkeypatch):
    path = shared_data / "videos" / "video_12176.mp4"
    first = sample_frames(path, nframes=16)
    assert first.frames.shape == (16, 320, 480, 3)
    assert (first.total, first.fps) == (128, 25.0)
    without_decord(monkeypatch)
    second = sample_frames(path, nframes=16)
    assert np.array_equal(first.indices, second.indices)
    assert np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
def test_a_damaged_clip_is_named_and_never_shortened_silently(tmp_path, monkeypatch, decoder):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    good = write_clip(tmp_path / "good.mp4", frames=60, movflags="faststart").read_bytes()
    late_index = write_clip(tmp_path / "late.mp4").read_bytes()
    damaged = {
        "empty.mp4": b"",
        "text.mp4": b"not a video at all" * 10,
        "cut.mp4": good[: int(len(good) * 0.9)],
        "no_index.mp4": late_index[:-200],
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=name):
            sample_frames(tmp_path / name)
    with pytest.raises(MediaError, match="embedded video: is not a readable video"):
        sample_frames(damaged["text.mp4"])
    with pytest.raises(MediaError, match=r"missing\.mp4: cannot be opened \(No such file"):
        sample_frames(tmp_path / "missing.mp4")


CONTAINERS = {
    "mp4": "libx264",
    "mov": "libx264",
    "mkv": "libx264",
    "webm": "libvpx-vp9",
    "avi": "mpeg4",
    "flv": "flv",
    "wmv": "msmpeg4",
    "ts": "mpeg2video",
    "mpg": "mpeg2video",
}


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("embedded", [False, True])
def test_the_containers_of_data_sets_are_read_by_path_and_embedded(tmp_path, suffix, embedded):
    path = write_clip(tmp_path / f"clip.{suffix}", frames=50, fps=25, codec=CONTAINERS[suffix])
    made = sample_frames(path.read_bytes() if embedded else path, nframes=2)
    assert made.frames.shape == (2, 64, 96, 3)


@pytest.mark.parametrize("before", ["", " ", "\ufeff", "\n"])
@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n",
        "ffconcat version 1.0\nfile {secret}\n",
        "ffconcat version 1.0\nfile {url}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><BaseURL>{url}"
        "</BaseURL></Period></MPD>",
        "# VidSub index file, v7\nfile: {secret}\n",
        "[playlist]\nFile1={url}\n",
    ],
)
def test_nothing_that_names_other_files_is_opened(tmp_path, text, embedded, before):
    secret = write_clip(tmp_path / "secret.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/x.mp4"
        path = tmp_path / "clip.mp4"
        path.write_text(before + text.format(url=url, port=port, secret=secret))
        with pytest.raises(MediaError, match="is not a readable video"):
            sample_frames(path.read_bytes() if embedded else path)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


def test_frames_that_an_edit_list_hides_are_not_sampled(tmp_path):
    """Clips cut out of longer ones without encoding them again begin with hidden frames."""
    whole = write_clip(tmp_path / "whole.mp4", frames=100, fps=20)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "part.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as part,
    ):
        stream = part.add_stream_from_template(source.streams.video[0])
        begin = int(2.0 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - begin,
                    packet.dts - begin,
                    stream,
                )
                part.mux(packet)
    found = sample_frames(tmp_path / "part.mp4", nframes=3)
    assert found.total == 60
    expected = [10 * (40 + index) % 250 for index in found.indices]
    assert np.abs(np.subtract(brightness(found), expected)).max() <= 3


def test_a_clip_that_is_damaged_inside_is_refused_or_whole(tmp_path):
    rng = random.Random(0)
    good = write_clip(tmp_path / "good.mp4", frames=60, movflags="faststart").read_bytes()
    start = good.index(b"mdat") + 4
    refused = 0
    for number in range(30):
        data = bytearray(good)
        for _ in range(4):
            data[rng.randrange(start, len(data))] = rng.randrange(256)
        (tmp_path / f"{number}.mp4").write_bytes(data)
        try:
            total = sample_frames(tmp_path / f"{number}.mp4").total
        except MediaError:
            refused += 1
        else:
            assert total >= 57
    assert 0 < refused < 30


def test_a_file_with_sound_only_is_no_clip(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(MediaError, match=r"sound\.mp4: is not a readable video"):
        sample_frames(tmp_path / "sound.mp4")


def test_frames_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(media, "MAX_FRAME_PIXELS", 96 * 64 - 1)
    with pytest.raises(MediaError, match="96×64 are over"):
        sample_frames(path)
    monkeypatch.undo()
    monkeypatch.setattr(media, "MAX_FRAMES", 23)
    for decoder in (None, without_decord):
        if decoder:
            decoder(monkeypatch)
        with pytest.raises(MediaError, match="over 23"):
            sample_frames(path)


@pytest.mark.parametrize("embedded", [False, True])
def test_a_small_file_with_huge_frames_is_refused_before_it_is_decoded(tmp_path, embedded):
    path = tmp_path / "huge.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 4096, 4096, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((6144, 4096), np.uint8), "yuv420p")
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    assert path.stat().st_size < 100_000
    name = "embedded video" if embedded else "huge.mp4"
    with pytest.raises(MediaError, match=f"{name}: frames of 4096×4096 are over"):
        sample_frames(path.read_bytes() if embedded else path)


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
def test_many_frames_together_are_refused_before_they_are_decoded(tmp_path, monkeypatch, decoder):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    path = write_clip(tmp_path / "a.mp4", frames=100)
    monkeypatch.setattr(media, "MAX_CLIP_PIXELS", 50 * 96 * 64)
    assert len(sample_frames(path, nframes=50).frames) == 50
    for nframes in (51, None):
        with pytest.raises(MediaError, match=r"a.mp4: .* frames of 96×64 are over .*--nframes"):
            sample_frames(path, nframes=nframes)


def test_a_stream_that_grows_beyond_its_header_is_refused(tmp_path, monkeypatch):
    without_decord(monkeypatch)
    path = write_clip(tmp_path / "grown.mpg", codec="mpeg2video")
    monkeypatch.setattr(media, "_check_size", lambda *_: None)  # as if the header were small
    monkeypatch.setattr(media, "MAX_FRAME_PIXELS", 96 * 64 - 1)
    with pytest.raises(MediaError, match=r"grown.mpg: is not a readable video"):
        sample_frames(path)


def write_varying(path: Path, begins: Sequence[float]) -> Path:
    """A clip whose frames begin at these seconds; frame t is told by its brightness, 10·t."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for t, begin in enumerate(begins):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 10 * t, np.uint8), "rgb24")
            frame.pts, frame.time_base = round(begin * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_varying_rate_lie_in_the_span_asked_for(tmp_path, monkeypatch, decoder, suffix):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    begins = np.array([*np.arange(15) * 0.05, *range(2, 12)])  # a lively start, then one a second
    path = write_varying(tmp_path / f"a.{suffix}", begins)
    for span in ((4.0, 8.5), (0.1, 0.5), (0.9, 1.5), (11.5, 12.0), (3.2, 3.9), (50.0, 60.0)):
        found = sample_frames(path, nframes=3, clip=span)
        assert np.abs(np.subtract(brightness(found), 10 * found.indices)).max() <= 3
        seen = begins[found.indices]
        inside = (begins >= span[0]) & (begins < span[1])
        if inside.any():
            assert ((seen >= span[0]) & (seen < span[1])).all(), (span, seen)
            assert len(seen) == min(3, inside.sum())
        else:  # nothing begins there: what is seen there began before
            assert seen.tolist() == [begins[begins < span[0]].max()]
    assert sample_frames(path, nframes=9, clip=(4.0, 9.0)).sampled_fps == pytest.approx(1.0)
    assert len(sample_frames(path, nframes=None, fps=1.0, clip=(2.0, 8.0)).indices) == 6


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_title_in_another_encoding_does_no_harm(tmp_path, monkeypatch, decoder, suffix):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a cafe in rain"
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame(96, 64, "yuv420p")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"a cafe in" in data
    path.write_bytes(data.replace(b"a cafe in", b"a caf\xe9 in"))
    for source in (path, path.read_bytes()):
        assert sample_frames(source, nframes=2).frames.shape == (2, 64, 96, 3)


@pytest.mark.parametrize("decoder", ["decord", "PyAV"])
@pytest.mark.parametrize("embedded", [False, True])
def test_a_stream_without_a_height_or_a_known_format_is_named(
    tmp_path, monkeypatch, decoder, embedded
):
    if decoder == "PyAV":
        without_decord(monkeypatch)
    h264 = write_clip(tmp_path / "a.mp4").read_bytes()
    mkv = write_clip(tmp_path / "a.mkv", codec="ffv1").read_bytes()
    size = b"\xb0\x81\x60\xba\x81\x40"  # of Matroska: 96 wide, 64 high
    assert h264.count(b"avc1") >= 1
    assert mkv.count(size) == 1
    for name, data in (
        ("unknown.mp4", h264.replace(b"avc1", b"zzzz")),
        ("flat.mkv", mkv.replace(size, b"\xb0\x81\x60\xba\x81\x00")),
        ("none.mkv", mkv.replace(size, b"\xec\x84\x00\x00\x00\x00")),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=r"is not a readable video|damaged"):
            sample_frames(data if embedded else tmp_path / name)


def test_without_any_decoder_the_extra_is_named(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")
    without_decord(monkeypatch)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"nontrivial\[video\]") as error:
        sample_frames(path)
    assert not isinstance(error.value, MediaError), "the clip isn't to blame"


def test_what_decord_crashes_at_or_prints_is_left_to_another_decoder(tmp_path, monkeypatch, capfd):
    """It prints the bytes of an embedded clip that it can't open, or its path, as they are."""
    monkeypatch.setattr(media, "_sample_with_decord", lambda *_, **__: pytest.fail("asked decord"))
    write_clip(tmp_path / "a.wmv", codec="msmpeg4")
    write_clip(tmp_path / "\x1b[31m.mp4")
    for source in (
        tmp_path / "a.wmv",
        (tmp_path / "a.wmv").read_bytes(),
        tmp_path / "\x1b[31m.mp4",
    ):
        assert sample_frames(source, nframes=2).frames.shape == (2, 64, 96, 3)
    monkeypatch.undo()
    title = b"\x1b]0;title\x07" * 100
    for head in (b"GIF89a", b"\x1a\x45\xdf\xa3", b"FLV\x01", b"OggS", b"RIFF    AVI "):
        with pytest.raises(MediaError, match="is not a readable video"):
            sample_frames(head + title)
    shown = capfd.readouterr()
    assert "\x1b" not in shown.out + shown.err
