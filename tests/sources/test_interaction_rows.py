"""Valid rows, rejected rows and whole-file errors of the interactions."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources import files, open_source
from kdsr_tf.sources.interaction_rows import read_interactions


def _source(folder, name: str, content: bytes, **config):
    (folder / "items.jsonl").write_text('{"item_id": "a"}\n')
    (folder / name).write_bytes(content)
    return open_source(SourceConfig(path=str(folder), **config))


def _read(source):
    rows, rejected = [], []
    for piece in source.interaction_pieces():
        for batch in read_interactions(piece):
            columns = batch.user_ids.to_pylist(), batch.item_ids.to_pylist()
            rows += zip(*columns, batch.timestamps.tolist(), batch.rows.tolist(), strict=True)
            rejected += batch.rejected
    return rows, rejected


def _parquet(folder, **columns) -> bytes:
    path = folder / "made.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    content = path.read_bytes()
    path.unlink()
    return content


def test_three_formats_give_the_same_rows(tmp_path):
    text = {
        "interactions.jsonl": b'{"user_id": "u", "item_id": 7, "timestamp": 5}\n\n'
        b'{"user_id": "v", "item_id": "a", "timestamp": "6"}\n',
        "interactions.csv": b"timestamp,item_id,user_id,rating\n5,7,u,1\n6,a,v,\n",
    }
    expected = [("u", "7", 5), ("v", "a", 6)]
    for name, content in text.items():
        folder = tmp_path / name.partition(".")[2]
        folder.mkdir()
        rows, rejected = _read(_source(folder, name, content))
        assert [row[:3] for row in rows] == expected
        assert not rejected
    content = _parquet(tmp_path, user_id=["u", "v"], item_id=["7", "a"], timestamp=[5, 6])
    rows, _ = _read(_source(tmp_path, "interactions.parquet", content))
    assert [row[:3] for row in rows] == expected


def test_row_numbers_run_over_row_groups(tmp_path):
    content = _parquet(tmp_path, user_id=list("uvwxy"), item_id=[1] * 5, timestamp=[0] * 5)
    source = _source(tmp_path, "interactions.parquet", content)
    assert len(source.interaction_pieces()) == 3
    assert [row[3] for row in _read(source)[0]] == [0, 1, 2, 3, 4]
    assert source.num_interactions() == 5


def test_bad_json_rows_are_rejected_with_their_reason(tmp_path):
    lines = [
        b'{"user_id": "u", "item_id": "a", "timestamp": 1}',
        b'{"user_id": "", "item_id": "a", "timestamp": 1}',
        b'{"item_id": "a", "timestamp": 1}',
        b'{"user_id": "u", "item_id": 1.5, "timestamp": 1}',
        b'{"user_id": true, "item_id": "a", "timestamp": 1}',
        b'{"user_id": "u", "item_id": "a", "timestamp": -4}',
        b'{"user_id": "u", "item_id": "a", "timestamp": "soon"}',
        b'{"user_id": "u", "item_id": "a", "timestamp": NaN}',
        b'{"user_id": "u", "item_id": "a", "timestamp": 1e30}',
        b'{"user_id": "u", ',
        b'["u", "a", 1]',
        b'{"user_id": "\xff", "item_id": "a", "timestamp": 1}',
        b'{"user_id": "u", "item_id": "a", "timestamp": "2024-05-01"}',
    ]
    source = _source(tmp_path, "interactions.jsonl", b"\n".join(lines))
    rows, rejected = _read(source)
    assert [row[3] for row in rows] == [0, 12]
    reasons = {row.where.rsplit(" ", 1)[1]: row.reason for row in rejected}
    assert reasons == {
        "2": "user_id is missing",
        "3": "user_id is missing",
        "4": "item_id is neither text nor an integer",
        "5": "user_id is neither text nor an integer",
        "6": "timestamp is negative",
        "7": "timestamp is neither an integer nor an ISO time",
        "8": "timestamp is missing",
        "9": "timestamp does not fit into 64 bits",
        "10": "not valid JSON",
        "11": "not a JSON object",
        "12": "not UTF-8",
    }
    assert json.loads(next(row for row in rejected if row.where.endswith(" 6")).row) == {
        "user_id": "u",
        "item_id": "a",
        "timestamp": -4,
    }


def test_bad_csv_rows_are_rejected_with_their_reason(tmp_path):
    lines = ["u,a,1.0", "\xff,a,1", "u,a", "v,a,2024-05-01T00:00:00Z", "v,b,", "v,b,1.5"]
    content = "\n".join(["user_id,item_id,timestamp", *lines, ""]).encode("latin-1")
    rows, rejected = _read(_source(tmp_path, "interactions.csv", content))
    assert [row[:3] for row in rows] == [("u", "a", 1), ("v", "a", 1_714_521_600_000_000)]
    assert sorted((row.where, row.reason) for row in rejected) == [
        ("interactions.csv row 2", "user_id is not UTF-8"),
        ("interactions.csv row 3", "wrong number of CSV fields"),
        ("interactions.csv row 5", "timestamp is missing"),
        ("interactions.csv row 6", "timestamp is neither an integer nor an ISO time"),
    ]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime.datetime(2024, 5, 1)], pa.timestamp("ms")),
        pa.array([datetime.date(2024, 5, 1)], pa.date32()),
        pa.array([datetime.datetime(2024, 5, 1)], pa.timestamp("ns", "UTC")),
        pa.array(["2024-05-01T02:00:00+02:00"]),
        pa.array([1_714_521_600_000_000.0]),
        pa.array(["1714521600000000"]).dictionary_encode(),
    ],
    ids=lambda times: str(times.type),
)
def test_times_become_microseconds(tmp_path, times):
    content = _parquet(tmp_path, user_id=["u"], item_id=["a"], timestamp=times)
    rows, rejected = _read(_source(tmp_path, "interactions.parquet", content))
    assert not rejected
    assert rows == [("u", "a", 1_714_521_600_000_000, 0)]


def test_a_missing_column_lists_those_found(tmp_path):
    content = _parquet(tmp_path, user=["u"], item_id=["a"], timestamp=[1])
    with pytest.raises(InputError, match=r"lacks the column user_id. Columns found: user, item_id"):
        _source(tmp_path, "interactions.parquet", content)


def test_columns_of_other_names(tmp_path):
    content = _parquet(tmp_path, user=["u"], item_id=["a"], timestamp=[1], when=[7])
    names = {"user_id": "user", "timestamp": "when"}
    source = _source(tmp_path, "interactions.parquet", content, columns=names)
    assert _read(source)[0] == [("u", "a", 7, 0)]
    assert (
        source.fingerprint()
        != _source(
            tmp_path, "interactions.parquet", content, columns={"user_id": "user"}
        ).fingerprint()
    )
    message = r"takes timestamp from the column 'time', which .* Columns found: item_id, timestamp"
    with pytest.raises(InputError, match=message):
        _source(tmp_path, "interactions.parquet", content, columns={"timestamp": "time"})
    with pytest.raises(InputError, match=r"--set source\.columns\.user_id=NAME"):
        _source(tmp_path, "interactions.parquet", content)


def test_rows_are_counted_without_a_last_line_end(tmp_path):
    for ending in (b"", b"\n"):
        content = b"user_id,item_id,timestamp\nu,a,1\nu,a,2" + ending
        assert _source(tmp_path, "interactions.csv", content).num_interactions() == 2
    (tmp_path / "interactions.csv").unlink()
    assert (
        _source(
            tmp_path, "interactions.jsonl", b'{"user_id": "u", "item_id": "a", "timestamp": 1}'
        ).num_interactions()
        == 1
    )


def test_what_cannot_be_read_at_all_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"--set source\.path"):
        open_source(SourceConfig())
    with pytest.raises(InputError, match="does not exist"):
        open_source(SourceConfig(path=str(tmp_path / "absent")))
    with pytest.raises(InputError, match=r"cannot be opened: .*nowhere"):
        open_source(SourceConfig(path="nowhere://shop"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no interactions.*Files found: notes.txt"):
        open_source(SourceConfig(path=str(tmp_path)))
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        _source(tmp_path, "interactions.parquet", b"PAR1 truncated")
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n")
    with pytest.raises(InputError, match="Keep one of them"):
        open_source(SourceConfig(path=str(tmp_path)))


def test_long_files_are_read_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BATCH_ROWS", 3)
    lines = [f'{{"user_id": "u", "item_id": "a", "timestamp": {t}}}' for t in range(8)]
    source = _source(tmp_path, "interactions.jsonl", "\n".join(lines).encode())
    (piece,) = source.interaction_pieces()
    sizes = [len(batch.rows) for batch in read_interactions(piece)]
    assert sizes == [3, 3, 2]
    assert np.array_equal([row[2] for row in _read(source)[0]], np.arange(8))
