"""The catalogue: rows, text, pictures, fingerprints."""

from __future__ import annotations

import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source
from kdsr_tf.sources.batches import Rejected
from kdsr_tf.sources.catalogue_rows import as_text

_CLICK = "user_id,item_id,timestamp\nu,a,1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "interactions.csv").write_text(_CLICK)
    return tmp_path


def test_formats_agree_on_the_rows(folder):
    contents = {
        "items.csv": "item_id,title,note\na,Red shoe,\nb,,soft\n",
        "items.jsonl": '{"item_id": "a", "title": "Red shoe"}\n{"item_id": "b", "note": "soft"}\n',
    }
    expected = [
        ("a", 0, {"item_id": "a", "title": "Red shoe"}),
        ("b", 1, {"item_id": "b", "note": "soft"}),
    ]
    for name, content in contents.items():
        (folder / name).write_text(content)
        rows = list(open_source(SourceConfig(path=str(folder))).read_items())
        assert [(row.item_id, row.row, row.values) for row in rows] == expected
        (folder / name).unlink()
    table = pa.table({"item_id": ["a", "b"], "title": ["Red shoe", None], "note": [None, "soft"]})
    pq.write_table(table, folder / "items.parquet")
    rows = list(open_source(SourceConfig(path=str(folder))).read_items())
    assert [(row.item_id, row.row, row.values) for row in rows] == expected


def test_rows_without_an_id_are_rejected(folder):
    (folder / "items.jsonl").write_bytes(
        b'{"item_id": 3, "title": "ok"}\n{"title": "x"}\n{"item_id": [1]}\n{"item_id": \n\xff\n'
    )
    rows = list(open_source(SourceConfig(path=str(folder))).read_items())
    assert [row.item_id for row in rows if not isinstance(row, Rejected)] == ["3"]
    assert sorted((row.where, row.reason) for row in rows if isinstance(row, Rejected)) == [
        ("items.jsonl row 2", "item_id is missing"),
        ("items.jsonl row 3", "item_id is neither text nor an integer"),
        ("items.jsonl row 4", "not valid JSON"),
        ("items.jsonl row 5", "not UTF-8"),
    ]


def test_text_of_any_value():
    assert as_text(["Comedy", "", "Drama"]) == "Comedy, Drama"
    assert as_text(1999) == "1999"
    assert as_text(None) == as_text(float("nan")) == as_text([]) == as_text("  ") == ""


def test_fingerprint_follows_content_and_pictures(folder):
    (folder / "items.csv").write_text("item_id,image\na,a.png\n")
    (folder / "a.png").write_bytes(b"1")
    os.utime(folder / "a.png", (1, 1))

    def fingerprint():
        return open_source(SourceConfig(path=str(folder))).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    os.utime(folder / "a.png", (2, 2))
    second = fingerprint()
    (folder / "interactions.csv").write_text(_CLICK + "u,a,2\n")
    assert len({first, second, fingerprint()}) == 3


def test_a_source_in_memory_reads_like_a_folder():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/shop/interactions.csv", _CLICK.encode())
    filesystem.pipe("/shop/items.jsonl", b'{"item_id": "a", "image": "x/a.png"}\n')
    source = open_source(SourceConfig(path="memory://shop"))
    assert [row.item_id for row in source.read_items()] == ["a"]
    assert source.image_path("x/a.png") == "memory://shop/x/a.png"
    with pytest.raises(InputError, match="leads outside"):
        source.image_path("../a.png")
