"""Three training steps of every composition give what they gave when `golden.json` was recorded."""

import json

import pytest
import tensorflow as tf

from tests import golden
from tests.export.fixtures import workdir  # noqa: F401
from tests.nearness import assert_near


@pytest.fixture(autouse=True)
def one_by_one():
    """Operations run one by one: to trace them costs more than they do."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("case", [case for case in golden.CASES if case != "compiled"])
def test_a_composition_computes_what_it_did(case, tmp_path):
    with open(golden.RECORDED, encoding="utf-8") as file:
        expected = json.load(file)[case]
    found = golden.summary(*golden.trained(golden.made_up(str(tmp_path), case)))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_near(found[name], value, 1e-4, err_msg=name)


def test_exported_answers_are_what_they_were(workdir):  # noqa: F811
    """Of a student that is not trained: its seed says what is recommended."""
    model = tf.saved_model.load(str(workdir / "serving_model" / "exact" / "1"))
    answer = model.signatures["serving_default"](history=tf.constant([["item0003", "item0017"]]))
    found = {name: values.numpy()[0, :6] for name, values in answer.items()}
    assert found["items"].astype(str).tolist() == ITEMS
    assert_near(found["scores"], SCORES, 1e-4)


ITEMS = ["item0011", "item0025", "item0035", "item0030", "item0023", "item0033"]
SCORES = [13.48922, 8.06406, 6.38152, 5.59097, 4.24232, 3.62271]
