"""What a caller may give as item ids, and what is refused before anything is sent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kdsr_tf.errors import KDSRError
from serving import queries
from serving.client import Client

_ROWS = [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    "rows",
    [
        _ROWS,
        np.array(_ROWS),
        np.array(_ROWS, object),
        [np.array(row) for row in _ROWS],
        pd.Series(_ROWS),
        [pd.Series(row) for row in _ROWS],
        [pd.Index(row) for row in _ROWS],
        pa.array(_ROWS),
        (tuple(row) for row in _ROWS),
        [dict.fromkeys(row).keys() for row in _ROWS],
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_any_ordered_container_of_texts_is_a_list_of_ids(rows):
    padded = queries.recommend(rows, 2, False).inputs["history"]
    assert padded.tolist() == [["", "a", "b"], ["", "c", "d"]]


def test_containers_that_are_read_once_serve_every_question():
    def twice():
        return iter(_ROWS)

    asked = queries.score(twice(), iter([["x"], ["y", "z"]]))
    assert asked.inputs["candidates"].tolist() == [["", "", "x"], ["", "y", "z"]]
    scores = np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 3.0]], np.float32)
    assert asked.read({"scores": scores}) == [[1.0], [2.0, 3.0]]
    vectors = queries.embed(twice()).read({"embedding": np.zeros((2, 4), np.float32)})
    assert vectors.shape == (2, 4)
    similar = queries.similar_items(np.array(["a", "b"]), np.int64(2))
    assert similar.inputs["item_id"].tolist() == ["a", "b"]
    outputs = {"items": np.array([["x", "y"], ["z", ""]], object), "scores": np.ones((2, 2))}
    assert [[item for item, _ in row] for row in similar.read(outputs)] == [["x", "y"], ["z"]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[1, 2]], r"`histories\[0\]` .*are text, such as '12'. Received: 1 \(int\) at position 0"),
        ([["a"], ["b", None]], r"`histories\[1\]` .*Received: None \(NoneType\) at position 1"),
        ([[b"a"]], r"Received: b'a' \(bytes\)"),
        ([[1.5]], r"Received: 1.5 \(float\)"),
        ([[float("nan")]], r"Received: nan \(float\)"),
        (np.array([[1, 2]]), r"Received: 1 \(int\)"),
        (np.array([[b"a"]]), r"Received: b'a' \(bytes\)"),
        (np.array(["a", "b"]), r"`histories\[0\]` needs lists of item ids, not one text"),
        (np.array("a"), "`histories` needs lists of item ids, not one text"),
        ([[["a"]]], r"Received: \['a'\] \(list\)"),
        ([{"a", "b"}], r"`histories\[0\]` needs lists of item ids, in order.* \(set\)"),
        ([{"a": 1}], r"in order.* \(dict\)"),
        (pd.DataFrame({"h": ["a"]}), r"`histories\[0\]` needs lists of item ids, not one text"),
        ("a", "`histories` needs lists of item ids, not one text"),
        ([b"a"], r"`histories\[0\]` needs lists of item ids, not one text"),
        (None, r"Received: None \(NoneType\)"),
        (7, r"Received: 7 \(int\)"),
        ([None], r"`histories\[0\]` needs lists .*Received: None"),
        ([["\ud800"]], "UTF-8 can write"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_and_shown(value, says):
    for ask in (
        lambda: queries.recommend(value, 2, False),
        lambda: queries.embed(value),
        lambda: queries.score(value, [["a"]]),
    ):
        with pytest.raises(ValueError, match=says):
            ask()


@pytest.mark.parametrize("k", ["3", 2.5, None, [3], True])
def test_k_is_a_whole_number(k):
    with pytest.raises(KDSRError, match=r"`k` must be a whole number >= 1. Received: k="):
        queries.recommend(_ROWS, k, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"target": None}, "`target` must be text"),
        ({"target": "a:1", "timeout_seconds": "5"}, "`timeout_seconds` must be > 0. Received: '5'"),
        ({"target": "a:1", "timeout_seconds": float("nan")}, "must be > 0. Received: nan"),
        ({"target": "a:1", "version": "3"}, "`version` must be a whole number"),
        ({"target": "a:1", "version": -1}, "`version` must be a whole number"),
        ({"target": "a:1", "label": 3}, "`label` must be text"),
        ({"target": "a:1", "model_name": None}, "model_name=None"),
    ],
)
def test_arguments_of_a_client_are_checked_when_it_is_made(arguments, says):
    with pytest.raises(ValueError, match=says):
        Client(**arguments)
