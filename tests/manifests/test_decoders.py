"""Clips are untrusted: the frames asked for, from whole files alone, whoever decodes them."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import struct
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nontrivial.manifests import decoders
from nontrivial.manifests.decoders import sample_frames
from nontrivial.manifests.frames import Clip
from nontrivial.manifests.media import MediaError
from tests.media_files import write_clip


def brightness(clip: Clip) -> list[int]:
    return clip.frames.reshape(len(clip.frames), -1).mean(1).round().astype(int).tolist()


@pytest.fixture(params=[known.name for known in decoders.DECODERS])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a decoder that is the only one here; skips by name where it does not load."""
    alone = [known for known in decoders.installed() if known.name == request.param]
    if not alone:
        pytest.skip(f"{request.param} is not installed here, or does not find its libraries")
    monkeypatch.setattr(decoders, "DECODERS", alone)
    return request.param


def test_the_frames_that_are_sampled_are_those_asked_for(tmp_path, decoder):
    path = write_clip(tmp_path / "a.mp4", frames=24, fps=12)
    for source in (path, path.read_bytes()):
        whole = sample_frames(source, nframes=4)
        assert whole.decoder == decoder
        assert whole.indices.tolist() == [3, 9, 15, 21]
        assert np.abs(np.subtract(brightness(whole), [30, 90, 150, 210])).max() <= 3
        assert (whole.fps, whole.total) == (12.0, 24)
        assert whole.sampled_fps == pytest.approx(2.0)
        part = sample_frames(source, nframes=2, clip=(1.0, 1.5))
        assert part.indices.tolist() == [13, 16]


def test_every_decoder_gives_the_same_pixels_of_a_real_clip(shared_data, monkeypatch):
    path = shared_data / "videos" / "video_12176.mp4"
    installed = decoders.installed()
    assert len(installed) > 1
    for nframes, span in ((16, None), (4, (1.0, 1.5))):
        found = []
        for alone in installed:
            monkeypatch.setattr(decoders, "DECODERS", [alone])
            found.append(sample_frames(path, nframes=nframes, clip=span))
        assert [clip.decoder for clip in found] == [alone.name for alone in installed]
        for clip in found:
            assert (clip.total, clip.fps) == (128, 25.0)
            assert clip.frames.shape == (nframes, 320, 480, 3)
            assert np.array_equal(clip.indices, found[0].indices)
            assert np.array_equal(clip.frames, found[0].frames)


def test_a_damaged_clip_is_named_and_never_shortened_silently(tmp_path, decoder):
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


def test_a_clip_that_may_not_be_read_is_a_damaged_one(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "secret.mp4", frames=4)

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(MediaError, match=r"secret\.mp4: cannot be opened \(Permission denied"):
        sample_frames(clip)


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
        stream = part.add_stream_from_template(source.streams.video[0], opaque=True)
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


def test_frames_beyond_the_limit_are_refused(tmp_path, monkeypatch, decoder):
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(decoders, "MAX_FRAME_PIXELS", 96 * 64 - 1)
    with pytest.raises(MediaError, match="96×64 are over"):
        sample_frames(path)
    monkeypatch.undo()
    monkeypatch.setattr(decoders, "MAX_FRAMES", 23)
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


def test_many_frames_together_are_refused_before_they_are_decoded(tmp_path, monkeypatch, decoder):
    path = write_clip(tmp_path / "a.mp4", frames=100)
    monkeypatch.setattr(decoders, "MAX_CLIP_PIXELS", 50 * 96 * 64)
    assert len(sample_frames(path, nframes=50).frames) == 50
    for nframes in (51, None):
        with pytest.raises(MediaError, match=r"a.mp4: .* frames of 96×64 are over .*--nframes"):
            sample_frames(path, nframes=nframes)


def test_a_stream_that_grows_beyond_its_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "DECODERS", [decoders.PYAV])
    path = write_clip(tmp_path / "grown.mpg", codec="mpeg2video")
    monkeypatch.setattr(decoders, "_check_size", lambda *_: None)  # as if the header were small
    monkeypatch.setattr(decoders, "MAX_FRAME_PIXELS", 96 * 64 - 1)
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


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_of_a_varying_rate_lie_in_the_span_asked_for(tmp_path, decoder, suffix):
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


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_a_title_in_another_encoding_does_no_harm(tmp_path, decoder, suffix):
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


@pytest.mark.parametrize("embedded", [False, True])
def test_a_stream_without_a_height_or_a_known_format_is_named(tmp_path, decoder, embedded):
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


