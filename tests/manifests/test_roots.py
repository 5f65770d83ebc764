"""A manifest chooses no folder: its root is believed where this user put it, else asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nontrivial.builders import qa_invert
from nontrivial.manifests.__main__ import main
from nontrivial.manifests.errors import BadInput, ManifestError
from nontrivial.manifests.media import MediaError, read_image
from nontrivial.manifests.parquet import write_samples
from nontrivial.manifests.roots import media_root, name_root
from nontrivial.manifests.schema import samples_table
from tests.media_files import write_image
from tests.rows import media, reid_pair

PAIR = reid_pair(images=[media("0.jpg"), media("1.jpg")])


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """The working directory; a secret lies beside it, and nothing was named before."""
    monkeypatch.setenv("NONTRIVIAL_CACHE", str(tmp_path / "cache"))
    write_image(tmp_path / "secret" / "0.jpg")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def manifest(path: Path | str, root: object) -> Path:
    write_samples(samples_table([PAIR]), path, {"media_root": root})
    return Path(path)


def test_a_folder_below_the_working_directory_is_believed_though_it_is_a_link(here):
    (here / "data").symlink_to(here.parent / "secret")
    for recorded in ("data", str(here / "data"), ".", "data/x/.."):
        assert media_root(manifest("manifests/m.parquet", recorded)) == recorded
    assert media_root(manifest("manifests/m.parquet", "not_there_yet")) == "not_there_yet"
    assert media_root(manifest("manifests/m.parquet", None)) is None


@pytest.mark.parametrize(
    "recorded",
    ["/", "{up}/secret", "../secret", "data/../../secret", "..", "//etc", "{up}/here2", "~/../.."],
)
def test_any_other_folder_has_to_be_named(here, recorded):
    recorded = recorded.format(up=here.parent)
    path = manifest("manifests/m.parquet", recorded)
    asked = re.escape(f"m.parquet: records the media root {recorded!r}")
    with pytest.raises(BadInput, match=f"{asked}, .* --media_root"):
        media_root(path)
    assert media_root(path, given=recorded) == recorded


@pytest.mark.parametrize("recorded", [7, "", ["data"], {"a": 1}, "a\0b", False])
def test_a_root_that_is_no_folder_is_an_error_of_the_manifest(here, recorded):
    with pytest.raises(ManifestError, match=re.escape("m.parquet: records")):
        media_root(manifest("m.parquet", recorded))


def test_media_that_came_with_a_manifest_are_found_from_anywhere(here):
    folder = here.parent / "downloaded"
    write_image(folder / "images" / "0.jpg")
    path = manifest(folder / "m.parquet", "images")
    assert media_root(path) == str(folder / "images")
    assert media_root(manifest(folder / "n.parquet", str(folder / "images"))) == str(
        folder / "images"
    )
    read_image(media("0.jpg"), media_root(path))


@pytest.mark.parametrize("place", ["downloaded", "../downloaded"])
def test_a_link_that_came_with_a_manifest_is_not_followed(here, place):
    folder = Path(place)
    folder.mkdir()
    (folder / "all").symlink_to("/")
    for recorded in (f"{place}/all", str(folder.absolute() / "all")):
        with pytest.raises(BadInput, match="--media_root"):
            media_root(manifest(folder / "m.parquet", recorded))
    assert media_root(manifest(folder / "m.parquet", "all")) == "all", "one of here, which is not"


def test_the_root_of_the_file_system_lends_its_folders_to_nobody(here, monkeypatch):
    path = manifest(here / "m.parquet", "etc").absolute()
    monkeypatch.chdir("/")
    with pytest.raises(BadInput, match="--media_root"):
        media_root(path)


def test_a_root_that_a_builder_was_given_is_known(here):
    root = here.parent / "secret"
    path = manifest("m.parquet", str(root))
    with pytest.raises(BadInput, match="--media_root"):
        media_root(path)
    assert qa_invert.main(["--bench", "clevrer", "--root", "../secret"]) == 2  # holds no questions
    assert media_root(path) == str(root)
    assert media_root(manifest("n.parquet", "../secret")) == "../secret"
    with pytest.raises(BadInput, match="--media_root"):
        media_root(manifest("n.parquet", str(root.parent)))


def test_a_cache_that_cannot_be_written_is_said(here, monkeypatch, caplog):
    (here / "file").touch()
    monkeypatch.setenv("NONTRIVIAL_CACHE", str(here / "file"))
    name_root("../secret")
    assert "manifests will need --media_root" in caplog.text


def test_a_command_asks_for_the_root(here, capsys):
    write_image(here / "0.jpg")
    path = str(manifest("m.parquet", "/"))
    assert main(["gallery", path]) == 2
    assert "--media_root" in capsys.readouterr().err
    assert not (here / "gallery.html").exists()
    assert main(["gallery", path, "--media_root", "."]) == 0


def test_a_snapshot_of_the_hub_is_read_through_its_own_links_alone(here):
    cache = here.parent / "hub" / "datasets--some--set"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    write_image(cache / "blobs" / "x.jpg")
    (cache / "blobs" / "x.jpg").rename(cache / "blobs" / "123")
    write_image(cache / "refs" / "y.jpg")
    (snapshot / "images").mkdir()
    (snapshot / "images" / "0.jpg").symlink_to("../../../blobs/123")
    (snapshot / "images" / "1.jpg").symlink_to("../../../refs/y.jpg")
    made = manifest(cache / "blobs" / "456", "images")
    (snapshot / "m.parquet").symlink_to(made)
    root = media_root(snapshot / "m.parquet")
    assert root == str(snapshot / "images")
    assert read_image(media("0.jpg"), root).size == (64, 128)
    with pytest.raises(MediaError, match="leads outside its root"):
        read_image(media("1.jpg"), root)
