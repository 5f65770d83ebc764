"""A folder for the Hub is read by `load_dataset`, whole and streamed, and by ourselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from datasets import Image, Video, load_dataset

from nontrivial.manifests.__main__ import main
from nontrivial.manifests.parquet import read_about, read_samples, write_samples
from nontrivial.manifests.roots import name_root
from nontrivial.manifests.schema import samples_table
from tests.media_files import write_media
from tests.rows import media, reid_pair, video_question

ORIGIN = "https://some.where (CC0)"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Manifests of pairs and of questions; these have a held-out split in a file of its own."""
    root = write_media(tmp_path / "media", 3)
    name_root(root)
    about = {
        "media_root": str(root),
        "builder": "tests",
        "options": {"root": str(root), "seed": 7},
        "origins": {"clevrer": ORIGIN},
        "blind": {"after": {"soft": {"strategy": "longest", "score": 0.25}, "strict": None}},
        "shortcuts": {"market1501": {"similarity": 0.75}},
    }
    pairs = [reid_pair(f"pair-{i}", images=[media("0.jpg"), media(f"{i}.jpg")]) for i in (1, 2)]
    asked = [video_question(f"q-{i}", videos=[media("clip.mp4")]) for i in range(3)]
    held = [video_question("q-9", videos=[media("clip.mp4")], split="val", group="clevrer:9")]
    for name, rows in (("pairs", pairs), ("asked", asked), ("eval/asked_val", held)):
        write_samples(samples_table(rows), tmp_path / f"{name}.parquet", about)
    return tmp_path


def exported(world: Path, *words: str) -> Path:
    files = [str(world / name) for name in ("pairs.parquet", "asked.parquet", "eval/*.parquet")]
    assert main(["export", *files, "--to", "hub", "--out", str(world / "hub"), *words]) == 0
    return world / "hub"


def rows_of(world: Path, config: str, split: str, *, streaming: bool) -> list[dict]:
    data = load_dataset(
        str(world / "hub"), config, split=split, streaming=streaming, cache_dir=str(world / "c")
    )
    return list(data)


@pytest.mark.parametrize("streaming", [False, True])
def test_media_stay_out_and_rows_are_read(world, streaming):
    exported(world)
    for config, split, count in (
        ("pairs", "train", 2),
        ("asked", "train", 3),
        ("asked", "validation", 1),
    ):
        rows = rows_of(world, config, split, streaming=streaming)
        assert len(rows) == count
        items = [item for row in rows for kind in ("images", "videos") for item in row[kind] or []]
        assert {item["bytes"] for item in items} == {None}
        assert {item["path"] for item in items} <= {"0.jpg", "1.jpg", "2.jpg", "clip.mp4"}
        assert {row["answer"][0] for row in rows} == {"B"}


@pytest.mark.parametrize("streaming", [False, True])
def test_embedded_media_are_typed_and_decoded(world, streaming):
    out = exported(world, "--embed_media")
    (world / "media").rename(world / "gone")
    data = load_dataset(
        str(out), "pairs", split="train", streaming=streaming, cache_dir=str(world / "c")
    )
    assert isinstance(data.features["images"].feature, Image)
    assert [len(row["images"]) for row in data] == [2, 2]
    assert all(min(picture.size) > 0 for row in data for picture in row["images"])
    clips = load_dataset(
        str(out), "asked", split="validation", streaming=streaming, cache_dir=str(world / "c")
    )
    assert isinstance(clips.features["videos"].feature, Video)
    raw = clips.cast_column("videos", [Video(decode=False)])
    [row] = list(raw)
    assert row["videos"][0]["bytes"] == (world / "gone" / "clip.mp4").read_bytes()


def test_what_is_written_is_a_manifest_without_this_machine(world):
    out = exported(world)
    files = sorted(str(file) for file in out.glob("data/*/*.parquet"))
    assert len(files) == 3
    assert main(["validate", *files]) == 0
    for file in files:
        about = read_about(file)
        assert about["options"] == {"seed": 7}
        assert "media_root" not in about
        assert str(world).encode() not in Path(file).read_bytes()
    before = read_samples(world / "pairs.parquet").to_pylist()
    assert read_samples(out / "data/pairs/train.parquet").to_pylist() == before


def test_the_card_tells_configurations_origins_and_blind_rules(world):
    _, head, text = (exported(world) / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "other"
    assert {c["config_name"]: [f["split"] for f in c["data_files"]] for c in facts["configs"]} == {
        "pairs": ["train"],
        "asked": ["train", "validation"],
    }
    assert f"| clevrer | `{ORIGIN}` |" in text
    assert "| after, soft | `longest 0.250` |" in text
    assert "| pairs | `similarity 0.750` |" in text
    assert "by default media are left out" in text
    assert "3 rows of video_qa. 3 train." in text
    assert str(world) not in text


def test_the_one_command_is_printed_and_nothing_is_pushed(world, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", None)
    out = exported(world)
    assert f"hf upload USER/NAME {out} . --repo-type dataset --private" in capsys.readouterr().out


def test_rows_whose_media_are_gone_are_counted_when_they_are_embedded(world, capsys):
    (world / "media" / "2.jpg").unlink()
    out = exported(world, "--embed_media")
    told = " ".join(capsys.readouterr().out.split())
    assert "left out: an image or a video that is not there 1" in told
    assert len(read_samples(out / "data/pairs/train.parquet")) == 1
    (world / "media" / "clip.mp4").unlink()
    words = ["export", str(world / "asked.parquet"), "--to", "hub", "--out", str(world / "x")]
    assert main([*words, "--embed_media"]) == 2
    assert "none of its images and clips is there" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(world, capsys):
    one, other = world / "pairs.parquet", world / "other" / "pairs.parquet"
    other.parent.mkdir()
    other.write_bytes(one.read_bytes())
    out = ["--out", str(world / "x")]
    assert main(["export", str(one), str(other), "--to", "hub", *out]) == 2
    assert "holds split train of pairs, too" in capsys.readouterr().err
    data = (world / "media" / "0.jpg").read_bytes()
    inside = [{"bytes": data, "path": "0.jpg"}] * 2
    row = reid_pair("pair-8", images=inside, split="val", group="market1501:8")
    write_samples(samples_table([row]), world / "pairs_val.parquet", {"builder": "tests"})
    assert main(["export", str(one), str(world / "pairs_val.parquet"), "--to", "hub", *out]) == 2
    assert "embed the media of all splits of pairs, or of none" in capsys.readouterr().err
    assert main(["export", str(one), "--to", "trl", "--embed_media", *out]) == 2
    assert "--embed_media is for --to hub" in capsys.readouterr().err
