"""What a value of the image column says: paths, URIs and the bytes of pictures.

`kdsr data import`, `prepare` and `encode` all read the column through `pictures`, so that
one takes what the others take.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import json
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kdsr_tf.errors import InputError
from kdsr_tf.sources.catalogue_rows import is_missing
from kdsr_tf.sources.json_records import is_deep, python_literal

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, where PIL was built with them. PIL knows more, among them
some that run other programs (EPS) or hold pictures larger than they say (ICO)."""

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".avif", ".jp2", ".mpo", ".ppm",
)  # fmt: skip
"""Endings of the names of pictures, in small letters."""

NOT_TEXT = "image path is not text"
OUTSIDE = "image path leads outside the source folder"
NOT_AN_IMAGE = "not an image"
NO_KEY = "image object has no key such as path, url or bytes"

KEYS = (
    "bytes", "path", "url", "uri", "src", "href", "file", "filename", "file_name",
    "hi_res", "large", "image", "image_url", "contenturl", "thumb", "thumbnail",
)  # fmt: skip
"""Keys under which an object holds its picture; the first one that has a value counts."""

_BAD_DATA = "data URI is malformed"

_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_QUOTED_LIST = re.compile(rf"[\[({{]?\s*{_QUOTED}(?:[\s,;|]+{_QUOTED})*[\s,]*[\])}}]?", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_SCHEME = r"(?:data:|[A-Za-z][A-Za-z0-9+.-]*://)"
_URI = re.compile(_SCHEME)
_SEPARATORS = tuple(
    map(re.compile, (r"\|", ";", ",", r"\s+", rf"[|;,\s]+(?={_SCHEME})"))
)  # the last one also parts data URIs, which hold `;` and `,` themselves
_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
"""The beginning of a JPEG, PNG, GIF or WebP file in base64, and nothing but base64."""


class Picture(NamedTuple):
    """One picture that a catalogue declares.

    Args:
        declared: As it stands in the catalogue; of bytes only their number.
        content: Absolute local path, URI, or the bytes of the file; None if it is unusable.
        reason: Why it is unusable; equal for equal causes.
    """

    declared: Any
    content: str | bytes | None = None
    reason: str | None = None


def pictures(value: Any, resolve: Callable[[str], str]) -> list[Picture]:
    """The pictures that a value of the image column declares.

    A value is a path, a URI (also `data:`), the bytes of a file, an object with one of
    `KEYS`, or a list of these. A text may spell a list: JSON, as Python or NumPy print it,
    or names joined by `|`, `;`, `,` or blanks, if every part then is a picture's name.
    `resolve` is `Source.image_path`, from a path or URI to one that may be read.

    Example:
        >>> [p.content for p in pictures("['a.jpg', 'b.jpg']", str)]
        ['a.jpg', 'b.jpg']
        >>> [p.content for p in pictures("front.jpg|my back.jpg", str)]
        ['front.jpg', 'my back.jpg']
        >>> [p.content for p in pictures({"bytes": None, "path": "a.jpg"}, str)]
        ['a.jpg']
    """
    return [_picture(part, resolve) for part in _parts(value)]


def seems_picture(value: Any) -> bool:
    """Whether a value of any column looks as if it were made for the image column."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    if isinstance(first, Mapping):
        return {"bytes", "path"} <= set(first)
    if not isinstance(first, str):
        return False
    name = first.partition("?")[0].rstrip(" \n'\"])}").lower()
    return name.endswith(ENDINGS) or name.startswith("data:image/")


def picture_ending(data: bytes | bytearray) -> str | None:
    """Ending for the name of a file with this content; None if it is in none of `FORMATS`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(data), formats=readable_formats()) as image,
        ):
            kind = image.format or ""
    except UnidentifiedImageError:
        return None
    except Exception:
        # Broken or too large: a picture nevertheless, which its reader judges.
        return ".img"
    return {"JPEG": ".jpg", "MPO": ".jpg", "JPEG2000": ".jp2"}.get(kind, f".{kind.lower()}")


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that PIL was built with."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _picture(part: Any, resolve: Callable[[str], str]) -> Picture:
    if isinstance(part, Picture):
        return part
    if not isinstance(part, (str, bytes)):
        return Picture(part, reason=NOT_TEXT)
    if isinstance(part, str) and part[:5].lower() == "data:":
        return _of_data_uri(part)
    if isinstance(part, bytes):
        return _of_bytes(part, f"{len(part):,} bytes")
    try:
        return Picture(part, resolve(part))
    except InputError:
        return Picture(part, reason=OUTSIDE)


