"""Files as streams of bytes: unpacked by their content, and decoded to UTF-8."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pyarrow as pa

from kdsr_tf.errors import InputError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of compressed files. The content decides how a file is unpacked."""

_BEGINNINGS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "zip": re.compile(rb"PK\x03\x04"),
}
_LONGEST_BEGINNING = 10
_WORKBOOK = "[Content_Types].xml"
_CHARACTERS = 1 << 18
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)


@contextlib.contextmanager
def opened(path: str, encoding: str | None = None) -> Iterator[Any]:
    """A file as unpacked bytes, a part at a time.

    Args:
        path: Local path or URI.
        encoding: Encoding of a text that is not UTF-8; the bytes are then UTF-8.

    Yields:
        A binary file without `seek`.

    Raises:
        InputError: for a file that cannot be opened, unpacked or decoded, also while it
            is read.
    """
    verb = "read"
    try:
        with fsspec.open(path, "rb") as file, contextlib.ExitStack() as stack:
            compression = _compression(file)
            if compression is not None:
                verb = "unpacked"
                file = stack.enter_context(_unpacked(path, file, compression))
            yield file if encoding is None else io.BufferedReader(_Utf8(file, encoding))
    except UnicodeError as error:
        raise InputError(f"{path} is not in {encoding} throughout: {error}.") from None
    except _DAMAGED as error:
        raise InputError(f"{path} cannot be {verb}: {error}.") from None


def unpacked_name(path: str) -> str:
    """Name of a file without the ending of its compression; of a .zip, that of its member.

    Example:
        >>> unpacked_name("shop/clicks.csv.gz"), unpacked_name("clicks.csv")
        ('clicks.csv', 'clicks.csv')
    """
    name = posixpath.basename(path)
    stem, suffix = posixpath.splitext(name)
    if suffix.lower() == ".zip" and not posixpath.splitext(stem)[1]:
        with fsspec.open(path, "rb") as file:
            if _compression(file) == "zip":
                return posixpath.basename(_member(path, zipfile.ZipFile(file)))
    return stem if suffix.lower() in COMPRESSIONS else name


def _compression(file: Any) -> str | None:
    start = file.read(_LONGEST_BEGINNING)
    file.seek(0)
    return next((name for name, begins in _BEGINNINGS.items() if begins.match(start)), None)


def _unpacked(path: str, file: Any, compression: str) -> Any:
    if compression == "zip":
        archive = zipfile.ZipFile(file)
        return archive.open(_member(path, archive))
    if compression == "zstd":
        return pa.CompressedInputStream(file, "zstd")
    openers: dict[str, Callable[[Any], Any]]
    openers = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    return openers[compression](file)


def _member(path: str, archive: zipfile.ZipFile) -> str:
    """The one file of an archive; what macOS adds is passed over."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    if _WORKBOOK in names:
        raise InputError(f"{path} is a workbook. Save its sheet as CSV.")
    names = [name for name in names if not name.startswith(("__MACOSX/", ".")) and "/." not in name]
    if len(names) != 1:
        found = ", ".join(names[:5]) or "none"
        raise InputError(
            f"{path} must hold one file. Received {len(names)} files: {found}. Unpack it."
        )
    return names[0]


class _Utf8(io.RawIOBase):
    """A text file's bytes in UTF-8.

    Args:
        file: Binary file.
        encoding: Its encoding.
    """

    def __init__(self, file: Any, encoding: str):
        super().__init__()
        try:
            self._reader = codecs.getreader(encoding)(file)
        except LookupError:
            raise InputError(
                f"--encoding={encoding} is not known. Try latin-1 or cp1252."
            ) from None
        self._waiting = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        if not self._waiting:
            self._waiting = self._reader.read(_CHARACTERS).encode()
        size = min(len(buffer), len(self._waiting))
        buffer[:size] = self._waiting[:size]
        self._waiting = self._waiting[size:]
        return size
