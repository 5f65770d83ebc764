"""Video containers that are opened, told by their first bytes.

FFmpeg reads some three hundred formats. Playlists, concat scripts, manifests of streams and session
descriptions among them name other files and addresses, which it would open. So a file is opened
only if it begins like one of a few containers, and only by that container's reader.
"""

from __future__ import annotations

START = 32  # bytes in which files of these containers have a NUL; few of Matroska's have none
NEEDED = 377  # bytes from the start of a file that tell its container
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def container_of(head: bytes) -> str | None:
    """Return FFmpeg's name of the reader of a file that begins with these bytes, or None.

    >>> container_of(b"\\0\\0\\0\\x18ftypmp42"), container_of(b"#EXTM3U\\n#EXTINF:1,\\n/etc/passwd")
    ('mov', None)
    """
    if head[4:8] in _BOXES:
        return "mov"
    if head[:4] == b"RIFF":
        return "avi" if head[8:12] == b"AVI " else None
    for start, name in (
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"FLV\x01", "flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (b"OggS", "ogg"),
        (b"\x00\x00\x01\xba", "mpeg"),
        (b"\x00\x00\x01\xb3", "mpegvideo"),
    ):
        if head.startswith(start):
            return name
    # Packets of a transport stream begin with a G, 188 or 192 bytes apart.
    for size, first in ((188, 0), (192, 4)):
        if all(head[at : at + 1] == b"G" for at in (first, first + size)):
            return "mpegts"
    return None


def is_binary(head: bytes) -> bool:
    """True if no reader of text can take a file for its own: it has a NUL among its first bytes.

    A file may begin like a container and go on as a playlist. FFmpeg's readers of text, the only
    ones that open other files, look for their marks up to the first NUL. A decoder that lets FFmpeg
    choose the reader must get no file without one.

    >>> is_binary(b"\\0\\0\\0\\x18ftypmp42"), is_binary(b"free free <MPD xmlns='urn:mpeg:dash'>")
    (True, False)
    """
    return b"\0" in head[:START]
