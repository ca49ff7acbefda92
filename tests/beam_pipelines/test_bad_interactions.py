"""Bad input of the prepare job: a counted dead letter with its reason, or one clear error."""

from __future__ import annotations

import datetime
import json
import os
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.prepare import prepare
from kdsr_tf import stages
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source
from kdsr_tf.sources.catalogue_rows import row_as_json
from kdsr_tf.sources.interaction_rows import read_interactions
from tests.beam_pipelines.clicks import CATALOGUE, GOOD, HUGE, configure, json_row, write_source

MISSING_USER = "user_id is missing"
MISSING_TIME = "timestamp is missing"
NO_TIME = "timestamp is neither an integer nor an ISO time"
NEGATIVE = "timestamp is negative"
FRACTION = "timestamp has a fraction, which only `kdsr data import` reads"
TOO_EARLY = "timestamp is earlier than the year 1970"
TOO_LARGE = "timestamp does not fit into 64 bits"
TOO_LATE = "timestamp is later than the year 2262"
NO_USER_ID = "user_id is neither text nor an integer"
UNKNOWN = "item_id is not in the catalogue"
LONG_USER = "user_id is longer than 1,024 bytes"
LONG_ITEM = "item_id is longer than 1,024 bytes"
NO_JSON = "not valid JSON"


JSON_LINES = [
    (b'{"item_id": "a", "timestamp": 1}', MISSING_USER),
    (json_row(user="  "), MISSING_USER),
    (json_row(user=None), MISSING_USER),
    (json_row(user=1.5), NO_USER_ID),
    (json_row(user=True), NO_USER_ID),
    (json_row(user=["u"]), NO_USER_ID),
    (json_row(user={"id": 1}), NO_USER_ID),
    (json_row(user=HUGE), LONG_USER),
    (json_row(item=HUGE), LONG_ITEM),
    (json_row(item="é" * 513), LONG_ITEM),
    (json_row(item="ghost"), UNKNOWN),
    (json_row(item=10**30), UNKNOWN),
    (json_row(time=None), MISSING_TIME),
    (json_row(time=float("nan")), MISSING_TIME),
    (json_row(time=float("inf")), NO_TIME),
    (json_row(time=1.5), NO_TIME),
    (json_row(time=1.6e9 + 0.25), FRACTION),
    (json_row(time=False), NO_TIME),
    (json_row(time="yesterday"), NO_TIME),
    (json_row(time=[1]), NO_TIME),
    (json_row(time=-1), NEGATIVE),
    (json_row(time=-(10**30)), NEGATIVE),
    (json_row(time="1969-12-31T23:59:59"), TOO_EARLY),
    (json_row(time=10**30), TOO_LARGE),
    (json_row(time=1e30), TOO_LARGE),
    (json_row(time="9999-12-31T23:59:59.999999-12:00"), TOO_LATE),
    (json_row(time="2262-05-01"), TOO_LATE),
    (b'{"user_id": "\xff\xfe", "item_id": "a", "timestamp": 1}', "not UTF-8"),
    (b'{"user_id": "\xed\xa0\x80", "item_id": "a", "timestamp": 1}', "not UTF-8"),
    (json_row().decode().encode("utf-16-be"), NO_JSON),
    (b'{"user_id": "\\ud800", "item_id": "a", "timestamp": 1}', "holds half of a surrogate pair"),
    (b'{"user_id": "u", "item_id": "a", "timest', NO_JSON),
    (b'{"user_id": ' + b"9" * 5000 + b"}", NO_JSON),
    (b"[" * 100_000, NO_JSON),
    (b'{"user_id": ' + b"[" * 800 + b"]" * 800 + b"}", "nested deeper than 32 levels"),
    (b'{"item_id": "' + b"y" * (17 << 20) + b'"}', "longer than 16,777,216 bytes"),
    (HUGE.encode(), NO_JSON),
    (b"\x00\x01\x02", NO_JSON),
    (b'["u", "a", 1]', "not a JSON object"),
    (b"null", "not a JSON object"),
]

CSV_LINES = [
    (b",a,1", MISSING_USER),
    (b"\xff,a,1", "user_id is not UTF-8"),
    (b"u,\xff,1", "item_id is not UTF-8"),
    (b"u,a,\xff", "timestamp is not UTF-8"),
    (b"u,a", "wrong number of CSV fields"),
    (b"u,a,1,2", "wrong number of CSV fields"),
    (b"u\xff,a", "wrong number of CSV fields"),
    (b"\xe9,\xed\xa0\x80,1,caf\xe9", "wrong number of CSV fields"),
    (b"u,a,", MISSING_TIME),
    (b"u,a,soon", NO_TIME),
    (b"u,a,-5", NEGATIVE),
    (b"u,a,99999999999999999999", TOO_LARGE),
    (b"u,a,3000-01-01", TOO_LATE),
    (b"u,a,30000-01-01", NO_TIME),
    (b"u,a,2024-13-45", NO_TIME),
    (b"u,a,1.5", NO_TIME),
    (b"u,a,1600000000.25", FRACTION),
    (b"u,ghost,1", UNKNOWN),
    (HUGE.encode() + b",a,1", LONG_USER),
    (b'"' + HUGE.encode() + b'"', "wrong number of CSV fields"),
]

