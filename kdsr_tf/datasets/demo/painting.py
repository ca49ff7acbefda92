"""Paints a product: shape × colour × pattern × background."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from kdsr_tf.datasets.demo.products import BACKGROUNDS, COLOURS, Product
from kdsr_tf.datasets.demo.shapes import DRAWINGS, Part

SIZE = 128
"""Side of a picture in pixels."""

_OVERSAMPLING = 3
_CANVAS = SIZE * _OVERSAMPLING
_UNIT = _CANVAS / 100
_LIGHT, _METAL = (244, 242, 238), (196, 172, 112)


def paint(product: Product) -> Image.Image:
    """The picture of a product: RGB, `SIZE` pixels square, smoothed by oversampling."""
    parts = [_placed(part) for part in DRAWINGS[product.shape]]
    rgb = COLOURS[product.colour][1]
    fabric, line = _fabric(product.pattern, rgb), _darker(rgb, 0.42)
    tones = {
        "fabric": rgb,
        "lining": _darker(rgb, 0.78),
        "trim": _darker(rgb, 0.48),
        "light": _LIGHT,
        "metal": _METAL,
        "line": line,
    }
    picture = _backdrop(product.background).copy()
    silhouette = _mask(parts)
    _cast_shadow(picture, silhouette)
    pen = ImageDraw.Draw(picture)
    for part in parts:
        if part.role == "fabric" and not part.width:
            picture.paste(fabric, mask=_mask([part]))
        else:
            _draw(pen, part, tones[part.role])
        if not part.width:
            pen.line([tuple(point) for point in (*part.points, part.points[0])], line, 2)
    size, lanczos = (SIZE, SIZE), Image.Resampling.LANCZOS
    picture = picture.resize(size, lanczos)
    return Image.composite(_lit(picture), picture, silhouette.resize(size, lanczos))


def _placed(part: Part) -> Part:
    return Part(points=(4 + part.points * 0.92) * _UNIT, role=part.role, width=part.width * _UNIT)


def _mask(parts: list[Part]) -> Image.Image:
    mask = Image.new("L", (_CANVAS, _CANVAS), 0)
    pen = ImageDraw.Draw(mask)
    for part in parts:
        _draw(pen, part, 255)
    return mask


def _draw(pen: ImageDraw.ImageDraw, part: Part, ink: int | tuple[int, int, int]) -> None:
    points = [tuple(point) for point in part.points]
    if part.width:
        pen.line(points, ink, max(1, round(part.width)), joint="curve")
    else:
        pen.polygon(points, ink)


def _darker(rgb: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    red, green, blue = (int(value * factor) for value in rgb)
    return red, green, blue


def _cast_shadow(picture: Image.Image, silhouette: Image.Image) -> None:
    blurred = silhouette.filter(ImageFilter.GaussianBlur(3 * _UNIT))
    shadow = Image.new("L", silhouette.size, 0)
    shadow.paste(blurred.point(lambda value: value * 0.38), (round(1.5 * _UNIT), round(3 * _UNIT)))
    picture.paste((40, 40, 52), mask=shadow)


def _lit(picture: Image.Image) -> Image.Image:
    """Soft light from the upper left, over gentle folds."""
    return Image.fromarray(np.clip(np.asarray(picture) * _light(), 0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=1)
def _light() -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    folds = 0.035 * np.sin(2 * np.pi * (2.4 * x + 0.35 * y))
    return (1.12 - 0.14 * x - 0.12 * y + folds)[..., None]


@functools.lru_cache(maxsize=len(BACKGROUNDS))
def _backdrop(background: str) -> Image.Image:
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS] / _CANVAS
    glow = 1.03 - 0.16 * ((x - 0.5) ** 2 + (y - 0.45) ** 2)
    pixels = np.array(BACKGROUNDS[background], float) * glow[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=64)
def _fabric(pattern: str, rgb: tuple[int, int, int]) -> Image.Image:
    """Cloth in one of the catalogue's patterns."""
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS] / _UNIT
    base = np.broadcast_to(np.array(rgb, float), (_CANVAS, _CANVAS, 3))
    bright = base + 0.72 * (255 - base)
    if pattern == "stripe":
        amount = ((x % 7.0) < 2.4).astype(float)
    elif pattern == "dot":
        column, row = x / 8.0, y / 8.0
        shift = 0.5 * (np.floor(row) % 2)
        amount = (np.hypot((column + shift) % 1 - 0.5, row % 1 - 0.5) < 0.26).astype(float)
    elif pattern == "check":
        amount = 0.45 * ((x % 12.0) < 6.0) + 0.45 * ((y % 12.0) < 6.0)
    else:
        amount = np.zeros_like(x)
    weave = 1 + 0.02 * np.sin(5.0 * x) * np.sin(5.0 * y)
    cloth = (base + amount[..., None] * (bright - base)) * weave[..., None]
    return Image.fromarray(np.clip(cloth, 0, 255).astype(np.uint8))
