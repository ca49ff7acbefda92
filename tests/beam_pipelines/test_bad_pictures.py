"""Pictures of every kind: sound ones in the right colours, others dead letters that stay alone."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import zlib

import fsspec
import numpy as np
import pytest
from PIL import Image

from beam_pipelines.handlers.decode_pictures import read_picture
from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder
from beam_pipelines.handlers.encoder import Unusable
from kdsr_tf.errors import InputError
from kdsr_tf.sources.image_values import FORMATS, NO_KEY
from tests.beam_pipelines import catalogues

MAX_PIXELS = 1_000_000
BROKEN = "image is broken or truncated"
NO_IMAGE = "not an image"
TOO_MANY_PIXELS = f"image has more than {MAX_PIXELS} pixels"
OUTSIDE = "image path leads outside the source folder"


def _save(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _quarters(*colours):
    """A picture of four squares, 32 pixels a side each."""
    image = Image.new("RGB", (64, 64))
    for k, colour in enumerate(colours):
        image.paste(colour, (32 * (k % 2), 32 * (k // 2), 32 * (k % 2) + 32, 32 * (k // 2) + 32))
    return image


def _png_header(width, height):
    """A whole PNG by its header; its pixels are missing."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


COLOURS = ((200, 30, 40), (20, 160, 60), (30, 40, 200), (90, 90, 90))
RGB = _quarters(*COLOURS)
BLUE = Image.new("RGB", (64, 64), "blue")
CMYK = Image.merge("CMYK", [*(Image.eval(c, lambda v: 255 - v) for c in RGB.split()),
                            Image.new("L", RGB.size, 40)])  # fmt: skip
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


# Colours, against values worked out from the definition of each mode


def _cmyk_oracle():
    cyan, magenta, yellow, black = np.moveaxis(np.asarray(CMYK, np.float64), -1, 0)
    return np.stack([(255 - c) * (255 - black) / 255 for c in (cyan, magenta, yellow)], -1)


def _over_white(colours, alpha):
    return np.asarray(colours, np.float64) * alpha + 255 * (1 - alpha)


GREY = Image.fromarray(np.asarray(RGB)[..., 0])
GREYS = np.repeat(np.asarray(GREY)[..., None], 3, -1)
DEEP = Image.fromarray(np.asarray(GREY).astype(np.uint16) << 8 | 7)
HALF = RGB.copy()
HALF.putalpha(128)
KEYED = RGB.quantize(8)
KEY = np.asarray(KEYED)[0, 0]
KEYED_WHITE = np.where((np.asarray(KEYED) == KEY)[..., None], 255, np.asarray(RGB))

COLOURFUL = {
    "rgb.png": (_save(RGB), np.asarray(RGB)),
    "cmyk.jpg": (_save(CMYK, "JPEG", quality=100), _cmyk_oracle()),
    "cmyk.tiff": (_save(CMYK, "TIFF"), _cmyk_oracle()),
    "palette.png": (_save(RGB.quantize(8)), np.asarray(RGB)),
    "palette, one colour transparent.png": (_save(KEYED, transparency=int(KEY)), KEYED_WHITE),
    "palette.gif": (_save(RGB.quantize(8), "GIF"), np.asarray(RGB)),
    "animated.gif": (_save(RGB, "GIF", save_all=True, append_images=[BLUE]), np.asarray(RGB)),
    "animated.webp": (
        _save(RGB, "WEBP", save_all=True, append_images=[BLUE], lossless=True),
        np.asarray(RGB),
    ),
    "animated.png": (_save(RGB, save_all=True, append_images=[BLUE]), np.asarray(RGB)),
    "pages.tiff": (_save(RGB, "TIFF", save_all=True, append_images=[BLUE]), np.asarray(RGB)),
    "grey.png": (_save(GREY), GREYS),
    "grey.jpg": (_save(GREY, "JPEG", quality=100), GREYS),
    "grey of 16 bits.png": (_save(DEEP), GREYS),
    "grey of 16 bits.tiff": (_save(DEEP, "TIFF"), GREYS),
    "half transparent.png": (_save(HALF), _over_white(RGB, 128 / 255)),
    "broken exif.jpg": (
        _save(RGB, "JPEG", quality=100, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        np.asarray(RGB),
    ),
}


@pytest.mark.parametrize("name", COLOURFUL)
def test_colours_are_those_of_the_first_frame_in_rgb(name):
    data, expected = COLOURFUL[name]
    picture = read_picture(data, 64, MAX_PIXELS)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    # The middles of the squares: JPEG and resizing mix colours at their edges.
    np.testing.assert_allclose(picture[8::16, 8::16], np.asarray(expected)[8::16, 8::16], atol=5)


# Refusals

HUGE_HEADERS = {
    "png": _png_header(30_000, 30_000),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 30_000, 30_000, 1, 24, *[0] * 6),
    "gif": b"GIF89a"
    + struct.pack("<HHBBBBHHHHBB", 9, 9, 0, 0, 0, 0x2C, 0, 0, 30_000, 30_000, 0, 2)
    + b"\x02\x4c\x01\0;",
    "ppm": b"P6 30000 30000 255\n" + bytes(100),
}


