"""Files that are not UTF-8, through a reader that wants it."""

from __future__ import annotations

import io
import random

import pyarrow as pa
import pytest

from kdsr_tf.sources.marked_bytes import MarkedFile, is_marked, readable, unmarked


def _read(data, size):
    marked = MarkedFile(io.BytesIO(data))
    parts = []
    while part := marked.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts), marked.has_marks


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 16])
def test_every_byte_comes_back(size):
    draw = random.Random(0)
    texts = ["Größe 店 👒\n".encode(), bytes(range(256)), b"\xf4\x8f", b"caf\xe9, \xed\xa0\x80"]
    for _ in range(50):
        data = b"".join(draw.choice(texts)[draw.randrange(4) :] for _ in range(9))
        found, has_marks = _read(data, size)
        text = found.decode()
        assert unmarked(pa.array([found, None])).to_pylist() == [data, None]
        assert is_marked(text) == has_marks == (data.decode("utf-8", "replace") != text)
        assert not is_marked(readable(text))


def test_a_text_is_read_as_it_is():
    data = "Größe 店 👒\r\n".encode() * 9
    for size in (1, 5, 1000):
        assert _read(data, size) == (data, False)
