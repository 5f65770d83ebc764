"""Embedding: every whole image once, from wherever a killed run stopped."""

from __future__ import annotations

import itertools
import os
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from nontrivial.builders.embed import main
from nontrivial.builders.reid import vector_cache, vectors
from nontrivial.builders.reid.sources import read_source
from nontrivial.manifests.files import claim
from nontrivial.manifests.parquet import read_about, read_table
from nontrivial.manifests.schema import validate_embeddings
from nontrivial.models.encoders import Stripes, load_encoder
from tests.builders.reid import market


@pytest.fixture
def data(tmp_path):
    return market.draw(tmp_path / "data").parent


def run(data, out, *words: str, split: str = "train") -> int:
    words = ("--encoder", "stripes", "--split", split, *words)
    return main(["--root", str(data), "--out", str(out), *words])


def table_of(out, split: str = "train"):
    return out / "embeddings" / f"market1501_{split}.parquet"


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """Sizes of the batches that stripes encoded."""
    sizes: list[int] = []
    encode = Stripes.encode
    monkeypatch.setattr(
        Stripes, "encode", lambda self, batch: sizes.append(len(batch)) or encode(self, batch)
    )
    return sizes


def test_the_table_holds_each_image_with_its_own_vector(data, tmp_path):
    assert run(data, tmp_path, "--batch_size", "7", split="test") == 0
    content = read_table(table_of(tmp_path, "test"))
    validate_embeddings(content)
    frame = read_source("market1501", data, "test").frame
    assert content.column("path").to_pylist() == frame["path"].to_list()
    encoder = load_encoder("stripes")
    from nontrivial.manifests.media import decode_image

    for row in (0, 20, len(content) - 1):
        image = decode_image(data / frame["path"][row])
        expected = encoder.encode(encoder.preprocess(image)[None])[0]
        np.testing.assert_array_equal(content.column("vector_stripes")[row].as_py(), expected)
    assert read_about(table_of(tmp_path, "test"))["encoders"] == {"stripes": encoder.digest}


def test_distractors_are_gallery_images_and_junk_stays_junk(data, tmp_path):
    assert run(data, tmp_path, split="test") == 0
    rows = read_table(table_of(tmp_path, "test"), ["pid", "role"]).to_pylist()
    roles = {row["pid"].split("/")[-1]: row["role"] for row in rows}
    assert (roles["0000"], roles["-1"]) == ("gallery", "junk")


def test_a_damaged_image_is_named_counted_and_left_out(data, tmp_path, caplog, capsys):
    broken = sorted((data / market.FOLDER / "bounding_box_train").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:300])
    (data / market.FOLDER / "bounding_box_train" / "Thumbs.db").touch()
    assert run(data, tmp_path, "--max_bad", "0.05") == 0
    assert broken.name in caplog.text
    paths = read_table(table_of(tmp_path)).column("path").to_pylist()
    assert len(paths) == 12 * 6 - 1
    assert not any(path.endswith(broken.name) for path in paths)
    counts = read_about(table_of(tmp_path))["counts"]
    assert (counts["damaged"], counts["ignored"]) == (1, [{"not an image name": 1}])
    assert "not an image name" in capsys.readouterr().out


def test_too_many_damaged_images_end_the_run_and_are_listed(data, tmp_path, capsys):
    broken = sorted((data / market.FOLDER / "bounding_box_train").iterdir())[5]
    broken.write_bytes(b"")
    assert run(data, tmp_path) == 2
    message = capsys.readouterr().err
    assert broken.name in message
    assert "--max_bad" in message
    assert not table_of(tmp_path).exists()


def test_a_second_run_encodes_nothing_and_writes_the_same(data, tmp_path, encoded):
    assert run(data, tmp_path) == 0
    first, digest = sum(encoded), read_about(table_of(tmp_path))["content_digest"]
    assert run(data, tmp_path) == 0
    assert first == sum(encoded) == 12 * 6
    assert read_about(table_of(tmp_path))["content_digest"] == digest


def test_only_images_that_changed_are_encoded_again(data, tmp_path, encoded):
    assert run(data, tmp_path) == 0
    encoded.clear()
    first, second, *_ = sorted((data / market.FOLDER / "bounding_box_train").iterdir())
    first.write_bytes(second.read_bytes())
    assert run(data, tmp_path) == 0
    assert encoded == [1]
    vectors = read_table(table_of(tmp_path)).column("vector_stripes").to_pylist()
    assert vectors[0] == vectors[1]