@pytest.mark.parametrize("kind", HUGE_HEADERS)
def test_30000_pixels_a_side_are_refused_from_the_header(kind):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="more than 50000000 pixels"):
        read_picture(HUGE_HEADERS[kind], 224, 50_000_000)
    # Decoded it would take 2.7 GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_limit_above_that_of_pil_names_the_limit_that_holds():
    with pytest.raises(ValueError, match=f"more than {2 * Image.MAX_IMAGE_PIXELS} pixels"):
        read_picture(HUGE_HEADERS["png"], 224, 10**9)


def test_a_long_and_thin_picture_is_small_enough():
    strip = Image.new("RGB", (30_000, 10), (200, 30, 40))
    assert np.all(read_picture(_save(strip), 16, MAX_PIXELS) == (200, 30, 40))
    with pytest.raises(ValueError, match="more than 299999 pixels"):
        read_picture(_save(strip), 16, 299_999)


def test_a_broken_file_of_any_format_has_one_of_four_reasons():
    reasons = {"image file is empty", NO_IMAGE, BROKEN, TOO_MANY_PIXELS}
    mutate, found = random.Random(0), set()
    for kind in FORMATS:
        if kind not in Image.SAVE:
            continue
        sound = _save(NOISE, kind)
        for _ in range(60):
            data = bytearray(sound)
            for _ in range(mutate.randint(1, 6)):
                data[mutate.randrange(min(len(data), 300))] = mutate.randrange(256)
            try:
                read_picture(bytes(data), 16, MAX_PIXELS)
            except ValueError as error:
                found.add(str(error))
    assert {NO_IMAGE, BROKEN} <= found <= reasons


# Through the job

BAD_FILES = {
    "empty.png": (b"", "image file is empty"),
    "truncated.png": (_save(NOISE)[:900], BROKEN),
    "truncated.jpg": (_save(NOISE, "JPEG")[:900], BROKEN),
    "truncated.gif": (_save(NOISE, "GIF")[:900], BROKEN),
    "header only.webp": (_save(NOISE, "WEBP")[:24], BROKEN),
    "page.png": (b"<!doctype html><html>404</html>", NO_IMAGE),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_IMAGE),
    "random.jpg": (bytes(range(256)) * 8, NO_IMAGE),
    "program.eps": (_save(RGB, "EPS"), NO_IMAGE),
    "icon.ico": (_save(RGB, "ICO"), NO_IMAGE),
    "30000x30000.png": (HUGE_HEADERS["png"], TOO_MANY_PIXELS),
    "1001x1000.png": (_save(Image.new("L", (1001, 1000))), TOO_MANY_PIXELS),
}
NO_FILE = "image file does not exist"
BAD_PATHS = {
    "missing": ("images/missing.png", NO_FILE),
    "percent": ("%2e%2e/secret.png", NO_FILE),
    "long": ("x" * (1 << 20), "image file cannot be read (OSError)"),
    "large": ("large.png", "image file is larger than 67,108,864 bytes"),
    "folder": ("images", "image path is not a file"),
    "pipe": ("pipe.png", "image path is not a file"),
    "parent": ("../secret.png", OUTSIDE),
    "absolute": ("/etc/passwd", OUTSIDE),
    "file": ("file:///etc/passwd", OUTSIDE),
    "link": ("link.png", OUTSIDE),
    "chain": ("simplecache::file:///etc/passwd", OUTSIDE),
    "http": ("http://169.254.169.254/latest", OUTSIDE),
    "memory": ("memory://secret.png", OUTSIDE),
    "nul": ("a\0.png", OUTSIDE),
    "number": (7, "image path is not text"),
    "windows": ("..\\..\\secret.png", OUTSIDE),
    "drive": ("C:\\secret.png", OUTSIDE),
    "object": ({"url": "a.png"}, NO_FILE),
    "no key": ({"width": 3}, NO_KEY),
    "surrogate": ('["\\ud800.png"]', OUTSIDE),
    "brackets": ("[" * 100_000, "image file cannot be read (OSError)"),
}
GOOD = {name: data for name, (data, _) in COLOURFUL.items()}


