from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pytest

from kdsr_tf.export.index_parameters import IndexParameters, choose_parameters, enlarge
from tests.export import oracle


def parameters(*numbers):
    names = ("num_leaves", "num_leaves_to_search", "num_reordering_candidates")
    return IndexParameters(**dict(zip(names, numbers, strict=True)))


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"num_items": 200, "retrieve": 10, "num_leaves": 5}, (0, 0, 200)),
        ({"num_items": 3_000, "retrieve": 300}, (0, 0, 3_000)),
        ({"num_items": 12_000, "retrieve": 300}, (0, 0, 450)),
        ({"num_items": 12_000, "retrieve": 300, "num_reordering_candidates": 100}, (0, 0, 300)),
        ({"num_items": 400, "retrieve": 30, "num_leaves": 8}, (8, 3, 60)),
        ({"num_items": 10_000, "retrieve": 300, "num_leaves_to_search": 7}, (100, 7, 600)),
        ({"num_items": 1_000_000, "retrieve": 300}, (1_000, 100, 600)),
    ],
)
def test_a_tree_is_for_large_catalogues_and_who_asks_for_one(asked, expected):
    assert choose_parameters(**asked) == parameters(*expected)


def chain(first, most_leaves, most_candidates):
    found = [first]
    while (larger := enlarge(found[-1], most_leaves, most_candidates)) != found[-1]:
        found.append(larger)
    return found


def test_enlarged_parameters_end_with_everything():
    flat = chain(parameters(0, 0, 450), 0, 12_000)
    assert [step.num_reordering_candidates for step in flat] == [450, 900, 12_000]
    tree = chain(parameters(100, 30, 4_000), 100, 10_000)
    assert tree[1:] == [
        parameters(100, 60, 4_000),
        parameters(100, 100, 4_000),
        parameters(100, 100, 8_000),
        parameters(100, 100, 10_000),
    ]
    given = parameters(0, 0, 450)
    assert enlarge(given, 0, 0) == given


@pytest.mark.parametrize("kind", ["flat", "tree"])
def test_an_index_that_finds_too_little_is_built_again_with_more(models, kind):
    found = json.loads(pathlib.Path(models, f"tuned_{kind}.json").read_text("utf-8"))
    names = ("num_leaves", "num_leaves_to_search", "num_reordering_candidates")
    first = choose_parameters(5_000, 20, 70 if kind == "tree" else None)
    grown = [found[name] - getattr(first, name) for name in names]
    assert grown[0] == 0 and min(grown) >= 0 and max(grown) > 0
    assert found["num_reordering_candidates"] < 5_000
    assert found["recall"] >= 0.9975
    assert found["first"] == list(range(1, 51))


def test_an_answer_short_of_items_ends_with_none(models):
    found = json.loads(pathlib.Path(models, "one_leaf.json").read_text("utf-8"))
    for number, (scores, items) in enumerate(zip(found["scores"], found["items"], strict=True)):
        held = sum(item != 0 for item in items)
        right = oracle.table()[items[:held]] @ oracle.table()[number + 1]
        np.testing.assert_allclose(scores[:held], right, **oracle.TOLERANCE)
        assert 0 < held < 200 and len(set(items[:held])) == held
        assert items[held:] == [0] * (200 - held)
        assert scores[held:] == [-math.inf] * (200 - held)
