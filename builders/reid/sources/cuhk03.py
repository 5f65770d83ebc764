"""CUHK03: 1,467 people, each seen by two cameras (Li et al., CVPR 2014).

The split is the new protocol of 767/700 identities (Zhong et al., CVPR 2017). The data set comes as
folders of PNG files, or as the original `cuhk-03.mat` with the protocol in
`cuhk03_new_protocol_config_{detected,labeled}.mat`. The images of the .mat file are unpacked once,
beside it. Boxes are the detected ones; `cuhk03:labeled` takes the boxes drawn by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nontrivial.builders.reid.sources.data_set import (
    GALLERY,
    QUERY,
    TRAIN,
    DataSet,
    Photo,
    number_of,
)
from nontrivial.builders.reid.sources.folders import BOXES, by_split, scan_folders
from nontrivial.manifests.errors import BadInput, require
from nontrivial.manifests.guarded import alone
from nontrivial.manifests.media import MAX_IMAGE_PIXELS

VARIANTS = ("detected", "labeled")
# 0003_c1_21.png: identity, camera, number
NAME = re.compile(r"(?P<pid>\d{4})_c(?P<camid>\d)_\d+\.(?:png|jpg)")
MAT, PROTOCOL = "cuhk-03.mat", "cuhk03_new_protocol_config_{boxes}.mat"
INDICES = ("train_idx", "query_idx", "gallery_idx")  # of the protocol
PUBLISHED = {
    "detected": {TRAIN: (7_365, 767), QUERY: (1_400, 700), GALLERY: (5_332, 700)},
    "labeled": {TRAIN: (7_368, 767), QUERY: (1_400, 700), GALLERY: (5_328, 700)},
}
VIEWS = 5  # a person's first five images come from the first camera of the pair


def data_set(variant: str) -> DataSet:
    """Describe CUHK03 with detected or labeled boxes."""
    boxes = variant or VARIANTS[0]
    return DataSet(
        name="cuhk03",
        folders=("CUHK03-NP", "cuhk03-np", "cuhk03_release", "cuhk03", "CUHK03"),
        layout=f"{boxes}/{{bounding_box_train,query,bounding_box_test}}/0003_c1_21.png, "
        f"or {MAT} and {PROTOCOL.format(boxes=boxes)}",
        origin="https://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html, "
        "protocol: https://github.com/zhunzhong07/person-re-ranking",
        published=PUBLISHED[boxes],
        scan=partial(_scan, boxes),
    )


def _scan(boxes: str, folder: Path, split: str, ignored: Counter[str]) -> Iterator[Photo]:
    if (folder / MAT).is_file() and not (folder / boxes).is_dir():
        return _scan_protocol(folder, boxes, split)
    parts = by_split(*(f"{boxes}/{part}" for part in BOXES))
    return scan_folders(parts, NAME)(folder, split, ignored)


def _scan_protocol(folder: Path, boxes: str, split: str) -> Iterator[Photo]:
    """Yield the images that the protocol lists by their 1-based numbers."""
    require("scipy.io", "reid", "reading CUHK03's .mat files")
    protocol = folder / PROTOCOL.format(boxes=boxes)
    if not protocol.is_file():
        raise FileNotFoundError(2, "no such file", str(protocol))
    try:
        listed = alone(_listed, protocol, split)  # damaged files crash scipy
    except ValueError as error:
        raise BadInput(f"{protocol}: is not CUHK03's protocol ({error})") from error
    images = unpack(folder, boxes).name
    for role, name, pid, camera in listed:
        yield Photo(f"{images}/{name}", pid, camera, role)


def _listed(protocol: Path, split: str) -> list[tuple[str, str, str, int]]:
    """Return role, file name, identity and camera of each image of a split."""
    from scipy.io import loadmat

    content = loadmat(protocol, variable_names=("labels", "filelist", *INDICES))
    names = [str(entry[0]) for entry in content["filelist"].ravel()]
    labels = content["labels"].ravel().tolist()
    return [
        # 1_001_1_01.png: camera pair, person, camera, number
        (role, name := names[i - 1], f"{labels[i - 1]:04d}", number_of(name.split("_")[2]))
        for key, role in by_split(*INDICES)[split]
        for i in content[key].ravel().tolist()
    ]


def unpack(folder: Path, boxes: str) -> Path:
    """Unpack `cuhk-03.mat` to PNG files, unless that was done before; return their folder.

    The folder is written whole or not at all. Raises `BadInput` for a damaged file.
    """
    target = folder / f"images_{boxes}"
    if target.is_dir():
        return target
    require("h5py", "reid", "reading CUHK03's .mat files")
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking_", dir=folder))
    try:
        alone(_save_images, folder / MAT, boxes, temporary)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except (OSError, ValueError) as error:
        if not target.is_dir():  # else another process has just unpacked it
            raise BadInput(f"{folder / MAT}: cannot be unpacked ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _save_images(file: Path, boxes: str, folder: Path) -> None:
    import h5py

    with h5py.File(file, "r") as content:
        for name, image in _images(content, boxes):
            image.save(folder / name)


def _images(content: Any, boxes: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, image) of every crop. MATLAB's cells are references, its arrays transposed."""
    from PIL import Image
    from tqdm import tqdm

    for pair, cell in enumerate(_own(content, boxes)[0], 1):
        people = _own(content, cell)[:].T  # (people, 10)
        for person, crops in enumerate(tqdm(people, f"{boxes}, camera pair {pair}"), 1):
            for number, reference in enumerate(crops, 1):
                pixels = _own(content, reference)[:].T
                if pixels.ndim == 3 and pixels.size:  # people with under ten crops have empty cells
                    view = 1 if number <= VIEWS else 2
                    yield f"{pair}_{person:03d}_{view}_{number:02d}.png", Image.fromarray(pixels)


def _own(content: Any, name: Any) -> Any:
    """Return a bounded data set of the file itself; HDF5 could read another file in its place."""
    import h5py

    if isinstance(name, str) and not isinstance(content.get(name, getlink=True), h5py.HardLink):
        raise OSError(f"{name} is no data set of this file")
    found = content[name]
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise OSError(f"{found.name} is no data set of this file")
    if found.size > MAX_IMAGE_PIXELS:
        raise OSError(f"{found.name} has {found.size} values, over {MAX_IMAGE_PIXELS}")
    return found