CATALOGUE_LINES = [
    (b'{"item_id": "a", "title": "again"}', "item_id occurs twice"),
    (b'{"title": "no id"}', "item_id is missing"),
    (b'{"item_id": ""}', "item_id is missing"),
    (b'{"item_id": NaN}', "item_id is missing"),
    (b'{"item_id": 2.5}', "item_id is neither text nor an integer"),
    (b'{"item_id": {"a": 1}}', "item_id is neither text nor an integer"),
    (b'{"item_id": "' + HUGE.encode() + b'"}', LONG_ITEM),
    (b'{"item_id": "c", "title": "\xff"}', "not UTF-8"),
    (b'{"item_id": "c", "title": "\xed\xb0\x80"}', "not UTF-8"),
    ('{"item_id": "c", "title": "店"}'.encode("utf-16-be"), "not UTF-8"),
    (b'{"item_id": "c", "tags": ["\\udfff"]}', "holds half of a surrogate pair"),
    (b'{"item_id": "d", "image": "../d.png"}', "image path leads outside the source folder"),
    (b'{"item_id": "e", "image": "/etc/passwd"}', "image path leads outside the source folder"),
    (b'{"item_id": "f", "image": "a\\u0000.png"}', "image path leads outside the source folder"),
    (b'{"item_id": "g", "image": 7}', "image path is not text"),
    (b'{"item_id": "h"', NO_JSON),
    (b'{"item_id": "i", "tags": ' + b"[" * 800 + b"]" * 800 + b"}", "nested deeper than 32 levels"),
    (HUGE.encode(), NO_JSON),
]


def _rejected(config) -> list[tuple[str, str]]:
    folder = pathlib.Path(stages.location(config, "sequences"))
    (path,) = folder.glob("rejected-*.parquet")
    rows = pq.read_table(path).to_pylist()
    # A dead letter is readable and short, whatever the row was.
    assert all(len(row["row"]) < 10_000 for row in rows)
    assert all(row["row"] is not None and json.loads(row["row"]) is not None for row in rows)
    return [(row["where"], row["reason"]) for row in rows]


def _check(config, name: str, bad: list[tuple[bytes, str]], first_row: int, counts: dict) -> None:
    manifest = prepare(config)
    expected = [(f"{name} row {first_row + k}", reason) for k, (_, reason) in enumerate(bad)]
    assert _rejected(config) == sorted(expected, key=lambda row: (len(row[0]), row))
    assert manifest.counts["rejected"] == len(bad)
    tallied = manifest.details["rejected"][name]
    assert sum(row["rows"] for row in tallied.values()) == len(bad)
    for _, reason in bad:
        assert tallied[reason]["rows"] == sum(other == reason for _, other in bad)
    assert {name: manifest.counts[name] for name in counts} == counts


def test_bad_json_lines_of_interactions(tmp_path):
    lines = [json_row(*row) for row in GOOD] + [line for line, _ in JSON_LINES] + [json_row(time=9)]
    source = write_source(tmp_path / "source", ("interactions.jsonl", b"\n".join(lines)))
    counts = {"users": 2, "items": 2, "interactions": len(GOOD) + 1}
    _check(configure(tmp_path, source), "interactions.jsonl", JSON_LINES, len(GOOD) + 1, counts)


def test_bad_csv_lines_of_interactions(tmp_path):
    lines = [b"user_id,item_id,timestamp", *(",".join(map(str, row)).encode() for row in GOOD)]
    lines += [line for line, _ in CSV_LINES] + [b"u,a,9"]
    source = write_source(tmp_path / "source", ("interactions.csv", b"\n".join(lines)))
    counts = {"users": 2, "items": 2, "interactions": len(GOOD) + 1}
    _check(configure(tmp_path, source), "interactions.csv", CSV_LINES, len(GOOD) + 1, counts)


def test_bad_lines_of_the_catalogue(tmp_path):
    catalogue = CATALOGUE + b"\n".join(line for line, _ in CATALOGUE_LINES)
    source = write_source(tmp_path / "source", items=("items.jsonl", catalogue))
    counts = {"items": 2, "interactions": len(GOOD), "catalogue_rows": 2 + len(CATALOGUE_LINES)}
    config = configure(tmp_path, source)
    _check(config, "items.jsonl", CATALOGUE_LINES, 3, counts)
    # Of rows with one id the first counts.
    items = pq.read_table(pathlib.Path(stages.location(config, "sequences")) / "items.parquet")
    assert items["title"].to_pylist() == ["A", "b"]


