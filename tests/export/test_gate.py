"""The gate passes a good model, and every one of its checks fails on some fault."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scann  # noqa: F401  (registers the index's operations)
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kdsr_tf import schema
from kdsr_tf.export import gate, gate_sample
from kdsr_tf.export.gate_checks import WARM_UP, check_answers, check_files
from kdsr_tf.export.gate_sample import (
    VARIANTS,
    GateError,
    Point,
    make_limits,
)
from tests.export import oracle
from tests.export.fixtures import ROOT

RECOMMEND = schema.SIGNATURE_RECOMMEND
WITH_SEEN = schema.SIGNATURE_RECOMMEND_WITH_SEEN
SIMILAR = schema.SIGNATURE_SIMILAR_ITEMS
UNKNOWN_AMONG_KNOWN = "unknown ids among known ones"
LONG = "history longer than the maximum"
SAMPLED = f"on {len(oracle.histories())} sampled points"


def make_sample(table):
    reference = oracle.reference(table)
    histories = [oracle.indices(history) for history in oracle.histories()]
    # Targets at every rank, so that the metrics are neither 0 nor 1.
    best = [np.argsort(-table[1:] @ vector) + 1 for vector in reference.vectors(histories)]
    points = [
        Point(history, int(items[row]))
        for row, (history, items) in enumerate(zip(histories, best, strict=True))
    ]
    return gate_sample.make_sample(reference, histories, points, make_limits(0.99))


@pytest.fixture(scope="module")
def sample():
    return make_sample(oracle.table())


@pytest.fixture(scope="module")
def exact(models):
    return tf.saved_model.load(f"{models}/good/exact")


def named(checks):
    """Names of the checks that failed, without their variant."""
    return {check.name.partition(": ")[2] for check in checks if not check.passed}


_VARIABLES = {
    "item_ids": lambda model: model.item_ids,
    "popularity": lambda model: model.popularity,
    "vectors": lambda model: model.index.table.values,
    "similar": lambda model: model.similar_index.table.values,
    "student": lambda model: tf.nest.flatten(model.student_variables)[0],
}


def changed(variable, change):
    """A fault inside the graph: a variable holds something else."""

    @contextlib.contextmanager
    def inject(model):
        target = _VARIABLES[variable](model)
        before = target.numpy()
        target.assign(change(before.copy()))
        try:
            yield dict(model.signatures)
        finally:
            target.assign(before)

    return inject


def wrapped(name, wrap):
    """A fault around a signature: `wrap(original, **inputs)` answers instead."""

    @contextlib.contextmanager
    def inject(model):
        signatures = dict(model.signatures)
        original = signatures[name]
        signatures[name] = lambda **inputs: wrap(original, **inputs)
        yield signatures

    return inject


@contextlib.contextmanager
def instead(model, name):
    """`serving_default` is another signature."""
    yield dict(model.signatures) | {RECOMMEND: model.signatures[name]}


def swap(names):
    names[[1, 2]] = names[[2, 1]]
    return names


def poisoned(vectors):
    vectors[5] = np.nan
    return vectors


def shuffled(rows):
    return np.random.default_rng(0).permutation(rows)


def other_vocabulary(names):
    return np.concatenate([names[:1], names[:0:-1]])


def outputs(name, change):
    """A fault in what a signature returns: `change` edits the arrays in place."""

    def wrap(original, **inputs):
        found = {key: value.numpy() for key, value in original(**inputs).items()}
        change(found)
        return found

    return wrapped(name, wrap)


def reverse(found):
    for key in found:
        found[key] = found[key][:, ::-1]


def repeat(found):
    for values in found.values():
        values[:, 1] = values[:, 0]


def nan(found):
    found["scores"][:, :1] = np.nan


def fill_up(found):
    """As ScaNN alone does: row 0 where nothing is left."""
    found["items"][found["items"] == b""] = b"item001"


def itself(found):
    found["items"][:, 0] = [oracle.ITEM_IDS[6 * row].encode() for row in range(len(found["items"]))]


def zero_for_nothing(found):
    found["scores"][np.isneginf(found["scores"])] = 0


def refuse_empty(original, **inputs):
    """As ScaNN alone does."""
    if any(value.shape[0] == 0 for value in inputs.values()):
        raise tf.errors.InternalError(None, None, "empty batch")
    return original(**inputs)


def only_the_end(original, history):
    return original(history=history[:, -oracle.MAX_LENGTH :])


def unknown_is_an_item(original, history):
    unknown = tf.strings.regex_full_match(history, ".*no such item")
    return original(history=tf.where(unknown, "item001", history))


FAULTS = [
    ("swapped ids", changed("item_ids", swap), f"{RECOMMEND}: scores"),
    ("swapped ids", changed("item_ids", swap), f"{WITH_SEEN}: scores"),
    ("swapped ids", changed("item_ids", swap), f"{SIMILAR}: scores"),
    ("other vocabulary", changed("item_ids", other_vocabulary), f"{RECOMMEND}: recall@20"),
    ("other vocabulary", changed("item_ids", other_vocabulary), f"HR@20 {SAMPLED}"),
    ("other vocabulary", changed("item_ids", other_vocabulary), f"MRR@20 {SAMPLED}"),
    ("NaN in the table", changed("vectors", poisoned), "score: known items off"),
    ("NaN in the student", changed("student", lambda rows: rows * np.nan), "embed: values off"),
    ("doubled student", changed("student", lambda rows: 2 * rows), "embed: values off"),
    ("shuffled index", changed("vectors", shuffled), f"{WITH_SEEN}: recall@20"),
    ("shuffled index", changed("similar", shuffled), f"{SIMILAR}: recall@20"),
    ("broken popularity", changed("popularity", np.negative), "empty history"),
    ("broken popularity", changed("popularity", np.negative), "unknown ids alone"),
    ("an unknown id is an item", wrapped(RECOMMEND, unknown_is_an_item), UNKNOWN_AMONG_KNOWN),
    ("the end is excluded alone", wrapped(RECOMMEND, only_the_end), LONG),
    ("the end is excluded alone", wrapped(RECOMMEND, only_the_end), "the best 200 items seen"),
    (
        "unknown is 0",
        outputs("score", zero_for_nothing),
        "score: unknown items above -inf",
    ),
    ("filled up", outputs(RECOMMEND, fill_up), "fewer items left than K"),
    ("filled up", outputs(RECOMMEND, fill_up), "all items seen"),
    ("nothing is excluded", lambda model: instead(model, WITH_SEEN), f"{RECOMMEND}: seen items"),
    ("itself is similar", outputs(SIMILAR, itself), f"{SIMILAR}: seen items"),
]
for name in (RECOMMEND, WITH_SEEN, SIMILAR):
    FAULTS += [
        (f"reversed {name}", outputs(name, reverse), f"{name}: order"),
        (f"repeated {name}", outputs(name, repeat), f"{name}: complete"),
        (f"NaN of {name}", outputs(name, nan), f"{name}: no NaN"),
    ]
FAULTS += [
    (f"{name} refuses", wrapped(name, refuse_empty), f"empty batch: {name}")
    for name in schema.SERVING_SIGNATURES
]


@pytest.mark.parametrize(("fault", "check"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_found_by_the_check_that_is_for_it(exact, sample, fault, check):
    with fault(exact) as signatures:
        assert check in named(check_answers("exact", signatures, sample))


def test_a_good_model_passes_and_every_check_has_a_fault(models, sample, tmp_path):
    # TensorFlow would take the brackets and the star for a pattern.
    folder = tmp_path / "shop [1]*"
    shutil.copytree(f"{models}/good", folder)
    checks = gate.judge(str(folder), sample)
    assert [check for check in checks if not check.passed] == []
    families = {check.name.partition(": ")[2] for check in checks}
    assert families == {check for *_, check in FAULTS} | {"signatures", "warm-up requests"}
    assert {check.name.partition(": ")[0] for check in checks} == set(VARIANTS)


def test_a_student_without_points_is_judged_by_all_the_rest(exact):
    reference = oracle.reference(oracle.table())
    histories = [oracle.indices(history) for history in oracle.histories()]
    sample = gate_sample.make_sample(reference, histories, [], make_limits(0.99))
    checks = check_answers("exact", exact.signatures, sample)
    assert [check for check in checks if not check.passed] == []
    assert not any("sampled points" in check.name for check in checks)
    assert any(check.name.endswith("recall@20") for check in checks)


def test_exclusion_by_subtraction_is_found(models, sample):
    """Scores of 1e7 stay above all others when 1e5 is taken away."""
    model = tf.saved_model.load(f"{models}/subtracted/exact")
    failed = named(check_answers("exact", model.signatures, sample))
    assert {f"{RECOMMEND}: seen items", "the best 200 items seen"} <= failed


def test_an_approximate_index_may_not_miss_too_much(models, sample):
    model = tf.saved_model.load(f"{models}/shuffled_index/scann")
    failed = named(check_answers("scann", model.signatures, sample))
    assert {f"{RECOMMEND}: recall@20", f"{WITH_SEEN}: recall@20", f"HR@20 {SAMPLED}"} <= failed


def test_files_without_a_signature_or_its_warm_up_are_found(models, tmp_path):
    os.makedirs(tmp_path / "assets.extra")
    with open(f"{models}/good/exact/saved_model.pb", "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    definitions = saved.meta_graphs[0].signature_def
    definitions[RECOMMEND].inputs["history"].dtype = tf.int32.as_datatype_enum
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert named(check_files("exact", str(tmp_path))) == {"signatures", "warm-up requests"}
    records = list(tf.data.TFRecordDataset(f"{models}/good/exact/{WARM_UP}").as_numpy_iterator())
    with tf.io.TFRecordWriter(str(tmp_path / WARM_UP)) as writer:
        for record in records[:4]:
            writer.write(record)
    assert "warm-up requests" in named(check_files("exact", str(tmp_path)))


def test_a_student_with_nan_is_not_even_asked():
    with pytest.raises(GateError, match="NaN or infinite"):
        make_sample(oracle.table() * np.nan)


@pytest.mark.slow
def test_a_fresh_process_judges_and_names_what_failed(models, tmp_path, sample):
    shutil.copytree(f"{models}/shuffled_index", tmp_path / "model")
    with pytest.raises(GateError, match="recall@20") as error:
        gate.run(str(tmp_path / "model"), sample)
    assert "Nothing was published" in str(error.value)
    os.remove(tmp_path / "model" / "exact" / "variables" / "variables.index")
    with pytest.raises(GateError, match="could not be loaded"):
        gate.run(str(tmp_path / "model"), sample)


@pytest.mark.slow
def test_the_fresh_process_ends_with_the_one_that_started_it(tmp_path):
    os.mkfifo(tmp_path / gate.SAMPLE)  # Nobody writes to it: whoever reads it waits for ever.
    command = [sys.executable, "-m", "kdsr_tf.export.gate", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as process:
        try:
            process.stdin.close()
            assert process.wait(timeout=120) == 1
        finally:
            process.kill()
