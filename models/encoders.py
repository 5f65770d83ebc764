"""Image encoders: images to unit vectors, whose inner product is the similarity.

    stripes                   weight-free descriptor (models/stripes.py)
    osnet_x1_0                OSNet of torchreid, weights found in torch's cache
    osnet_x1_0=weights.pth    … or in this file; any OSNet of torchreid: x0_25, ibn, ain, …
    openclip:ViT-B-32@laion2b_s34b_b79k     any open_clip model by its tag, cached or downloaded
    openclip:ViT-B-32=weights.safetensors   … or from this file
    auto                      CLIP and OSNet if their weights are on this machine, else stripes

Reading a weight file executes nothing in it (safetensors, or torch's `weights_only`).
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nontrivial.manifests import hub
from nontrivial.manifests.errors import BadInput, first_line, require
from nontrivial.models import stripes

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

AUTO = "auto"
# Models that `auto` looks for, and the repositories whose files open_clip caches.
AUTO_CLIP = (
    ("ViT-B-16", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    ("ViT-B-32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
)
AUTO_OSNET = ("osnet_ain_x1_0", "osnet_ibn_x1_0", "osnet_x1_0")
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OSNET_SIZE = (128, 256)  # width, height, as torchreid trains OSNet
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
TEXTS = 256  # encoded at once
MODEL_ZOO = "https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO"

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """A map from images to unit vectors.

    `preprocess` runs in many threads at once, `encode` in one. `digest` changes with the weights
    and the preprocessing only; `spec` loads the same encoder again.
    """

    spec: str
    name: str
    width: int
    digest: str

    def preprocess(self, image: Image) -> np.ndarray:
        """Turn an RGB image into an array, of the same shape and dtype for all images."""

    def encode(self, batch: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Encode B preprocessed images as (B, width) float32 unit vectors."""


