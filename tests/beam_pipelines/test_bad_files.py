"""Files that cannot be used as a whole: one clear error, and nothing is committed."""

from __future__ import annotations

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.prepare import prepare
from kdsr_tf import artifacts, stages
from kdsr_tf.errors import InputError
from kdsr_tf.sources import files, open_source, parquet_files, table_rows
from kdsr_tf.sources.forms import find_form
from kdsr_tf.sources.interaction_rows import read_interactions
from tests.beam_pipelines.clicks import HUGE, configure, write_source

EMPTY_PARQUET = pa.table({"user_id": [""], "item_id": [""], "timestamp": [0]}).slice(0, 0)

UNUSABLE = {
    "zero-byte JSON lines": ("interactions.jsonl", b"\n", "interactions.jsonl is empty"),
    "a blank CSV line": ("interactions.csv", b"\n", "interactions.csv is empty"),
    "blank CSV rows": (
        "interactions.csv",
        b"user_id,item_id,timestamp\n\n\n",
        "interactions.csv has no rows.*one row per interaction",
    ),
    "a JSON array": (
        "interactions.jsonl",
        b"[7,\n[8]]",
        r"no record is a JSON object \(row 1: not a JSON object\)",
    ),
    "a JSON array that is cut": ("items.json", b'[{"item_id": "a"}, {"it', "JSON after row 1: "),
    "a JSON array without an end": ("items.json", b'[{"item_id": "a"}', "the list has no end"),
    "damaged gzip": ("interactions.csv", b"\x1f\x8b\x08\0", "cannot be unpacked: .* ended before"),
    "damaged zstd": ("interactions.csv.zst", b"\x28\xb5\x2f\xfd", "cannot be unpacked: Trunc"),
    "damaged zip": ("items.csv.zip", b"PK\x03\x04\x14\0", "cannot be unpacked: .* not a zip file"),
    "UTF-16": (
        "interactions.csv",
        "user_id,item_id,timestamp\nu,a,1\n".encode("utf-16"),
        "header .* is not UTF-8. Save the file as UTF-8",
    ),
    "a file without a header": (
        "interactions.tsv",
        b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        "its first line looks like data: 196, 242, 3, 881250949.*--no-header --column user_id=1",
    ),
    "a column twice": ("items.csv", b"item_id,title,title\na,b,c\n", "two columns 'title'"),
    "CSV header of another encoding": ("interactions.csv", b"\xff,\n1,2\n", "header .* not UTF-8"),
    "zero-byte Parquet": ("interactions.parquet", b"\n", "cannot be read as Parquet"),
    "truncated Parquet": ("interactions.parquet", b"PAR1PAR1", "cannot be read as Parquet"),
    "header only": (
        "interactions.csv",
        b"user_id,item_id,timestamp\n",
        "interactions.csv has no rows",
    ),
    "no interactions": ("interactions.parquet", EMPTY_PARQUET, "interactions.parquet has no rows"),
    "damaged Parquet": ("interactions.parquet", "damaged", "damaged after row 0: .*Write it again"),
    "missing columns": (
        "interactions.csv",
        b"user,item_id\nu,a\n",
        "lacks the columns user_id, timestamp. Columns found: user, item_id",
    ),
    "empty catalogue": ("items.jsonl", b"\n", "items.jsonl is empty"),
    "catalogue header only": ("items.csv", b"item_id,title\n", "items.csv has no rows"),
    "catalogue without ids": ("items.csv", b"id,title\n1,A\n", "lacks the column item_id"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_file_is_one_clear_error(tmp_path, case):
    name, content, message = UNUSABLE[case]
    folder = tmp_path / "source"
    kind = "interactions" if name.startswith("interactions") else "items"
    source = write_source(folder, **{kind: (name, content if isinstance(content, bytes) else b"-")})
    if isinstance(content, pa.Table):
        pq.write_table(content, folder / name)
    if content == "damaged":
        columns = {"user_id": [f"u{k}" for k in range(9999)], "item_id": "a", "timestamp": 1}
        table = pa.table({k: v if isinstance(v, list) else [v] * 9999 for k, v in columns.items()})
        pq.write_table(table, folder / name)
        data = bytearray((folder / name).read_bytes())
        data[500:2000] = b"\xff" * 1500
        (folder / name).write_bytes(data)
    config = configure(tmp_path, source)
    with pytest.raises(InputError, match=message):
        prepare(config)
    assert artifacts.find_manifest(stages.location(config, "sequences")) is None


def test_lines_within_closed_quotation_marks_are_texts(tmp_path):
    lines = b'item_id,title\na,"A\nA"\nx"y,"not\none",2\n"b","B\nB" \n\n'
    config = configure(tmp_path, write_source(tmp_path / "source", items=("items.csv", lines)))
    assert prepare(config).counts["rejected"] == 1
    path = pathlib.Path(stages.location(config, "sequences")) / "items.parquet"
    assert pq.read_table(path)["title"].to_pylist() == ["A\nA", "B\nB "]


OPEN = b"user_id,item_id,timestamp\nu,a,1\n"


@pytest.mark.parametrize(
    "content",
    [
        OPEN + b'"u,a,1\n' + b"u,a,1\n" * 2_000,
        OPEN + b'u,a,"1\n' + b"u,a,1\n" * 2_000,
        b'user_id,item_id,timestamp,review\nu,a,1,\nu,a,1,"fi\n' + b"u,a,1,ne\n" * 2_000,
        OPEN + b'"u"u,a,1\n' + b"u,a,1\n" * 2_000,
    ],
)
def test_a_stray_quotation_mark_costs_its_own_row_only(tmp_path, content):
    config = configure(tmp_path, write_source(tmp_path / "source", ("interactions.csv", content)))
    counts = prepare(config).counts
    assert (counts["interactions"], counts["rejected"]) == (2_001, 1)
    (path,) = pathlib.Path(stages.location(config, "sequences")).glob("rejected-*.parquet")
    (row,) = pq.read_table(path).to_pylist()
    assert row["where"] == "interactions.csv row 2"
    assert row["reason"] == table_rows.STRAY_MARK


def test_carriage_returns_end_lines(tmp_path):
    lines = b"user_id,item_id,timestamp\ru,a,1\ru,b,2\r"
    config = configure(tmp_path, write_source(tmp_path / "source", ("interactions.csv", lines)))
    assert prepare(config).counts["interactions"] == 2


def test_parquet_with_damaged_names_is_one_clear_error(tmp_path):
    source = write_source(tmp_path / "source", items=("items.parquet", b"-"))
    path = tmp_path / "source" / "items.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "title": ["A"]}), path)
    path.write_bytes(path.read_bytes().replace(b"title", b"\xff\xfe\xffle"))
    with pytest.raises(InputError, match=r"items.parquet cannot be read as Parquet"):
        prepare(configure(tmp_path, source))


def test_fixed_size_lists_that_arrow_cannot_read_are_called_so(tmp_path):
    source = write_source(tmp_path / "source", items=("items.parquet", b"-"))
    vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    table = pa.table({"item_id": ["a", "b", "c"], "text_vector": vectors})
    pq.write_table(table, tmp_path / "source" / "items.parquet")
    with pytest.raises(InputError, match=r"fixed-size lists with missing .*pa\.list_"):
        prepare(configure(tmp_path, source))


def test_a_row_longer_than_a_block_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "_BLOCK_BYTES", 1 << 15)
    monkeypatch.setattr(table_rows, "LONGEST_ROW_BYTES", 1 << 16)
    rows = b"user_id,item_id,timestamp\nu,a,1\n" + HUGE.encode() + b",a,1\n" + b"u,a,2\n" * 99_999
    config = configure(tmp_path, write_source(tmp_path / "source", ("interactions.csv", rows)))
    (piece,) = open_source(config.source).interaction_pieces()
    with pytest.raises(InputError, match="longer than 65,536 bytes"):
        list(read_interactions(piece))


def test_a_file_of_zero_bytes_is_one_clear_error(tmp_path):
    for name in ("interactions.csv", "interactions.jsonl", "interactions.parquet"):
        folder = tmp_path / name
        source = write_source(folder, (name, b"-"))
        (folder / name).write_bytes(b"")
        with pytest.raises(InputError, match=rf"{name} (is empty|cannot be read as Parquet)"):
            prepare(configure(tmp_path, source))


def test_a_folder_in_place_of_a_file_is_one_clear_error(tmp_path):
    source = write_source(tmp_path / "source")
    (tmp_path / "source" / "items.jsonl").unlink()
    (tmp_path / "source" / "items.jsonl").mkdir()
    with pytest.raises(InputError, match=r"items.jsonl is a folder, and holds no files"):
        prepare(configure(tmp_path, source))
    with pytest.raises(InputError, match="is not a folder"):
        prepare(configure(tmp_path, f"source.path={__file__}"))


def test_a_megabyte_of_text_is_a_text(tmp_path):
    for name, catalogue in {
        "items.csv": f"item_id,title\na,{HUGE}\nb,B\n".encode(),
        "items.jsonl": json.dumps({"item_id": "a", "title": HUGE}).encode() + b'\n{"item_id": "b"}',
    }.items():
        folder = tmp_path / name
        config = configure(tmp_path, write_source(folder, items=(name, catalogue)))
        assert prepare(config).counts["rejected"] == 0
        path = pathlib.Path(stages.location(config, "sequences")) / "items.parquet"
        assert pq.read_table(path)["title"][0].as_py() == HUGE


def test_rows_of_a_megabyte_come_in_small_batches(tmp_path, monkeypatch):
    for module in (files, parquet_files):
        monkeypatch.setattr(module, "_BATCH_BYTES", 1 << 20)
    catalogue = [{"item_id": str(k), "title": HUGE[: 1 << 19]} for k in range(6)]
    lines = b"\n".join(json.dumps(row).encode() for row in catalogue)
    write_source(tmp_path / "source", items=("items.jsonl", lines))
    table = pa.Table.from_pylist(catalogue)
    pq.write_table(table, tmp_path / "items.parquet", use_dictionary=False)
    for path in (tmp_path / "source" / "items.jsonl", tmp_path / "items.parquet"):
        (piece,) = files.pieces_of(str(path), find_form(str(path)))
        sizes = [len(batch.rows) for batch in files.read_batches(piece)]
        assert sum(sizes) == 6 and max(sizes) <= 2
