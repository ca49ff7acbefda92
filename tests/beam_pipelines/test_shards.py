"""Deterministic files: same bytes for any order, bundling and number of workers."""

from __future__ import annotations

import dataclasses
import hashlib
import operator
import pathlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.running import run_pipeline
from beam_pipelines.transforms.shards import (
    Files,
    ParquetWriter,
    WriteShards,
    default_num_shards,
    write_table,
)
from kdsr_tf.hashing import shard_of

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.int32())])
KEY = operator.itemgetter("key")
ROWS = Files(3, KEY, KEY, ParquetWriter(SCHEMA))
RECORDS = [{"key": f"k{k}", "value": k} for k in range(50)]


def _write(folder: pathlib.Path, records, num_shards=3, beam_args=()) -> dict[str, str]:
    folder.mkdir()
    transform = WriteShards(str(folder), {"rows": dataclasses.replace(ROWS, num_shards=num_shards)})

    def build(pipeline):
        rows = pipeline | beam.Create(records) | beam.Reshuffle()
        _ = rows | beam.Map(lambda row: ("rows", row)) | transform

    run_pipeline(build, beam_args, title="write")
    return {path.name: _digest(path) for path in sorted(folder.iterdir())}


def _digest(path: pathlib.Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_bytes_do_not_depend_on_order_or_workers(tmp_path):
    first = _write(tmp_path / "a", RECORDS)
    assert list(first) == [f"rows-0000{k}-of-00003.parquet" for k in range(3)]
    assert _write(tmp_path / "b", RECORDS[::-1]) == first
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    assert _write(tmp_path / "c", RECORDS, beam_args=workers) == first


def test_every_record_is_in_the_shard_of_its_key(tmp_path):
    _write(tmp_path / "a", RECORDS)
    found = []
    for shard, path in enumerate(sorted((tmp_path / "a").iterdir())):
        rows = pq.read_table(path).to_pylist()
        assert rows == sorted(rows, key=KEY)
        assert {shard_of(row["key"], 3) for row in rows} == {shard}
        found += rows
    assert sorted(found, key=operator.itemgetter("value")) == RECORDS


def test_one_transform_writes_files_of_several_kinds(tmp_path):
    for folder in ("apart", "together"):
        (tmp_path / folder).mkdir()
    alone = _write(tmp_path / "apart" / "rows", RECORDS)
    files = {"odd": dataclasses.replace(ROWS, num_shards=2), "rows": ROWS, "none": ROWS}
    records = [("rows", row) for row in RECORDS] + [("odd", row) for row in RECORDS[1::2]]
    folder = tmp_path / "together"
    run_pipeline(
        lambda pipeline: pipeline | beam.Create(records) | WriteShards(str(folder), files),
        title="write",
    )
    assert {name: _digest(folder / name) for name in alone} == alone
    tables = {
        stem: [pq.read_table(path) for path in sorted(folder.glob(f"{stem}-*"))] for stem in files
    }
    assert [len(tables[stem]) for stem in files] == [2, 3, 3]
    odd = [row for table in tables["odd"] for row in table.to_pylist()]
    assert sorted(odd, key=KEY) == sorted(RECORDS[1::2], key=KEY)
    assert sum(table.num_rows for table in tables["none"]) == 0


def test_empty_shards_are_written(tmp_path):
    names = _write(tmp_path / "a", RECORDS[:1], num_shards=2)
    tables = [pq.read_table(tmp_path / "a" / name) for name in names]
    assert sorted(table.num_rows for table in tables) == [0, 1]
    assert all(table.schema.equals(SCHEMA) for table in tables)


def test_number_of_shards_follows_the_data():
    assert [default_num_shards(n, 100) for n in (0, 1, 100, 101)] == [1, 1, 1, 2]
    with pytest.raises(ValueError, match="num_shards"):
        dataclasses.replace(ROWS, num_shards=0)


def test_vectors_have_no_dictionary(tmp_path):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 1.5], pa.float32()), 2)
    for name, table in {
        "vectors": pa.table({"item": [1], "vector": vectors}),
        "texts": pa.table({"title": ["one"]}),
    }.items():
        write_table(str(tmp_path / name), table)
        group = pq.ParquetFile(tmp_path / name).metadata.row_group(0)
        pages = [group.column(i).has_dictionary_page for i in range(group.num_columns)]
        assert any(pages) == (name == "texts")