@pytest.mark.parametrize("last", [1, 4, 7])
def test_a_run_that_dies_goes_on_after_its_last_whole_shard(data, tmp_path, monkeypatch, last):
    monkeypatch.setattr(vectors, "SHARD", 16)
    assert run(data, tmp_path / "whole", "--batch_size", "8") == 0

    class KilledError(BaseException):
        pass

    calls = itertools.count(1)
    encode = Stripes.encode

    def dying(self, batch):
        if next(calls) > last:
            raise KilledError
        return encode(self, batch)

    monkeypatch.setattr(Stripes, "encode", dying)
    with pytest.raises(KilledError):
        run(data, tmp_path / "dead", "--batch_size", "8")
    assert not table_of(tmp_path / "dead").exists()

    sizes: list[int] = []
    monkeypatch.setattr(Stripes, "encode", lambda s, b: sizes.append(len(b)) or encode(s, b))
    assert run(data, tmp_path / "dead", "--batch_size", "8") == 0
    assert sum(sizes) == 12 * 6 - last // 2 * 16
    digests = [
        read_about(table_of(tmp_path / name))["content_digest"] for name in ("whole", "dead")
    ]
    assert digests[0] == digests[1]


def test_a_torn_file_of_a_killed_writer_is_not_taken_for_a_shard(data, tmp_path, encoded):
    assert run(data, tmp_path) == 0
    (folder,) = (tmp_path / vector_cache.CACHE).iterdir()
    (folder / ".abc.parquet.x1.tmp").write_bytes(b"PAR1")
    assert run(data, tmp_path) == 0
    assert sum(encoded) == 12 * 6


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.99])
def test_a_shard_with_a_flipped_bit_is_made_again(data, tmp_path, encoded, caplog, place):
    assert run(data, tmp_path) == 0
    digest = read_about(table_of(tmp_path))["content_digest"]
    (folder,) = (tmp_path / vector_cache.CACHE).iterdir()
    (shard,) = folder.iterdir()
    content = bytearray(shard.read_bytes())
    content[int(place * len(content))] ^= 16
    shard.write_bytes(content)
    encoded.clear()
    assert run(data, tmp_path) == 0
    assert sum(encoded) == 12 * 6
    assert "damaged; its vectors are made again" in caplog.text
    assert read_about(table_of(tmp_path))["content_digest"] == digest


def test_an_encoder_that_is_added_leaves_the_others_vectors_alone(data, tmp_path, encoded):

    import torch
    from torchreid.reid.models.osnet import osnet_x0_25

    weights = tmp_path / "osnet.pth"
    torch.save(osnet_x0_25(num_classes=1, pretrained=False).state_dict(), weights)
    assert run(data, tmp_path) == 0
    encoded.clear()
    words = ["--encoder", "stripes", f"osnet_x0_25={weights}"]
    assert main(["--root", str(data), "--out", str(tmp_path), *words]) == 0
    assert encoded == []
    schema = pq.read_schema(table_of(tmp_path))
    assert {"vector_stripes", "vector_osnet_x0_25"} < set(schema.names)


def test_ray_gives_the_same_result(data, tmp_path):
    pytest.importorskip("ray", reason="--engine ray needs the extra `ray`")
    (data / market.FOLDER / "bounding_box_train" / "0001_c1s1_999999_01.jpg").write_bytes(b"broken")
    digests, words = set(), ("--batch_size", "20", "--max_bad", "0.1")
    for engine in ("local", "ray"):
        assert run(data, tmp_path / engine, *words, "--engine", engine) == 0
        about = read_about(table_of(tmp_path / engine))
        assert about["counts"]["damaged"] == 1
        digests.add(about["content_digest"])
    assert len(digests) == 1


def test_workers_and_batches_do_not_change_the_result(data, tmp_path):
    digests = set()
    for words in (("--workers", "1", "--batch_size", "5"), ("--workers", "4")):
        out = tmp_path / words[1]
        assert run(data, out, *words) == 0
        digests.add(read_about(table_of(out))["content_digest"])
    assert len(digests) == 1


def test_a_second_process_on_one_table_says_so_and_leaves(data, tmp_path, capsys):
    with claim(table_of(tmp_path)):
        assert run(data, tmp_path) == 2
    assert "another process is writing it" in capsys.readouterr().err


def test_missing_data_is_the_users_to_mend(tmp_path, capsys):
    assert run(tmp_path / "none", tmp_path) == 2
    assert "nontrivial synthetic" in capsys.readouterr().err


def test_work_ahead_keeps_the_order_and_runs_no_further_than_its_window():
    started = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.append(item)
        time.sleep(0.001 * (item % 3))
        return item

    results = vectors.ahead(range(50), work, workers=4, window=6)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 7
    assert list(results) == list(range(1, 50))


def test_a_file_key_changes_with_the_file(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"1")
    os.utime(file, ns=(1, 1))
    first = vector_cache.file_key(tmp_path, "a.jpg")
    os.utime(file, ns=(1, 2))
    later = vector_cache.file_key(tmp_path, "a.jpg")
    os.utime(file, ns=(1, 1))
    assert first == vector_cache.file_key(tmp_path, "a.jpg") != later
    file.write_bytes(b"22")
    os.utime(file, ns=(1, 1))
    assert vector_cache.file_key(tmp_path, "a.jpg") != first
