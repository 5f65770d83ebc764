"""Stripes: a weight-free re-identification descriptor of upright people.

The image is cut into overlapping horizontal stripes, each described by histograms of its colours
and edge directions. Pixels near the middle column, where the person stands, count more. Stripes
survive a change of viewpoint, which turns a person but keeps shirts above trousers. Stretching each
colour channel first removes most of a camera's exposure and colour cast.

    x = [ sqrt(p_colour), sqrt(p_edges) ] / |.|      (15 stripes × (30 colours + 8 directions),)

The square root makes the inner product of two descriptors a Bhattacharyya coefficient.
Colour follows the weighted HSV histograms of SDALF (Farenzena et al., CVPR 2010).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT, WIDTH = 128, 64
BANDS = 16  # of 8 rows; two neighbours form a stripe, so stripes overlap by half
HUES, SHADES, GREYS, DIRECTIONS = 12, 2, 6, 8
COLOURS = HUES * SHADES + GREYS
LENGTH = (BANDS - 1) * (COLOURS + DIRECTIONS)
CENTRE_SIGMA = 0.16  # of the columns' weights, as a share of the width
CLIPPED = 1  # per cent of the darkest and of the brightest values, which stretching ignores
FULL_CHROMA = 0.4  # chroma from which on a pixel counts by hue alone; below it counts by grey, too
TINY = 1e-9

_COLUMNS = np.exp(-0.5 * ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5) ** 2 / CENTRE_SIGMA**2)


def preprocess(image: Image) -> np.ndarray:
    """Return hue, saturation, value and luma of an RGB image, (128, 64, 4) uint8."""
    from PIL import Image as Images
    from PIL import ImageOps

    small = image.resize((WIDTH, HEIGHT), Images.Resampling.BILINEAR)
    small = ImageOps.autocontrast(small, cutoff=CLIPPED)
    return np.dstack([np.asarray(small.convert("HSV")), np.asarray(small.convert("L"))])


def describe(pixels: np.ndarray) -> np.ndarray:
    """Describe preprocessed images, (B, 128, 64, 4) uint8, by unit vectors, (B, 570) float32.

    Each row depends on its own image only, to the bit.
    """
    colours = _stripes(_colour_bands(pixels[..., :3]))
    edges = _stripes(_edge_bands(pixels[..., 3].astype(np.float32)))
    vectors = np.concatenate([colours, edges], axis=1)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _colour_bands(hsv: np.ndarray) -> np.ndarray:
    """Count hue × shade of coloured pixels and grey levels of pale ones, (B, 16, 30)."""
    hue = hsv[..., 0] * (HUES / 256)
    saturation, value = hsv[..., 1] / 255, hsv[..., 2] / 255
    coloured = np.minimum(saturation * value / FULL_CHROMA, 1)
    low, high, share = _neighbours(hue, HUES, circular=True)
    shade = np.minimum((value * SHADES).astype(np.int64), SHADES - 1)
    dark, bright, part = _neighbours(value * GREYS, GREYS, circular=False)
    by_hue, by_grey = _COLUMNS * coloured, _COLUMNS * (1 - coloured)
    return _histograms(
        [
            (low * SHADES + shade, by_hue * (1 - share)),
            (high * SHADES + shade, by_hue * share),
            (HUES * SHADES + dark, by_grey * (1 - part)),
            (HUES * SHADES + bright, by_grey * part),
        ],
        COLOURS,
    )


def _edge_bands(luma: np.ndarray) -> np.ndarray:
    """Count gradient directions without sign, weighted by magnitude, (B, 16, 8)."""
    dx, dy = np.zeros_like(luma), np.zeros_like(luma)
    dx[:, :, 1:-1] = luma[:, :, 2:] - luma[:, :, :-2]
    dy[:, 1:-1] = luma[:, 2:] - luma[:, :-2]
    angle = np.arctan2(dy, dx) % np.pi * (DIRECTIONS / np.pi)
    low, high, share = _neighbours(angle, DIRECTIONS, circular=True)
    weight = _COLUMNS * np.hypot(dx, dy)
    return _histograms([(low, weight * (1 - share)), (high, weight * share)], DIRECTIONS)


def _neighbours(
    position: np.ndarray, bins: int, *, circular: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two bins whose centres enclose a position, and the share of the upper one."""
    low = np.floor(position - 0.5).astype(np.int64)
    share = position - 0.5 - low
    if circular:
        return low % bins, (low + 1) % bins, share
    return np.clip(low, 0, bins - 1), np.clip(low + 1, 0, bins - 1), share


def _histograms(votes: list[tuple[np.ndarray, np.ndarray]], bins: int) -> np.ndarray:
    """Sum votes (bin, weight), each (B, 128, 64), in each band of rows, (B, 16, bins)."""
    count = len(votes[0][0])
    band = np.arange(count)[:, None] * BANDS + np.arange(HEIGHT) // (HEIGHT // BANDS)
    cells = band[:, :, None] * bins  # (B, 128, 1)
    size = count * BANDS * bins
    total = np.zeros(size)
    for index, weight in votes:
        total += np.bincount((cells + index).ravel(), weight.ravel(), size)
    return total.reshape(count, BANDS, bins)


def _stripes(bands: np.ndarray) -> np.ndarray:
    """Return square roots of the stripes' normalised histograms, of unit length per image."""
    stripes = bands[:, :-1] + bands[:, 1:]  # (B, 15, bins)
    roots = np.sqrt(stripes / (stripes.sum(axis=-1, keepdims=True) + TINY))
    flat = roots.reshape(len(bands), -1)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + TINY)