_SECONDS = pa.timestamp("s")
_INVALID = pa.array([b"u", b"\xff"]).view(pa.string())


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"timestamp": pa.array([1, 2**53], _SECONDS)}, TOO_LATE),
        ({"timestamp": pa.array([1, 2**62], pa.timestamp("ms", "UTC"))}, TOO_LATE),
        ({"timestamp": pa.array([1, None], pa.timestamp("ns"))}, MISSING_TIME),
        ({"timestamp": pa.array([1, -1], _SECONDS)}, TOO_EARLY),
        ({"timestamp": [datetime.date(2024, 1, 1), datetime.date(1960, 1, 1)]}, TOO_EARLY),
        ({"timestamp": [1.0, float("nan")]}, MISSING_TIME),
        ({"timestamp": [1.0, float("-inf")]}, NO_TIME),
        ({"timestamp": pa.array([1, 2**64 - 1], pa.uint64())}, TOO_LARGE),
        ({"user_id": _INVALID}, "user_id is not UTF-8"),
        ({"user_id": _INVALID.dictionary_encode()}, "user_id is not UTF-8"),
        ({"user_id": pa.array(["u", None])}, MISSING_USER),
        ({"user_id": pa.array([1, None])}, MISSING_USER),
        ({"item_id": pa.array(["a", "y" * 1025], pa.large_string())}, LONG_ITEM),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_bad_value_of_a_parquet_column(tmp_path, columns, reason):
    good = {"user_id": ["u", "u"], "item_id": ["a", "a"], "timestamp": [1, 2]}
    source = write_source(tmp_path / "source", ("interactions.parquet", b"-"))
    pq.write_table(pa.table({**good, **columns}), tmp_path / "source" / "interactions.parquet")
    (piece,) = open_source(configure(tmp_path, source).source).interaction_pieces()
    (batch,) = read_interactions(piece)
    assert batch.rows.tolist() == [0]
    assert [(row.where, row.reason) for row in batch.rejected] == [
        ("interactions.parquet row 2", reason)
    ]
    json.loads(batch.rejected[0].row)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("user_id", [1.5, 2.5]),
        ("user_id", [["u"], ["v"]]),
        ("item_id", [True, False]),
        ("timestamp", [datetime.timedelta(1), datetime.timedelta(2)]),
        ("timestamp", [{"a": 1}, {"a": 2}]),
    ],
)
def test_a_column_of_the_wrong_type_loses_every_row(tmp_path, column, values):
    source = write_source(tmp_path / "source", ("interactions.parquet", b"-"))
    good = {"user_id": ["u", "u"], "item_id": ["a", "a"], "timestamp": [1, 2]}
    path = tmp_path / "source" / "interactions.parquet"
    pq.write_table(pa.table({**good, column: values}), path)
    (piece,) = open_source(configure(tmp_path, source).source).interaction_pieces()
    (batch,) = read_interactions(piece)
    assert len(batch.rows) == 0 and len(batch.rejected) == 2
    assert all(row.reason.startswith(f"{column} is neither") for row in batch.rejected)


def test_rows_that_are_all_bad_fail_the_job(tmp_path):
    lines = b"\n".join(json_row(user=number) for number in (1.5, 2.5))
    source = write_source(tmp_path / "source", ("interactions.jsonl", lines))
    with pytest.raises(
        InputError, match=rf"{NO_USER_ID} \(2 rows, 100% of them, first: .* row 1: 1.5\)"
    ):
        prepare(configure(tmp_path, source))


def test_catalogue_in_parquet_loses_only_the_bad_rows(tmp_path):
    lines = b"\n".join(json_row(*row) for row in [*GOOD, ("u", "a", 4)])
    written = ("interactions.jsonl", lines), ("items.parquet", b"-")
    source = write_source(tmp_path / "source", *written)
    table = pa.table(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": pa.array([b"A", b"\xff", b"C", b"D"]).view(pa.string()),
            "tags": pa.array([["x"], ["x"], None, ["y"]]),
        }
    )
    offsets = pa.array([0, 1, 2, 2, 3], pa.int32())
    tags = pa.ListArray.from_arrays(offsets, pa.array([b"x", b"x", b"\xfe"]).view(pa.string()))
    table = table.set_column(2, "tags", tags)
    pq.write_table(table, tmp_path / "source" / "items.parquet")
    config = configure(tmp_path, source)
    prepare(config)
    assert _rejected(config) == [
        ("items.parquet row 2", "title is not UTF-8"),
        ("items.parquet row 4", "tags is not UTF-8"),
        ("interactions.jsonl row 2", UNKNOWN),
    ]