def _catalogue(tmp_path, run, rows):
    """A source with all files, whose catalogue has these pictures."""
    folder = tmp_path / run
    (folder / "images").mkdir(parents=True)
    for name, data in (GOOD | {name: data for name, (data, _) in BAD_FILES.items()}).items():
        (folder / "images" / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    with open(folder / "large.png", "wb") as file:
        file.truncate((64 << 20) + 1)
    (tmp_path / "secret.png").write_bytes(_save(RGB))
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    lines = catalogues.json_lines({"item_id": key, "image": path} for key, path in rows)
    source = catalogues.write_source(folder, "items.jsonl", lines, [key for key, _ in rows])
    small = ("encode.image.image_size=32", f"encode.image.max_pixels={MAX_PIXELS}")
    return catalogues.configure(source, tmp_path / f"{run}-out", "image", *small)


def test_bad_pictures_become_dead_letters_and_spare_their_batch(tmp_path):
    bad = {name: (f"images/{name}", reason) for name, (_, reason) in BAD_FILES.items()} | BAD_PATHS
    good = [(name, f"images/{name}") for name in GOOD]
    mixed = sorted([*good, *((key, path) for key, (path, _) in bad.items())])
    config = _catalogue(tmp_path, "mixed", mixed)
    manifest = catalogues.run(config)
    counts = {"encoded": len(good), "rejected": len(bad), "without": 0}
    assert {name: manifest.counts[name] for name in counts} == counts
    place = {key: f"items.jsonl row {row}" for row, (key, _) in enumerate(mixed, 1)}
    assert catalogues.rejected(config, "features/image") == sorted(
        (place[key], reason) for key, (_, reason) in bad.items()
    )
    # `prepare` sees the catalogue, not the files.
    assert {reason for _, reason in catalogues.rejected(config, "sequences")} == {
        OUTSIDE,
        "image path is not text",
        NO_KEY,
    }
    alone = _catalogue(tmp_path, "alone", good)
    assert catalogues.run(alone).counts["rejected"] == 0
    found = catalogues.vectors(config, "image")
    assert sorted(found) == sorted(key for key, _ in good)
    assert found == catalogues.vectors(alone, "image")


def test_too_many_bad_pictures_fail_the_job_and_name_the_reason(tmp_path):
    rows = [("a", "images/rgb.png"), *((key, path) for key, (path, _) in BAD_PATHS.items())]
    config = _catalogue(tmp_path, "source", rows)
    config.encode.max_rejected_fraction = 0.9
    expected = rf"21 of 22 items.*: {OUTSIDE} \(11 dead letters, first: items.jsonl row 8\)"
    with pytest.raises(InputError, match=expected):
        catalogues.run(config)


# Over the network


class _Download(io.RawIOBase):
    """Sends a few bytes at a time and does not tell how many there are."""

    def __init__(self, data=b"", endless=False):
        self._data = io.BytesIO(data)
        self._endless = endless

    def readable(self):
        return True

    def read(self, size=-1):
        assert size > 0
        return bytes(size // 2) if self._endless else self._data.read(100)


class _Cloud(fsspec.AbstractFileSystem):
    """A store whose library has errors of its own."""

    protocol = "cloud"

    def _open(self, path, mode="rb", **_):
        if path.endswith("endless.png"):
            return _Download(endless=True)
        if path.endswith("good.png"):
            return _Download(GOOD["rgb.png"])
        raise type("CloudError", (Exception,), {})("403")


def test_what_a_store_sends_has_the_same_limits():
    fsspec.register_implementation("cloud", _Cloud, clobber=True)
    encoder = EmbeddedImageEncoder(image_size=16)
    assert encoder.identify("cloud://shop/good.png") == GOOD["rgb.png"]
    with pytest.raises(Unusable, match=r"cannot be read \(CloudError\)$"):
        encoder.identify("cloud://shop/forbidden.png")
    with pytest.raises(Unusable, match="larger than 67,108,864 bytes"):
        encoder.prepare("cloud://shop/endless.png")
