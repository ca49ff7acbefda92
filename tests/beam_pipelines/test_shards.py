"""Deterministic files: same bytes for any order, bundling and number of workers."""

from __future__ import annotations

import hashlib
import operator
import pathlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.running import run_pipeline
from beam_pipelines.transforms.shards import (
    ParquetWriter,
    WriteShards,
    default_num_shards,
    write_table,
)
from kdsr_tf.hashing import shard_of

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.int32())])
RECORDS = [{"key": f"k{k}", "value": k} for k in range(50)]


def _write(folder: pathlib.Path, records, num_shards=3, beam_args=()) -> dict[str, str]:
    folder.mkdir()
    transform = WriteShards(
        str(folder),
        "rows",
        num_shards,
        key_fn=operator.itemgetter("key"),
        sort_fn=operator.itemgetter("key"),
        writer=ParquetWriter(SCHEMA),
    )

    def build(pipeline):
        _ = pipeline | beam.Create(records) | beam.Reshuffle() | transform

    run_pipeline(build, beam_args, title="write")
    return {
        path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())
    }


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
        assert rows == sorted(rows, key=operator.itemgetter("key"))
        assert {shard_of(row["key"], 3) for row in rows} == {shard}
        found += rows
    assert sorted(found, key=operator.itemgetter("value")) == RECORDS


def test_empty_shards_are_written(tmp_path):
    names = _write(tmp_path / "a", RECORDS[:1], num_shards=2)
    tables = [pq.read_table(tmp_path / "a" / name) for name in names]
    assert sorted(table.num_rows for table in tables) == [0, 1]
    assert all(table.schema.equals(SCHEMA) for table in tables)


def test_number_of_shards_follows_the_data():
    assert [default_num_shards(n, 100) for n in (0, 1, 100, 101)] == [1, 1, 1, 2]
    with pytest.raises(ValueError, match="num_shards"):
        WriteShards("x", "rows", 0, str, str, ParquetWriter(SCHEMA))


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
