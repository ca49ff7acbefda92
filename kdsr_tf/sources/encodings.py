"""Which encoding a text file has, told from all of its bytes and never guessed."""

from __future__ import annotations

import codecs
import re
from typing import Any

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
_UNDECODED = re.compile("[\udc80-\udcff]")
_NOT_ASCII = re.compile("[^\0-\x7f\udc80-\udcff]")


def encoding_of(file: Any) -> str | None:
    """Encoding of a binary file, which is read to its end.

    A file is UTF-8 if more of its characters beyond ASCII are valid in it than are not:
    one damaged line does not make another encoding, and text in an 8-bit encoding is
    hardly ever valid UTF-8.

    Returns:
        `utf-8`, `utf-16` or `utf-32` (the latter two with a byte order mark), or None
        for any other.
    """
    block = file.read(_BLOCK_BYTES)
    for mark, encoding in _MARKS.items():
        if block.startswith(mark):
            return encoding
    if b"\0" in block:
        return None
    decoder = codecs.getincrementaldecoder(UTF_8)("surrogateescape")
    valid = invalid = 0
    while block:
        text = decoder.decode(block)
        if not text.isascii():
            valid += len(_NOT_ASCII.findall(text))
            invalid += len(_UNDECODED.findall(text))
        block = file.read(_BLOCK_BYTES)
    return UTF_8 if valid >= invalid else None