def test_the_error_names_the_reason_that_dominates(tmp_path):
    bad = [json_row(item="ghost")] * 3 + [json_row(time=-1)] * 2 + [b"nonsense"]
    lines = [json_row(*row) for row in GOOD] + bad
    source = write_source(tmp_path / "source", ("interactions.jsonl", b"\n".join(lines)))
    with pytest.raises(InputError) as caught:
        prepare(configure(tmp_path, source, "prepare.max_rejected_fraction=0.5"))
    assert os.listdir(tmp_path / "work") == []
    for part in (
        "6 of 9 rows",
        "(66.7%), more than prepare.max_rejected_fraction=0.5",
        f'{UNKNOWN} (3 rows, 50% of them, first: interactions.jsonl row 4: "ghost")',
    ):
        assert part in str(caught.value)
    # Blank lines are no rows: they do not dilute the share.
    lines += [b""] * 100
    write_source(tmp_path / "source", ("interactions.jsonl", b"\n".join(lines)))
    with pytest.raises(InputError, match="6 of 9 rows"):
        prepare(configure(tmp_path, source, "prepare.max_rejected_fraction=0.5"))
    # Six of nine rows are within two thirds.
    manifest = prepare(configure(tmp_path, source, "prepare.max_rejected_fraction=0.67"))
    assert manifest.counts["rejected"] == 6


def test_a_user_with_one_interaction_is_kept_and_has_no_test_point(tmp_path):
    rows = [("u", "a", 0), *GOOD, ("w", "b", 4)]
    lines = b"\n".join(json_row(*row) for row in rows)
    for split in ("leave_last_out", "global_time"):
        source = write_source(tmp_path / split, ("interactions.jsonl", lines))
        overrides = (f"prepare.split={split}", "prepare.test_fraction=0.25")
        config = configure(tmp_path / split, source, *overrides)
        assert prepare(config).counts["users"] == 3
        folder = pathlib.Path(stages.location(config, "sequences"))
        (path,) = folder.glob("sequences-*.parquet")
        table = {row["user_id"]: row for row in pq.read_table(path).to_pylist()}
        assert table["w"]["items"] == [2] and table["v"]["num_train"] == 1
        # By global time w, the last to act, has its one interaction after the cut.
        assert table["w"]["num_train"] == (split != "global_time")


def test_times_in_two_units_bring_a_warning(tmp_path, capsys):
    for last, mixed in ((1_700_000_009, False), (1_700_000_009_000, True)):
        rows = [json_row(time=1_700_000_000), json_row(time=last)]
        source = write_source(tmp_path / "source", ("interactions.jsonl", b"\n".join(rows)))
        prepare(configure(tmp_path, source))
        assert ("seconds and milliseconds" in " ".join(capsys.readouterr().err.split())) == mixed


def test_dead_letters_are_short_whatever_the_row_was():
    rows = {
        "text": {"a": HUGE},
        "bytes": {"a": b"\xff" * (1 << 20)},
        "list": {"a": [HUGE]},
        "numbers": {"a": list(range(1 << 18))},
        "object": {"a": {"b": HUGE}},
        "many columns": {f"column {k}": "x" * 100 for k in range(10_000)},
        "long name": {HUGE: 1},
    }
    for row in rows.values():
        text = row_as_json(row)
        assert len(text) < 10_000 and json.loads(text) and "…" in text


def test_moments_beyond_pythons_dates_do_not_stop_the_catalogue(tmp_path):
    source = write_source(tmp_path / "source", items=("items.parquet", b"-"))
    times = pa.array([1, 2**62], pa.timestamp("us"))
    table = pa.table({"item_id": ["a", "b"], "released": times, "all": pa.array([[1], [2]])})
    table = table.append_column("nested", pa.array([[1], [2**62]], pa.list_(pa.timestamp("us"))))
    pq.write_table(table, tmp_path / "source" / "items.parquet")
    rows = list(open_source(configure(tmp_path, source).source).read_items())
    assert [row.item_id for row in rows] == ["a", "b"]
    assert rows[1].values["released"] == 2**62


def test_a_time_is_read_the_same_whatever_its_neighbours_are(tmp_path):
    for neighbour in (b"7", b"soon"):
        rows = b"user_id,item_id,timestamp\nu,a,0x10\nu,a," + neighbour + b"\n"
        source = write_source(tmp_path / "source", ("interactions.csv", rows))
        (piece,) = open_source(configure(tmp_path, source).source).interaction_pieces()
        (batch,) = read_interactions(piece)
        assert batch.rejected[0].reason == NO_TIME