def test_a_decoder_that_is_not_there_is_passed_over(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")
    for name in ("torchcodec", "decord"):
        monkeypatch.setitem(sys.modules, name, None)
    decoders._loaded.cache_clear()
    assert sample_frames(path).decoder == "PyAV"
    assert decoders.named() == f"clips are read by PyAV {av.__version__}"
    decoders._loaded.cache_clear()


def test_the_log_names_the_decoder_where_there_are_clips(capsys):
    decoders.report([{"videos": None}, {"videos": []}])
    assert capsys.readouterr().err == ""
    decoders.report([{"videos": []}, {"videos": [{"path": "a.mp4", "bytes": None}]}])
    first = decoders.installed()[0].name
    assert capsys.readouterr().err.startswith(f"clips are read by {first} ")


def test_a_decoder_that_has_found_no_ffmpeg_is_not_there(tmp_path, monkeypatch):
    """Newer versions of torchcodec load without it, for images, and fail at each clip."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, version in (("without_ffmpeg", "None"), ("with_ffmpeg", "8")):
        (tmp_path / f"{name}.py").write_text(f"ffmpeg_major_version = {version}\n")
    assert decoders._loaded("without_ffmpeg") is None
    assert decoders._loaded("with_ffmpeg")


def test_a_decoder_that_fails_gives_way_to_the_next(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("lost its way\nand more")

    path = write_clip(tmp_path / "a.mp4")
    first = decoders.Decoder("first", "json", fails)
    monkeypatch.setattr(decoders, "DECODERS", [first, decoders.PYAV])
    assert sample_frames(path).decoder == "PyAV"
    assert decoders.named() == (
        f"clips are read by first {json.__version__}, and where it fails by PyAV {av.__version__}"
    )
    monkeypatch.setattr(decoders, "DECODERS", [first])
    with pytest.raises(
        MediaError, match=r"a\.mp4: is not a readable video \(first: lost its way\)"
    ):
        sample_frames(path)


def test_what_decord_crashes_at_or_prints_is_left_to_another_decoder(tmp_path, monkeypatch, capfd):
    """It prints the bytes of an embedded clip that it can't open, or its path, as they are."""
    asked = decoders.Decoder("decord", "decord", lambda *_, **__: pytest.fail("asked decord"))
    monkeypatch.setattr(decoders, "DECODERS", (asked, decoders.PYAV))
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


@pytest.mark.parametrize("embedded", [False, True])
def test_what_a_reader_of_text_may_take_is_opened_by_its_own_reader_alone(
    tmp_path, monkeypatch, embedded
):
    """Others let FFmpeg choose the reader, which may then open what the text names."""
    asked = []

    def noted(source, look, **sampling):
        asked.append(source)
        return decoders.PYAV.sample(source, look, **sampling)

    noting = decoders.Decoder("noting", "json", noted)
    monkeypatch.setattr(decoders, "DECODERS", [noting])
    path = write_clip(tmp_path / "a.ts", codec="mpeg2video")
    packets = path.read_bytes()
    sample_frames(packets if embedded else path)
    assert len(asked) == 1
    text = b"G\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n".ljust(188, b"\n") + b"G".ljust(188)
    path.write_bytes(text + packets)
    assert sample_frames(path.read_bytes() if embedded else path).decoder == "PyAV"
    assert len(asked) == 1


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_clip_that_a_phone_took_on_its_side_is_turned_upright(tmp_path, decoder, degrees):
    """A matrix in its header says how; each quarter of the picture has another brightness."""
    picture = np.kron([[20, 90], [160, 230]], np.ones((64, 64))).astype(np.uint8)
    straight = tmp_path / "straight.mp4"
    with av.open(str(straight), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(np.dstack([picture] * 3), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path = tmp_path / "turned.mp4"
    path.write_bytes(with_matrix(straight.read_bytes(), degrees))
    found = sample_frames(path, nframes=2)
    assert found.decoder == decoder
    corners = found.frames[0, 32::64, 32::64, 0].astype(int)
    clockwise = np.rot90([[20, 90], [160, 230]], -degrees // 90)
    assert np.abs(corners - clockwise).max() <= 4


def with_matrix(data: bytes, degrees: int) -> bytes:
    """An MP4 file whose first track is to be turned clockwise by that angle, a multiple of 90."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]

    def matrix(cosine: int, sine: int) -> bytes:
        unit, last = 1 << 16, 1 << 30
        return struct.pack(
            ">9i", cosine * unit, sine * unit, 0, -sine * unit, cosine * unit, 0, 0, 0, last
        )

    place = data.index(matrix(1, 0), data.index(b"tkhd"))
    return data[:place] + matrix(cosine, sine) + data[place + 36 :]


def test_without_any_decoder_the_extra_is_named(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"nontrivial\[video\]") as error:
        sample_frames(path)
    assert not isinstance(error.value, MediaError), "the clip isn't to blame"
