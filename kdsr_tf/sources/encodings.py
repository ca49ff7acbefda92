"""Which encoding a text file has, told from all of its bytes and never guessed."""

from __future__ import annotations

import codecs
import re
from typing import Any, NamedTuple

from kdsr_tf.errors import InputError
from kdsr_tf.sources.streams import opened

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

    Args:
        path: Local path or URI.
        told: Encoding of files that are not UTF-8. One of two files may be UTF-8 nevertheless.

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
