"""Lists of JSON objects: a malformed one costs itself, and nothing beside it."""

from __future__ import annotations

import io
import json

import pytest

from kdsr_tf.errors import InputError
from kdsr_tf.sources import files, json_records
from kdsr_tf.sources.forms import find_form
from kdsr_tf.sources.interaction_rows import read_interactions
from kdsr_tf.sources.json_records import Objects

GOOD = [{"user_id": "u", "item_id": item, "timestamp": 5} for item in ('a"]', "b{", "c\\")]
MALFORMED = [
    '{"user_id": "u", "item_id": "x", "timestamp": }',
    "{'user_id': 'u', 'item_id': 'x', 'timestamp': [5,]}",
    '{"user_id": "u", "item_id": "x", "timestamp": 5,}',
    '{"user_id": "u" "item_id": "x}"}',
    "{user_id: u}",
    "[1,,{}]",
]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("malformed", MALFORMED)
@pytest.mark.parametrize("between", [",", ",\n", "\n,\n  "])
def test_a_malformed_element_is_one_rejected_row(between, malformed, block, tmp_path, monkeypatch):
    monkeypatch.setattr(json_records, "_BLOCK_BYTES", block)
    first, *others = map(json.dumps, GOOD)
    path = tmp_path / "clicks.json"
    path.write_text("[" + between.join([first, malformed, *others]) + "]")
    (piece,) = files.pieces_of(str(path), find_form(str(path)))
    (batch,) = read_interactions(piece)
    assert batch.item_ids.to_pylist() == ['a"]', "b{", "c\\"]
    assert batch.rows.tolist() == [0, 2, 3]
    (rejected,) = batch.rejected
    assert rejected.where == "clicks.json row 2"
    assert json.loads(rejected.row) == malformed


@pytest.mark.parametrize(
    "content",
    [
        # The stray mark and a later one would make one element of two.
        '[{"a": 1}, {"a": ""b"}, {"a": ""b"}, {}]',
        '[{"a": 1}, {"a": "b}, {"a": 2}]',
        '[{"a": 1}]\n[{"a": 2}]',
        '[{"a": 1}, x, {"a": 2}]',
        '[{"a": 1}, {"a": [1}, {}]',
    ],
)
def test_an_element_without_an_end_stops_the_reading(content):
    with pytest.raises(InputError, match=r"f.json cannot be read as JSON after row 1: "):
        list(json_records.elements("f.json", io.BytesIO(content.encode())))


HARD = ['{"a": {"b": [[], "]"]}}', '{"é": "\\ud800"}', '{"a": "\\""}', "{}", '{"a": 1}']
SCALARS = ['"a"', "[[1], {}]", "12"]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("is_list", [True, False])
def test_elements_are_the_same_wherever_blocks_end(block, is_list, monkeypatch):
    parts = HARD + SCALARS if is_list else HARD
    text = " ,\n".join(parts) if is_list else "\n".join(parts)
    data = f"\ufeff [{text}]".encode() if is_list else f"\ufeff {text}".encode()
    monkeypatch.setattr(json_records, "_BLOCK_BYTES", block)
    assert json_records.count_elements("f.json", io.BytesIO(data)) == len(parts)
    assert [json.dumps(value) for value in _values(data)] == [
        json.dumps(json.loads(part)) for part in parts
    ]


def test_objects_are_the_same_alone_and_together():
    """A deep or half Unicode object makes its whole block be read one by one."""
    deep = json.loads("[" * 40 + "]" * 40)
    rows = [*({"k": k, "t": "é😀", "l": [{"x": k}]} for k in range(9000)), {"deep": deep}]
    (first, *_) = json_records.elements("f.json", io.BytesIO(json.dumps(rows[:-1]).encode()))
    assert len(first.values) == json_records.MOST_TOGETHER
    assert list(_values(json.dumps(rows[:-1]).encode())) == rows[:-1]
    assert list(_values(json.dumps(rows[-9:]).encode())) == rows[-9:]


def _values(data):
    for element in json_records.elements("f.json", io.BytesIO(data)):
        yield from element.values if isinstance(element, Objects) else [json.loads(element)]
