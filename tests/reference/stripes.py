"""The stripes descriptor pixel by pixel."""

from __future__ import annotations

import math

import numpy as np

from nontrivial.models import stripes


def describe(pixels: np.ndarray) -> np.ndarray:
    """(128, 64, 4) uint8 -> (570,) float64."""
    rows = stripes.HEIGHT // stripes.BANDS
    colours = np.zeros((stripes.BANDS, stripes.COLOURS))
    edges = np.zeros((stripes.BANDS, stripes.DIRECTIONS))
    for y in range(stripes.HEIGHT):
        for x in range(stripes.WIDTH):
            place = (x + 0.5) / stripes.WIDTH - 0.5
            column = math.exp(-0.5 * (place / stripes.CENTRE_SIGMA) ** 2)
            vote_colour(colours[y // rows], pixels[y, x], column)
            vote_edge(edges[y // rows], pixels[..., 3].astype(float), y, x, column)
    parts = [roots(colours), roots(edges)]
    vector = np.concatenate([part / np.linalg.norm(part) for part in parts])
    return vector / np.linalg.norm(vector)


def vote_colour(band: np.ndarray, pixel: np.ndarray, weight: float) -> None:
    hue, saturation, value = pixel[0] / 256, pixel[1] / 255, pixel[2] / 255
    coloured = min(saturation * value / stripes.FULL_CHROMA, 1)
    shade = min(int(value * stripes.SHADES), stripes.SHADES - 1)
    for place, share in around(hue * stripes.HUES):
        band[place % stripes.HUES * stripes.SHADES + shade] += weight * coloured * share
    for place, share in around(value * stripes.GREYS):
        level = min(max(place, 0), stripes.GREYS - 1)
        band[stripes.HUES * stripes.SHADES + level] += weight * (1 - coloured) * share


def vote_edge(band: np.ndarray, luma: np.ndarray, y: int, x: int, weight: float) -> None:
    height, width = luma.shape
    dx = luma[y, x + 1] - luma[y, x - 1] if 0 < x < width - 1 else 0.0
    dy = luma[y + 1, x] - luma[y - 1, x] if 0 < y < height - 1 else 0.0
    turn = math.atan2(dy, dx) % math.pi / math.pi
    for place, share in around(turn * stripes.DIRECTIONS):
        band[place % stripes.DIRECTIONS] += weight * math.hypot(dx, dy) * share


def around(position: float) -> list[tuple[int, float]]:
    low = math.floor(position - 0.5)
    share = position - 0.5 - low
    return [(low, 1 - share), (low + 1, share)]


def roots(bands: np.ndarray) -> np.ndarray:
    summed = [bands[i] + bands[i + 1] for i in range(len(bands) - 1)]
    return np.concatenate([np.sqrt(stripe / (stripe.sum() + stripes.TINY)) for stripe in summed])
