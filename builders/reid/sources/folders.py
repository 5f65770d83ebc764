"""Data sets whose folders are their splits and whose file names say everything else."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from nontrivial.builders.reid.sources.data_set import NOT_AN_IMAGE, Photo

Scan = Callable[[Path, str, Counter[str]], Iterator[Photo]]


def scan_folders(
    folders: Mapping[str, Iterable[tuple[str, str]]],
    name: re.Pattern[str],
    nobody: Mapping[str, str] | None = None,
) -> Scan:
    """A scan of (folder, role) parts by split; names are matched whole.

    `name` has the groups `pid` and `camid`, and `clothes` where names tell the outfit. `nobody`
    gives the roles of what the benchmark uses as identities that belong to nobody.
    """

    def scan(folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
        for part, role in folders[split]:
            for file in sorted(os.listdir(folder / part)):
                match = name.fullmatch(file)
                if match is None:
                    ignored[NOT_AN_IMAGE] += 1
                    continue
                found = match.groupdict()
                pid = found["pid"]
                yield Photo(
                    path=f"{part}/{file}",
                    pid=pid,
                    camid=int(found["camid"]),
                    role=(nobody or {}).get(pid, role),
                    clothes=found.get("clothes"),
                )

    return scan
