"""The encoding of a file, from its bytes."""

from __future__ import annotations

import pytest

from kdsr_tf.errors import InputError
from kdsr_tf.sources.streams import settled_encoding

TEXT = "title\nCité, Amélie\n“Heat” 10 €\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", None),
        (b"ascii only\n", None),
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), "utf-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("utf-32"), "utf-32"),
        # One damaged line among others: its row is rejected, not the file.
        (TEXT.encode() + b"Caf\xe9\n", None),
        # A character over the end of a block.
        (b"a" * ((1 << 20) - 1) + "é".encode(), None),
    ],
)
def test_what_the_bytes_tell(content, expected, tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    assert settled_encoding(str(path)) == expected


@pytest.mark.parametrize(
    ("content", "told", "expected"),
    [
        (TEXT.encode("cp1252"), "cp1252", "cp1252"),
        (TEXT.encode("utf-16-le"), "utf-16-le", "utf-16-le"),
        # One option for two files: what is UTF-8, or marked, stays it.
        (TEXT.encode(), "latin-1", None),
        (TEXT.encode("utf-8-sig"), "latin-1", None),
        (TEXT.encode("utf-16"), "latin-1", "utf-16"),
        (b"ascii only\n", "UTF-16", None),
        (b"ascii only\n", "utf_32_le", None),
        ("日本".encode("iso2022_jp"), "iso2022_jp", "iso2022_jp"),
    ],
)
def test_a_told_encoding_is_that_of_files_that_are_not_utf_8(content, told, expected, tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    assert settled_encoding(str(path), told) == expected


@pytest.mark.parametrize(
    ("content", "likely", "where"),
    [
        ("id\nCafé\n".encode("latin-1"), "latin-1", r"line 2: b'Caf\xe9'"),
        (TEXT.encode("cp1252"), "cp1252", "line 2"),
        (b"a\n" * (1 << 20) + "Café".encode("latin-1"), "latin-1", "line 1,048,577"),
        ("Привет".encode("cp1251"), "latin-1", "line 1"),
        (TEXT.encode("utf-16-le"), "utf-16-le", "line 1"),
        (TEXT.encode("utf-16-be"), "utf-16-be", "line 1"),
    ],
)
def test_any_other_encoding_is_refused_with_the_place_and_the_remedy(
    content, likely, where, tmp_path
):
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        settled_encoding(str(path))
    assert f"f.csv is not in UTF-8 ({where}" in str(refused.value)
    assert f"--encoding {likely}, if that is it" in str(refused.value)
