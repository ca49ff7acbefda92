"""Files as streams of bytes: unpacked by their content, and in which encoding they are.

An encoding is told from all bytes of a file and never guessed.
"""

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
from typing import Any, NamedTuple

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

UTF_8 = "utf-8"

_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; those of UTF-32 come first, because that of UTF-16 begins one."""

_BLOCK_BYTES = 1 << 20
_ZEROS = 20
"""One zero byte in so many makes UTF-16 of a file; fewer are characters of a damaged text."""

_WIDE = re.compile("utf.?(16|32)", re.IGNORECASE)
"""Encodings in which ASCII has zero bytes."""
_UNDECODED = re.compile("[\udc80-\udcff]")
_NOT_ASCII = re.compile("[^\0-\x7f\udc80-\udcff]")
_CONTROL = re.compile("[\udc80-\udc9f]")
"""Control characters in Latin-1, letters and quotation marks in Windows-1252."""


@contextlib.contextmanager
def opened(path: str, encoding: str | None = None) -> Iterator[Any]:
    """A file as unpacked bytes, a part at a time: a binary file without `seek`.

    `encoding` is that of a text that is not UTF-8; the bytes are UTF-8 then.

    Raises:
        InputError: for a file that cannot be opened, unpacked or decoded, also while it is read.
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
    """A text file's bytes in UTF-8."""

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


class Encoding(NamedTuple):
    """What the bytes of a file tell.

    Args:
        name: `utf-8`, `utf-16` or `utf-32` (the latter two with a byte order mark), or
            None for any other.
        likely: Name of an encoding to try, if `name` is None.
        where: Place and bytes of the first character that is not UTF-8.
        is_ascii: Whether it has no other characters, and may be in any encoding that has these.
    """

    name: str | None
    likely: str = ""
    where: str = ""
    is_ascii: bool = False


def marked(start: bytes) -> str | None:
    """Encoding of the byte order mark that a file begins with, if there is one."""
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)


def encoding_of(file: Any) -> Encoding:
    """Read a binary file to its end.

    A file is UTF-8 if its characters beyond ASCII are valid in it as often as not: one
    damaged line does not make another encoding, and text in an 8-bit encoding is hardly
    ever valid UTF-8.
    """
    block = file.read(_BLOCK_BYTES)
    if encoding := marked(block):
        return Encoding(encoding)
    if block.count(0) * _ZEROS > len(block):
        little = block[1::2].count(0) > block[::2].count(0)
        return Encoding(None, "utf-16-le" if little else "utf-16-be", "line 1")
    decoder = codecs.getincrementaldecoder(UTF_8)("surrogateescape")
    valid = invalid = controls = lines = 0
    where = ""
    is_end = False
    while not is_end:
        is_end = not block
        text = decoder.decode(block, final=is_end)
        if not text.isascii():
            valid += len(_NOT_ASCII.findall(text))
            invalid += len(_UNDECODED.findall(text))
            controls += len(_CONTROL.findall(text))
            where = where or _first_undecoded(text, lines)
        lines += text.count("\n")
        block = file.read(_BLOCK_BYTES)
    if valid >= invalid:
        return Encoding(UTF_8, is_ascii=not valid)
    return Encoding(None, "cp1252" if controls else "latin-1", where)


def settled_encoding(path: str, told: str | None = None) -> str | None:
    """Encoding of a file, which is read to its end; None for UTF-8.

    `told` is the encoding of files that are not UTF-8. One of two files may be UTF-8 nevertheless.

    Raises:
        InputError: if it is neither UTF-8 nor marked as UTF-16 or UTF-32, and none was told.
    """
    with opened(path) as file:
        found = encoding_of(file)
    if told and (found.name is None or (found.is_ascii and not _WIDE.match(told))):
        return told
    if found.name is None:
        raise InputError(
            f"{path} is not in UTF-8 ({found.where}). Name its encoding to `kdsr data import`: "
            f"--encoding {found.likely}, if that is it. Or save the file as UTF-8."
        )
    return None if found.name == UTF_8 else found.name


def _first_undecoded(text: str, lines_before: int) -> str:
    """Line and bytes around the first byte that is not UTF-8, if there is one."""
    found = _UNDECODED.search(text)
    if not found:
        return ""
    begins = text.rfind("\n", 0, found.start()) + 1
    around = text[max(begins, found.start() - 20) : found.start() + 10].splitlines()[0]
    line = lines_before + text.count("\n", 0, begins) + 1
    return f"line {line:,}: {around.encode(UTF_8, 'surrogateescape')!r}"