def _of_bytes(data: bytes, declared: str) -> Picture:
    if picture_ending(data) is None:
        return Picture(declared, reason=NOT_AN_IMAGE)
    return Picture(declared, data)


def _of_data_uri(uri: str) -> Picture:
    """The content of `data:[TYPE][;base64],CONTENT`."""
    declared = uri if len(uri) <= 60 else f"{uri[:40]}… ({len(uri):,} characters)"
    head, comma, body = uri.partition(",")
    content = urllib.parse.unquote_to_bytes(body)
    data = _of_base64(content) if head.lower().rstrip().endswith(";base64") else content
    return _of_bytes(data, declared) if comma and data else Picture(declared, reason=_BAD_DATA)


def _of_base64(data: bytes) -> bytes | None:
    data = b"".join(data.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        return None


def _parts(value: Any) -> Iterator[Any]:
    """Texts, bytes, and what is neither; a `Picture` where the reason is known already."""
    if is_missing(value):
        return
    if isinstance(value, str):
        yield from _of_text(value)
    elif isinstance(value, Mapping):
        yield from _of_object(value)
    elif isinstance(value, (list, tuple)) and any(
        isinstance(part, (str, bytes, list, tuple, Mapping)) for part in value
    ):
        for part in value:
            yield from _parts(part)
    else:
        # Of a long list of numbers one dead letter is enough.
        yield value


def _of_object(value: Mapping[str, Any]) -> Iterator[Any]:
    values = {str(key).lower(): part for key, part in value.items()}
    key = next((key for key in KEYS if not is_missing(values.get(key))), None)
    if key is not None:
        yield from _parts(values[key])
    elif not all(map(is_missing, values.values())):
        yield Picture(value, reason=NO_KEY)


def _of_text(text: str) -> Iterator[Any]:
    text = text.strip()
    if _BASE64.fullmatch(text):
        yield f"data:;base64,{text}"
    elif text[0] in "[({\"'" or text[:2] in ("b'", 'b"'):
        yield from _of_literal(text)
    else:
        yield from _split(text)


def _of_literal(text: str) -> Iterator[Any]:
    """A list, an object or bytes as JSON, Python or NumPy write it; otherwise a path."""
    found = _parsed(text)
    if found is not text:
        yield from _parts(found)
        return
    # A file's name may begin with a bracket too.
    inside = text[1:-1].strip(" ,") if text[-1] == _BRACKETS.get(text[0]) else text
    names = _split(inside) if inside else []
    yield from names if all(map(_has_ending, names)) else [text]


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if _QUOTED_LIST.fullmatch(text):
            return [
                re.sub(r"\\(['\"\\])", r"\1", quoted[1:-1]) for quoted in re.findall(_QUOTED, text)
            ]
        try:
            found = python_literal(text)
        except ValueError:
            return text
    return text if is_deep(found) else found


def _split(text: str) -> list[str]:
    """The names in a text, if it can be nothing but several; otherwise the one that it is."""
    text = text.strip(" |;,") or text
    for separator in _SEPARATORS:
        parts = [part for part in map(str.strip, separator.split(text)) if part]
        if len(parts) > 1 and (all(map(_URI.match, parts)) or all(map(_has_ending, parts))):
            return [name for part in parts for name in _split(part)]
    return [text]


def _has_ending(name: str) -> bool:
    return not _URI.match(name) and name.lower().endswith(ENDINGS)
