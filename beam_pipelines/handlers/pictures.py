"""From the bytes of an image file to a small square RGB picture."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


def read_picture(data: bytes, size: int, max_pixels: int) -> np.ndarray:
    """Decode and resize a picture.

    Any format and mode that PIL reads is accepted: palettes, grey of 8 and 16
    bits, CMYK; of an animation the first frame; transparency on white. The EXIF
    orientation is applied. The whole picture is squeezed to a square, so that
    nothing is cut off.

    Args:
        data: Content of the file.
        size: Side of the result in pixels, > 0.
        max_pixels: Pictures with more pixels are refused from their header alone.

    Returns:
        uint8 array `[size, size, 3]`.

    Raises:
        ValueError: with a reason that is equal for equal causes.
    """
    if not data:
        raise ValueError("image file is empty")
    too_large = f"image has more than {max_pixels} pixels"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Image.DecompressionBombError:
        raise ValueError(too_large) from None
    except _BROKEN:
        raise ValueError("image is broken or truncated") from None
    if image.width * image.height > max_pixels:
        raise ValueError(too_large)
    try:
        # Of a large JPEG only as much is decoded as the result needs.
        image.draft("RGB", (2 * size, 2 * size))
        image = ImageOps.exif_transpose(image)
        image = _to_rgb(image)
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    except _BROKEN:
        raise ValueError("image is broken or truncated") from None
    return np.asarray(image, np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey: PIL's own conversion would clip it to white.
        values = np.asarray(image, np.int64).clip(0, 65_535) >> 8
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")
