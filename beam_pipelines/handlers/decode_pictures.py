"""From the bytes of an image file to a small square RGB picture."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kdsr_tf.sources.image_values import NOT_AN_IMAGE, readable_formats


def read_picture(data: bytes, size: int, max_pixels: int) -> np.ndarray:
    """Decode and resize a picture.

    The formats are `image_values.FORMATS`, in every mode that PIL reads: palettes, grey of 8
    and 16 bits, CMYK; of an animation the first frame; transparency on white. The
    EXIF orientation is applied where it can be read. The whole picture is squeezed
    to a square, so that nothing is cut off.

    Args:
        data: Content of the file.
        size: Side of the result in pixels, > 0.
        max_pixels: Pictures with more pixels are refused by their header, before decoding.

    Returns:
        uint8 array `[size, size, 3]`.

    Raises:
        ValueError: with a reason that is equal for equal causes.
    """
    if not data:
        raise ValueError("image file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=readable_formats())
            is_small = image.width * image.height <= max_pixels
            picture = _decoded(image, size) if is_small else None
    except UnidentifiedImageError:
        raise ValueError(NOT_AN_IMAGE) from None
    except Image.DecompressionBombError:
        # PIL has a limit of its own, twice what it warns of.
        picture, max_pixels = None, min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
    except Exception:
        # For a broken file, decoders raise many kinds of errors.
        raise ValueError("image is broken or truncated") from None
    if picture is None:
        raise ValueError(f"image has more than {max_pixels} pixels")
    return picture


def _decoded(image: Image.Image, size: int) -> np.ndarray:
    # Of a large JPEG only as much is decoded as the result needs.
    image.draft("RGB", (2 * size, 2 * size))
    image.load()
    # A picture is worth more than the note which way up it is.
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)
    image = _to_rgb(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey: PIL's own conversion would clip it to white.
        values = np.asarray(image).clip(0, 65_535) >> 8
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")