def load_encoders(
    specs: Sequence[str], device: str | None = None, precision: str = "auto"
) -> list[Encoder]:
    """Load encoders by their specifications (see the module), `auto` resolved.

    Networks run in half precision on a GPU, unless `precision` is "full". Raises `BadInput` for an
    unknown name, missing weights, or two encoders of one name.
    """
    resolved = [name for spec in specs for name in (find_encoders() if spec == AUTO else [spec])]
    encoders = [load_encoder(spec, device, precision) for spec in resolved]
    names = [encoder.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise BadInput(f"--encoder {' '.join(specs)}: needs different encoders, got {names}")
    return encoders


def load_encoder(spec: str, device: str | None = None, precision: str = "auto") -> Encoder:
    """Load an encoder by its specification; `device` defaults to a GPU if there is one."""
    name, _, file = spec.partition("=")
    if name == "stripes" and not file:
        return Stripes()
    if name.startswith("openclip:"):
        model, _, tag = name.removeprefix("openclip:").partition("@")
        encoder = _load_clip(model, tag, file, device, precision)
    elif name.startswith("osnet"):
        encoder = _load_osnet(name, file, device, precision)
    else:
        raise BadInput(
            f"--encoder {spec}: unknown; give auto, stripes, osnet_x1_0[=FILE], "
            "openclip:MODEL@TAG or openclip:MODEL=FILE"
        )
    encoder.spec = spec
    return encoder


def find_encoders() -> list[str]:
    """Return the specifications that `auto` stands for: those with weights on this machine."""
    specs = [spec for spec in (_cached_clip(), _cached_osnet()) if spec]
    if not specs:
        logger.warning(
            "no weights of CLIP or OSNet on this machine: using `stripes`, a weight-free stand-in; "
            "name real encoders with --encoder osnet_x1_0=FILE openclip:ViT-B-16@laion2b_s34b_b88k"
        )
    return specs or ["stripes"]


class Stripes:
    """The weight-free descriptor of `models.stripes`."""

    spec = name = "stripes"
    width = stripes.LENGTH
    # Raise the number when the descriptor changes.
    digest = hashlib.sha256(b"stripes 1").hexdigest()

    def preprocess(self, image: Image) -> np.ndarray:
        return stripes.preprocess(image)

    def encode(self, batch: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        return stripes.describe(np.asarray(batch))


class Network:
    """A torch network as an encoder.

    `embed` maps a (B, 3, H, W) batch to features with `network`'s weights; `recipe` says how images
    are preprocessed and enters the digest.
    """

    spec: str
    # Features of texts in the images' space, (B, width); None for a network that reads none.
    read: Callable[[Sequence[str]], torch.Tensor] | None = None

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        embed: Callable[[torch.Tensor], torch.Tensor],
        preprocess: Callable[[Image], np.ndarray],
        recipe: str,
        device: str | None,
        precision: str,
    ) -> None:
        import torch
        from PIL import Image

        self.name = name
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        # Half precision is faster on GPUs, but on few CPUs.
        self.half = precision == "auto" and self.device.startswith("cuda")
        self.digest = _digest(recipe + " float16" * self.half, network.state_dict())
        # Convolutions are fastest with channels last, on CPUs and GPUs.
        network.eval().requires_grad_(False).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
        self.preprocess = preprocess
        self._embed = embed
        blank = preprocess(Image.new("RGB", OSNET_SIZE))
        self.width = self.encode(blank[None]).shape[1]

    def encode(self, batch: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        import torch

        shape = len(batch), *batch[0].shape
        images = torch.empty(shape, memory_format=torch.channels_last)
        np.stack(
            list(batch), out=images.numpy()
        )  # one copy, straight into the network's memory order
        return self._unit(lambda: self._embed(images.to(self.device)))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode B texts as (B, width) float32 unit vectors in the space of the images."""
        read = self.read
        if read is None:
            raise BadInput(f"--encoder {self.spec}: reads no text; name an openclip encoder")
        parts = [texts[at : at + TEXTS] for at in range(0, len(texts), TEXTS)]
        return np.concatenate([self._unit(partial(read, part)) for part in parts])

    def _unit(self, embed: Callable[[], torch.Tensor]) -> np.ndarray:
        import torch

        half = torch.autocast(self.device.split(":")[0], torch.float16, enabled=self.half)
        with torch.inference_mode(), half:
            return torch.nn.functional.normalize(embed().float(), dim=-1).cpu().numpy()


def _load_osnet(name: str, file: str, device: str | None, precision: str) -> Network:
    with warnings.catch_warnings():
        # torchreid warns of a missing Cython ranker, which is not used here.
        warnings.simplefilter("ignore")
        module = require("torchreid.reid.models", "reid", "OSNet")
    known = [model for model in module.__model_factory if model.startswith("osnet")]
    if name not in known:
        raise BadInput(f"--encoder {name}: torchreid has no such OSNet; it has {', '.join(known)}")
    path = Path(file) if file else _osnet_weights(name)
    if path is None or not path.is_file():
        wanted = path or _torch_cache() / f"{name}*.pth"
        raise BadInput(
            f"--encoder {name}: no weights at {wanted}; fetch them from {MODEL_ZOO} "
            f"and put them there, or give --encoder {name}=FILE"
        )
    network = module.build_model(name, num_classes=1, pretrained=False)
    _fill(network, _read_weights(path), path)
    recipe = f"{name} 256x128 bilinear"
    return Network(name, network, network, _osnet_image, recipe, device, precision)


def _osnet_image(image: Image) -> np.ndarray:
    """Preprocess an image: (3, 256, 128) float32, normalised with ImageNet's mean and deviation."""
    pixels = np.asarray(image.resize(OSNET_SIZE, resample=2), np.float32) / 255
    return ((pixels - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)


def _fill(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load all weights but the classifier's, which belongs to the identities trained on."""
    import torch

    network.classifier = torch.nn.Identity()
    state = {key.removeprefix("module."): value for key, value in weights.items()}
    state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{path}: does not fit the network it was given for ({reason})") from error


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a state dict from safetensors or torch's own format, without running a pickle."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise BadInput(
            f"{path}: cannot be read as tensors only ({first_line(error)}); "
            "convert its state dict to safetensors"
        ) from error
    return content.get("state_dict", content)


def _load_clip(model: str, tag: str, file: str, device: str | None, precision: str) -> Network:
    import open_clip

    _check_clip(model, tag, file)
    hub.prepare(file or model)
    try:
        # Squashed, because CLIP's own centre crop would cut off a person's head and legs.
        network, _, transform = open_clip.create_model_and_transforms(
            model, pretrained=file or tag or None, image_resize_mode="squash"
        )
    except (RuntimeError, OSError) as error:
        spec = f"openclip:{model}={file}" if file else f"openclip:{model}@{tag}"
        raise BadInput(
            f"--encoder {spec}: weights cannot be loaded ({first_line(error)})"
        ) from error
    name = re.sub(r"\W+", "_", f"openclip {model} {tag}".strip().lower())
    recipe = f"openclip {model} {open_clip.get_model_preprocess_cfg(network)}"

    def preprocess(image: Image) -> np.ndarray:
        return transform(image).numpy()

    tokenizer = open_clip.get_tokenizer(model)

    def read(texts: Sequence[str]) -> torch.Tensor:
        return network.encode_text(tokenizer(list(texts)).to(encoder.device))

    encoder = Network(name, network, network.encode_image, preprocess, recipe, device, precision)
    encoder.read = read
    return encoder


def _check_clip(model: str, tag: str, file: str) -> None:
    import open_clip

    known = open_clip.list_models()
    if model not in known and not model.startswith("hf-hub:"):
        near = difflib.get_close_matches(model, known, n=5, cutoff=0.3)
        raise BadInput(f"--encoder openclip:{model}: no such model; try {', '.join(near)}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if file and not Path(file).is_file():
        raise BadInput(
            f"--encoder openclip:{model}={file}: no such file; put the model's weights there, or "
            f"name a tag that open_clip can fetch: {', '.join(tags)}"
        )
    if not file and tag not in tags and not model.startswith("hf-hub:"):
        raise BadInput(
            f"--encoder openclip:{model}: needs @TAG or =FILE; its tags are {', '.join(tags)}"
        )


def _cached_clip() -> str | None:
    """Return the first CLIP with weights in the Hugging Face cache, without network access."""
    from huggingface_hub import try_to_load_from_cache

    for model, repository in AUTO_CLIP:
        for name in CLIP_FILES:
            file = try_to_load_from_cache(repository, name)
            if isinstance(file, str):
                return f"openclip:{model}={file}"
    return None


def _cached_osnet() -> str | None:
    paths = ((name, _osnet_weights(name)) for name in AUTO_OSNET)
    return next((f"{name}={path}" for name, path in paths if path), None)


def _osnet_weights(name: str) -> Path | None:
    """Return a weight file in torch's cache, rather one trained on people than on ImageNet."""
    files = sorted(_torch_cache().glob(f"{name}*.pth"))
    return min(files, key=lambda path: "imagenet" in path.name, default=None)


def _torch_cache() -> Path:
    import torch

    return Path(torch.hub.get_dir()).parent / "checkpoints"


def _digest(recipe: str, state: Mapping[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256(recipe.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
