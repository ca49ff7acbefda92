"""One id for one thing, whatever type and notation a file gives it."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.config import SourceConfig, load_config
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source
from kdsr_tf.sources.batches import Rejected
from kdsr_tf.sources.export_files import open_new_items, read_ids
from kdsr_tf.sources.ids import read_ids as ids_of
from kdsr_tf.sources.interaction_rows import read_interactions

LOST = "item_id is a floating-point number that may have lost digits"
NO_ID = "item_id is neither text nor an integer"


def one(value, kind=None):
    """The id of one value, and why it is none."""
    column = value if isinstance(value, pa.Array | list) else pa.array([value], kind)
    reasons = {}
    (found,) = ids_of(column, "item_id", reasons).to_pylist()
    return reasons.get(0, found)


@pytest.mark.parametrize(
    "kind",
    [
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        "float16",
        "float32",
        "float64",
        pa.decimal128(38, 0),
        pa.decimal128(10, 2),
        pa.decimal256(60, 4),
        pa.decimal128(20, 10),
    ],
    ids=str,
)
def test_a_whole_number_of_every_type_is_its_digits(kind):
    values = [Decimal(12), None, Decimal(0)]
    if isinstance(kind, str):
        column = pa.array([12, None, 0], pa.int64()).cast(kind)
    else:
        column = pa.array(values, kind)
    # Arrow cannot encode float16.
    encoded = [] if kind == "float16" else [column.dictionary_encode()]
    for array in (column, *encoded):
        reasons = {}
        assert ids_of(array, "item_id", reasons).to_pylist()[::2] == ["12", "0"]
        assert reasons == {1: "item_id is missing"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", "12"),
        (" 12 ", "12"),
        ("\u00a012\r", "12"),
        ("12.0", "12"),
        ("12.", "12"),
        ("12.000000", "12"),
        ("-7.0", "-7"),
        ("-0.0", "0"),
        ("+12.0", "12"),
        ("1.2e1", "12"),
        ("1.200000000000000000e+01", "12"),
        ("1e+05", "100000"),
        ("9007199254740991.0", "9007199254740991"),
        # Texts, letter for letter.
        ("0012", "0012"),
        ("0012.0", "0012.0"),
        ("+12", "+12"),
        ("12E4", "12E4"),
        ("1e3", "1e3"),
        ("12.5", "12.5"),
        ("1.10", "1.10"),
        ("1.0.0", "1.0.0"),
        ("١٢.٠", "١٢.٠"),
        ("nan", "nan"),
        ("12345678901234567890", "12345678901234567890"),
        # Several ids are written so.
        ("9007199254740992.0", LOST),
        ("12345678901234567.0", LOST),
        ("1.2345678901234567e+16", LOST),
        ("1.23457E+11", LOST),
        ("1.5e999", LOST),
    ],
)
def test_a_text_is_kept_unless_it_is_a_number_in_floating_point_notation(text, expected):
    assert one(text) == expected
    assert one([text]) == expected
    assert one(pa.array([text.encode()])) == expected
    assert one(pa.array([text]).dictionary_encode()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12.0, "12"),
        (2.0**53 - 1, "9007199254740991"),
        (2.0**53, LOST),
        (1.6e18, LOST),
        (12.5, NO_ID),
        (float("inf"), NO_ID),
        (float("nan"), "item_id is missing"),
        (True, NO_ID),
    ],
)
def test_a_float_that_is_no_single_whole_number_is_refused(value, expected):
    assert one(value) == expected
    assert one([value]) == expected


def test_smaller_floats_lose_digits_earlier():
    assert one(np.float32(2**24 - 1), pa.float32()) == "16777215"
    assert one(np.float32(2**24), pa.float32()) == LOST
    assert one(np.float16(2047), pa.float16()) == "2047"
    assert one(np.float16(2048), pa.float16()) == LOST


def test_decimals_have_every_digit_or_are_no_id():
    assert one(Decimal(10**37), pa.decimal128(38, 0)) == str(10**37)
    assert one(Decimal(10**37), pa.decimal256(60, 2)) == str(10**37)
    assert one(Decimal("12.50"), pa.decimal128(10, 2)) == NO_ID
    assert one(Decimal("1200"), pa.decimal128(5, -2)) == "1200"


def test_json_numbers_keep_their_digits_beside_others():
    values = json.loads("[12, 12.0, 1.2e1, 9007199254740993, 18446744073709551617, 12.5, true]")
    reasons = {}
    found = ids_of(values, "item_id", reasons).to_pylist()
    assert found[:5] == ["12", "12", "12", "9007199254740993", "18446744073709551617"]
    assert reasons == {5: NO_ID, 6: NO_ID}


def _folder(path, clicks, goods):
    """A source with one click on one item, each in its own file format."""
    path.mkdir()
    for (name, content), stem in ((clicks, "interactions"), (goods, "items")):
        file = path / f"{stem}.{name}"
        if name == "parquet":
            pq.write_table(content, file)
        else:
            file.write_bytes(content)
    return path


CLICKS = [
    ("csv", b"user_id,item_id,timestamp\n7.0,12.0,1.6e9\n"),
    ("tsv", b"user_id\titem_id\ttimestamp\n 7\t 12 \t1600000000.0\n"),
    ("jsonl", b'{"user_id": 7, "item_id": 1.2e1, "timestamp": 1.6e9}'),
    ("parquet", pa.table({"user_id": [7.0], "item_id": [12.0], "timestamp": [1.6e9]})),
    ("parquet", pa.table({"user_id": ["7"], "item_id": ["12"], "timestamp": ["1600000000"]})),
    (
        "parquet",
        pa.table(
            {
                name: pa.array([Decimal(value)], pa.decimal128(38, 2))
                for name, value in (("user_id", 7), ("item_id", 12), ("timestamp", 1_600_000_000))
            }
        ),
    ),
]
GOODS = [
    ("csv", b"item_id,title\n12.00,A\n"),
    ("tsv", b"item_id\ttitle\n12\tA\n"),
    ("jsonl", b'{"item_id": 12.0, "title": "A"}'),
    ("parquet", pa.table({"item_id": pa.array([12], pa.uint8()), "title": ["A"]})),
    ("parquet", pa.table({"item_id": pa.array(["12.0"]).dictionary_encode(), "title": ["A"]})),
    ("parquet", pa.table({"item_id": pa.array([Decimal(12)], pa.decimal128(38, 0))})),
]


@pytest.mark.parametrize("clicks", CLICKS)
@pytest.mark.parametrize("goods", GOODS)
def test_interactions_and_catalogue_meet_whatever_their_files_are(tmp_path, clicks, goods):
    source = open_source(SourceConfig(path=str(_folder(tmp_path / "in", clicks, goods))))
    (piece,) = source.interaction_pieces()
    (batch,) = read_interactions(piece)
    assert batch.user_ids.to_pylist() == ["7"] and batch.timestamps.tolist() == [1_600_000_000]
    (item,) = source.read_items()
    assert batch.item_ids.to_pylist() == [item.item_id] == ["12"]
    assert item.values["item_id"] == "12"


def test_files_of_an_export_are_read_by_the_same_rule(tmp_path):
    listed = tmp_path / "deny.txt"
    listed.write_text("12.0\n0012\n 12\n\n1.2e1\n")
    assert read_ids("export.deny_items", str(listed)) == ["12", "0012"]
    listed.write_text("12\n1.23457E+11\n")
    with pytest.raises(InputError, match=rf"line 2 of .*deny\.txt: {LOST}: 1\.23457E\+11\."):
        read_ids("export.deny_items", str(listed))
    (tmp_path / "new.csv").write_text("item_id\n12.0\n2.0e16\n")
    config = load_config(overrides=[f"export.add_items={tmp_path / 'new.csv'}"])
    first, second = open_new_items(config).read_items()
    assert first.item_id == "12"
    assert second == Rejected(LOST, "new.csv row 2", '{"item_id": "2.0e16"}')


def test_a_rejected_row_shows_the_value_its_reason_is_about():
    row = '{"user_id": "u", "item_id": 12.5, "timestamp": 1}'
    assert Rejected(NO_ID, "a.csv row 3", row).example == "a.csv row 3: 12.5"
    assert Rejected("not valid JSON", "a.csv row 3", '"x"').example == 'a.csv row 3: "x"'
    long = Rejected("title is not UTF-8", "a row 1", json.dumps({"title": "x" * 99})).example
    assert long == f'a row 1: "{"x" * 59}…'
