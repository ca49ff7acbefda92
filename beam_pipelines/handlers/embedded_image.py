"""An image encoder that needs no download: colour, edge and outline statistics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from beam_pipelines.handlers.encoder import ImageEncoder
from beam_pipelines.handlers.hidden_states import States

_SIDE = 96
"""Pixels per side of the picture the statistics are taken from."""

_HUES = 18
_GREYS = 6
_ORIENTATIONS = 8
_GRID = 4
_OUTLINE = 16
_BORDER = 6
_FOREGROUND_DISTANCE = 30.0

_WEIGHTS = {"colour": 1.2, "outline": 1.0, "edges": 0.7, "layout": 0.4, "texture": 0.5}

_CELLS = _GRID * _GRID
_SIZES = (
    _HUES + _GREYS,
    _OUTLINE**2 + 3,
    _CELLS * _ORIENTATIONS,
    _CELLS * 6,  # mean and deviation of three channels
    _ORIENTATIONS + 2,
)
_ENDS = tuple(itertools.accumulate(_SIZES))
"""Where each block of `_WEIGHTS` ends in the vector."""


class EmbeddedImageEncoder(ImageEncoder):
    """Pictures alike in colour, outline and pattern get similar vectors.

    The colour of the border is taken for the background; pixels far from it are
    the subject. Five blocks, each of unit length times a weight: the subject's
    hue and grey histogram, its outline on a grid over its bounding box, edge
    orientations on a grid, colour moments on a grid, and edge orientations
    inside the subject (its pattern). Photographs without a plain background
    work too: there everything that differs from the border is the subject.

    Its states are the vector as far as one block after the other, in this order: five levels,
    each wider than the one before, of which the last is the vector.

    Example:
        >>> encoder = EmbeddedImageEncoder()
        >>> grey = np.full((1, 96, 96, 3), 128, np.uint8)
        >>> encoder.encode(grey, None).shape == (1, encoder.size(None))
        True
    """

    name = "embedded_image"

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"version": 1}

    def build(self) -> None:
        return None

    def size(self, model: None) -> int:
        return _ENDS[-1]

    def states(self, model: None) -> States | None:
        if self.chosen is None:
            return None
        name = "the embedded image encoder"
        self.chosen.needs_class_token(False, name)
        kept = self.chosen.kept(len(_WEIGHTS) - 1, name)
        return self.chosen.give(kept, [_ENDS[level] for level in kept])

    def encode(self, batch: Sequence[np.ndarray], model: None) -> np.ndarray:
        vectors = np.stack([_vector(picture) for picture in batch])
        states = self.states(model)
        ends = states.sizes if states is not None else ()
        return np.concatenate([vectors, *(vectors[:, :end] for end in ends)], axis=1)

    def merge(self, vectors: np.ndarray) -> np.ndarray:
        return _unit(vectors.mean(axis=0, dtype=np.float64)).astype(np.float32)


def _vector(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    rgb = np.asarray(image, np.float64)
    subject = _subject(rgb)
    grey = rgb.mean(axis=2)
    strength, orientation = _edges(grey)
    blocks = {
        "colour": _colours(rgb, subject),
        "outline": _outline(subject),
        "edges": _cells(_one_hot(orientation, strength)),
        "layout": _layout(rgb),
        "texture": _texture(grey, subject, strength, orientation),
    }
    vector = np.concatenate([_WEIGHTS[name] * _unit(block) for name, block in blocks.items()])
    return _unit(vector).astype(np.float32)


def _subject(rgb: np.ndarray) -> np.ndarray:
    """Whether each pixel differs from the border's median colour, bool `[side, side]`."""
    edge = np.ones(rgb.shape[:2], bool)
    edge[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    background = np.median(rgb[edge], axis=0)
    distance = np.sqrt(np.sum((rgb - background) ** 2, axis=2))
    subject = distance > _FOREGROUND_DISTANCE
    return subject if subject.any() else np.ones_like(subject)


def _colours(rgb: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Histogram over hues (weighted by saturation) and greys, `[hues + greys]`."""
    pixels = rgb[subject]
    highest, lowest = pixels.max(axis=1), pixels.min(axis=1)
    chroma = highest - lowest
    red, green, blue = pixels.T
    span = np.where(chroma > 0, chroma, 1.0)
    sector = np.where(
        highest == red,
        ((green - blue) / span) % 6,
        np.where(highest == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    saturation = chroma / np.maximum(highest, 1.0)
    place = sector / 6 * _HUES
    lower = np.floor(place)
    share = place - lower
    lower = lower.astype(int) % _HUES
    hues = np.bincount(lower, saturation * (1 - share), _HUES)
    hues += np.bincount((lower + 1) % _HUES, saturation * share, _HUES)
    level = np.minimum((highest / 256 * _GREYS).astype(int), _GREYS - 1)
    greys = np.bincount(level, None, _GREYS) * 0.5
    return np.sqrt(np.concatenate([hues, greys]) / len(pixels))


def _outline(subject: np.ndarray) -> np.ndarray:
    """The subject's mask over its bounding box, and its proportions."""
    rows, columns = np.flatnonzero(subject.any(axis=1)), np.flatnonzero(subject.any(axis=0))
    box = subject[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mask = Image.fromarray((box * 255).astype(np.uint8))
    mask = mask.resize((_OUTLINE, _OUTLINE), Image.Resampling.BOX)
    cells = np.asarray(mask, np.float64) / 255
    height, width = box.shape
    fill = box.mean()
    proportions = [width / max(height, width), height / max(height, width), fill]
    # Centred: two filled boxes must not look alike because most cells are full.
    return np.concatenate([(cells - 0.5).ravel(), 3.0 * (np.array(proportions) - 0.5)])


def _edges(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strength and orientation bin of the gradient at every pixel."""
    down, across = np.gradient(grey)
    strength = np.sqrt(down * down + across * across)
    angle = np.arctan2(down, across) % np.pi
    orientation = np.rint(angle / np.pi * _ORIENTATIONS).astype(int) % _ORIENTATIONS
    return strength, orientation


def _one_hot(orientation: np.ndarray, strength: np.ndarray) -> np.ndarray:
    return np.where(np.arange(_ORIENTATIONS) == orientation[..., None], strength[..., None], 0.0)


def _cells(values: np.ndarray) -> np.ndarray:
    """Square roots of the sums of a `[side, side, channels]` array over the grid."""
    step = _SIDE // _GRID
    cells = values.reshape(_GRID, step, _GRID, step, -1).sum(axis=(1, 3))
    return np.sqrt(cells).ravel()


def _layout(rgb: np.ndarray) -> np.ndarray:
    """Mean and deviation of each colour channel over the grid."""
    step = _SIDE // _GRID
    cells = rgb.reshape(_GRID, step, _GRID, step, 3) / 255
    return np.concatenate([(cells.mean(axis=(1, 3)) - 0.5).ravel(), cells.std(axis=(1, 3)).ravel()])


def _texture(
    grey: np.ndarray, subject: np.ndarray, strength: np.ndarray, orientation: np.ndarray
) -> np.ndarray:
    """Edge orientations, their density and the contrast inside the subject."""
    inside = subject.copy()
    inside[1:] &= subject[:-1]
    inside[:-1] &= subject[1:]
    inside[:, 1:] &= subject[:, :-1]
    inside[:, :-1] &= subject[:, 1:]
    if not inside.any():
        inside = subject
    histogram = np.bincount(orientation[inside], strength[inside], _ORIENTATIONS)
    histogram = histogram / (inside.sum() * 64)
    density = np.mean(strength[inside] > 8.0)
    return np.concatenate([np.sqrt(histogram), [density, grey[inside].std() / 128]])


def _unit(values: np.ndarray) -> np.ndarray:
    norm = np.sqrt(np.sum(values * values))
    return values / norm if norm else values
