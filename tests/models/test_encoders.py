"""Encoders: images become unit vectors, weights are read safely, missing ones are named."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nontrivial.manifests.errors import BadInput
from nontrivial.models import stripes
from nontrivial.models.encoders import load_encoder, load_encoders
from tests import tiny_clip
from tests.reference import stripes as reference


def photo(seed: int) -> Image.Image:
    """Coarse coloured noise, as large as a pedestrian crop."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 200, (12, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((70, 150), Image.Resampling.BICUBIC)


def batch(encoder, images) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in images])


@pytest.fixture(scope="module")
def osnet_weights(tmp_path_factory) -> Path:
    import torch
    from torchreid.reid.models.osnet import osnet_x0_25

    torch.manual_seed(0)
    network = osnet_x0_25(num_classes=7, pretrained=False)
    path = tmp_path_factory.mktemp("osnet") / "osnet.pth"
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def clip_weights(tmp_path_factory) -> Path:
    return tiny_clip.write(tmp_path_factory.mktemp("clip"))


def test_stripes_are_what_their_definition_says_pixel_by_pixel():
    pixels = np.stack([stripes.preprocess(photo(seed)) for seed in (1, 2)])
    expected = np.stack([reference.describe(image) for image in pixels])
    np.testing.assert_allclose(stripes.describe(pixels), expected, atol=1e-6)


def test_stripes_of_an_image_do_not_depend_on_its_batch():
    encoder = load_encoder("stripes")
    images = batch(encoder, [photo(seed) for seed in range(5)])
    together = encoder.encode(images)
    apart = np.concatenate([encoder.encode(image[None]) for image in images])
    np.testing.assert_array_equal(together, apart)
    assert together.shape == (5, encoder.width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_stripes_know_a_person_again_under_another_exposure_and_cast():
    encoder = load_encoder("stripes")
    people = [photo(seed) for seed in range(6)]
    other_camera = [
        Image.fromarray((np.asarray(image) * (0.7, 0.65, 0.75)).astype(np.uint8))
        for image in people
    ]
    first, second = (encoder.encode(batch(encoder, images)) for images in (people, other_camera))
    assert (first @ second.T).argmax(axis=1).tolist() == list(range(6))


def test_stripes_of_a_blank_image_are_finite():
    encoder = load_encoder("stripes")
    vector = encoder.encode(batch(encoder, [Image.new("RGB", (64, 128))]))
    assert np.isfinite(vector).all()


def test_osnet_weights_of_a_training_run_give_the_networks_own_features(osnet_weights):
    import torch
    from torchreid.reid.models.osnet import osnet_x0_25

    encoder = load_encoder(f"osnet_x0_25={osnet_weights}")
    network = osnet_x0_25(num_classes=7, pretrained=False).eval()
    saved = torch.load(osnet_weights, weights_only=True)["state_dict"]
    network.load_state_dict({key.removeprefix("module."): value for key, value in saved.items()})
    images = batch(encoder, [photo(1), photo(2)])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(torch.from_numpy(images))).numpy()
    assert (encoder.name, encoder.width) == ("osnet_x0_25", 512)
    assert images.shape == (2, 3, 256, 128)
    np.testing.assert_allclose(encoder.encode(images), expected, atol=1e-5)


def test_the_digest_tells_weights_apart(osnet_weights, tmp_path):
    import torch

    saved = torch.load(osnet_weights, weights_only=True)
    saved["state_dict"]["module.fc.0.bias"] += 1
    torch.save(saved, tmp_path / "other.pth")
    first, again, other = (
        load_encoder(f"osnet_x0_25={path}").digest
        for path in (osnet_weights, osnet_weights, tmp_path / "other.pth")
    )
    assert first == again != other


def test_a_weight_file_cannot_run_code(tmp_path):
    import torch

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(BadInput, match=r"bomb\.pth: cannot be read as tensors only"):
        load_encoder(f"osnet_x0_25={tmp_path / 'bomb.pth'}")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused_by_name(osnet_weights):
    with pytest.raises(BadInput, match=r"osnet\.pth: does not fit the network"):
        load_encoder(f"osnet_x1_0={osnet_weights}")


def test_a_clip_from_a_file_gives_open_clips_own_features_of_the_whole_person(clip_weights):
    import open_clip
    import torch

    encoder = load_encoder(f"openclip:tiny={clip_weights}")
    images = batch(encoder, [photo(1), photo(2)])
    assert images.shape == (2, 3, 32, 32)
    model = open_clip.create_model("tiny", pretrained=str(clip_weights)).eval()
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(images), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode(images), expected, atol=1e-5)
    assert (encoder.name, encoder.width) == ("openclip_tiny", 24)

    texts = ["a red shirt", "blue trousers"]
    tokens = open_clip.get_tokenizer("tiny")(texts)
    with torch.no_grad():
        expected = model.encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-5)

    headless = photo(1)
    headless.paste((0, 0, 0), (0, 0, 70, 12))
    assert np.abs(batch(encoder, [headless]) - images[:1]).max() > 0.1


def test_several_encoders_load_together_but_not_one_twice():
    assert [encoder.name for encoder in load_encoders(["stripes"])] == ["stripes"]
    with pytest.raises(BadInput, match="needs different encoders"):
        load_encoders(["stripes", "stripes"])


def test_auto_uses_weights_in_the_caches(osnet_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for name in ("osnet_x1_0_imagenet.pth", "osnet_x1_0_msmt17.pth"):
        (tmp_path / "checkpoints" / name).touch()
    from nontrivial.models.encoders import find_encoders

    assert find_encoders() == [f"osnet_x1_0={tmp_path}/checkpoints/osnet_x1_0_msmt17.pth"]


def test_auto_says_that_it_falls_back(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        encoders = load_encoders(["auto"])
    assert [encoder.name for encoder in encoders] == ["stripes"]
    assert "weight-free stand-in" in caplog.text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("osnet_x1_0", r"no weights at .*osnet_x1_0\*\.pth; fetch them from https"),
        ("osnet_x1_0=/none.pth", r"no weights at /none\.pth"),
        ("osnet_x3", "torchreid has no such OSNet; it has osnet_x1_0"),
        ("openclip:ViT-B-32", r"needs @TAG or =FILE; its tags are openai"),
        ("openclip:ViT-B-32@nonsense", r"needs @TAG or =FILE"),
        ("openclip:ViT-B-32=/none.bin", r"/none\.bin: no such file; put the model's weights there"),
        ("openclip:VIT-B-32@openai", "no such model; try .*ViT-B-32"),
        ("resnet", "unknown; give auto, stripes"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_what_to_do(spec, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BadInput, match=message):
        load_encoder(spec)
