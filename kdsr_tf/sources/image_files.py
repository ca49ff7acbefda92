"""The bytes of a picture, wherever it lies: on disk, in a store, behind a web address."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import fsspec

from kdsr_tf.errors import InputError, storage_problem

LARGEST_BYTES = 64 << 20
"""Size of an image file above which it is not read."""

TOO_LARGE = f"image file is larger than {LARGEST_BYTES:,} bytes"
MISSING = "image file does not exist"
NO_FILE = "image path is not a file"

_WEB = ("http://", "https://")


class UnreadableImage(Exception):
    """A picture that cannot be read; the message is the reason, equal for equal causes."""


def is_far(content: str | bytes) -> bool:
    """Whether a picture is at a URI, whose file is waited for rather than computed with."""
    return isinstance(content, str) and "://" in content


def read_image(content: str | bytes, folders: Sequence[str] = ()) -> bytes:
    """The bytes of an image file.

    Args:
        content: `image_values.Picture.content`: absolute local path, URI, or the bytes.
        folders: Folders and URIs that the user declared; a web server may redirect to
            their hosts, and to no other.

    Raises:
        UnreadableImage: if this picture cannot be read.
        InputError: if the module that reads such URIs is not installed.
    """
    if isinstance(content, bytes):
        data = content
    elif content.lower().startswith(_WEB):
        from kdsr_tf.sources.web_files import read_web_file

        data = read_web_file(content, folders)
    else:
        data = _read(content)
    if len(data) > LARGEST_BYTES:
        raise UnreadableImage(TOO_LARGE)
    return data


def local_problem(path: str) -> str | None:
    """Why there is no file at a local path, or None if there is one."""
    if os.path.isfile(path):
        return None
    return NO_FILE if os.path.exists(path) else MISSING


def _read(path: str) -> bytes:
    far = is_far(path)
    # Opening a pipe would wait for ever, reading a device would never end.
    if not far and local_problem(path) == NO_FILE:
        raise UnreadableImage(NO_FILE)
    try:
        with (fsspec.open if far else open)(path, "rb") as file:
            size = _size(file) if far else os.fstat(file.fileno()).st_size
            data = bytearray()
            # Not every server tells the size, or sends as much at once as it is asked for.
            while max(size, len(data)) <= LARGEST_BYTES and (block := file.read(1 << 20)):
                data += block
    except FileNotFoundError:
        raise UnreadableImage(MISSING) from None
    except ImportError as error:
        problem = storage_problem(error) or error
        raise InputError(f"The picture {path} cannot be opened: {problem}.") from None
    except Exception as error:
        # Every filesystem raises the errors of the library behind it.
        raise UnreadableImage(f"image file cannot be read ({type(error).__name__})") from None
    if size > LARGEST_BYTES:
        raise UnreadableImage(TOO_LARGE)
    return bytes(data)


def _size(file: Any) -> int:
    return getattr(file, "size", None) or 0
