"""One training step: its updates by hand, what it logs, and what it refuses."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.objectives.objective import annealed
from kdsr_tf.training.grouped_optimizer import GroupedOptimizer
from kdsr_tf.training.rates import current_rates, grouped_adam, variable_groups
from kdsr_tf.training.term_gradients import term_gradient_norms
from tests.models.batches import NUM_CODES, make_batch, make_student, repeated
from tests.nearness import assert_near

GROUPS = ("modality_tables", "rest")
TERMS = ("next_item", "image_score", "image_code", "text_score", "text_code")


def make_model(weights=None, modalities=("image", "text"), **options):
    model = KDSR(make_student(modalities=modalities, dropout=0.0), NUM_CODES, weights=weights)
    optimizer = grouped_adam(variable_groups(model), 0.01, **options)
    model.compile(optimizer=optimizer, run_eagerly=True)
    return model


def values(model):
    return {v.path: np.array(v, "f8") for v in model.trainable_variables}


def gradients(model, batch):
    """Dense gradients of the total in float64, by path."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
    variables = model.trainable_variables
    found = tape.gradient(loss, [v.value for v in variables])
    return {
        v.path: np.array(tf.convert_to_tensor(g), "f8")
        for v, g in zip(variables, found, strict=True)
    }


def test_steps_equal_adam_by_hand():
    """Items repeat within a batch, so rows of a table's gradient have to be summed first."""
    decay, clip = {"rest": 0.1}, {"modality_tables": 0.05, "rest": 0.5}
    model = make_model(
        slow_start_steps=4, weight_decay=decay, clip_norm=clip, warmup_steps=2, decay="linear",
        total_steps=6,
    )  # fmt: skip
    tables = {v.path for v in variable_groups(model)["modality_tables"]}
    expected, first, second = values(model), {}, {}
    for step, epsilon in enumerate((0.005, 0.01)):
        batch = make_batch(seed=step)
        gradient = gradients(model, batch)
        for group in GROUPS:
            paths = [p for p in gradient if (p in tables) == (group == "modality_tables")]
            norm = np.sqrt(sum((gradient[p] ** 2).sum() for p in paths))
            rate = epsilon * (0.1 + 0.9 * step / 4 if group == "modality_tables" else 1.0)
            assert norm > clip[group]
            for p in paths:
                g = gradient[p] * clip[group] / norm
                first[p] = 0.9 * first.get(p, 0) + 0.1 * g
                second[p] = 0.999 * second.get(p, 0) + 0.001 * g**2
                m = first[p] / (1 - 0.9 ** (step + 1))
                v = second[p] / (1 - 0.999 ** (step + 1))
                scale = np.sqrt(1 - 0.999 ** (step + 1))  # Keras's epsilon is before the scale
                kept = expected[p] * (1 - rate * decay.get(group, 0.0))
                expected[p] = kept - rate * m / (np.sqrt(v) + 1e-7 / scale)
        model.train_on_batch(batch)
        for path, value in values(model).items():
            assert_near(value, expected[path], err_msg=path)


def test_logs_hold_every_term_weighted_and_not_and_the_norm_of_every_group():
    model, batch = make_model({"text_score": 2.0, "image_code": 0.0}), make_batch()
    gradient = gradients(model, batch)
    model.reset_metrics()
    logs = model.train_on_batch(batch, return_dict=True)
    for term in TERMS:
        expected = model.term_weights[term] * logs[term]
        np.testing.assert_allclose(logs[f"{term}_weighted"], expected, rtol=1e-5)
    total = sum(logs[f"{term}_weighted"] for term in TERMS)
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    tables = {v.path for v in variable_groups(model)["modality_tables"]}
    for group in GROUPS:
        paths = [p for p in gradient if (p in tables) == (group == "modality_tables")]
        norm = np.sqrt(sum((gradient[p] ** 2).sum() for p in paths))
        np.testing.assert_allclose(logs[f"gradient_norm_{group}"], norm, rtol=1e-5)


@pytest.mark.parametrize(
    "compiled",
    [{"run_eagerly": True}, {}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)],
)
def test_a_step_that_is_not_finite_moves_nothing_and_is_named(compiled):
    model, batch = make_model(modalities=("text",), weight_decay=0.1), make_batch()
    model.compile(optimizer=model.optimizer, **compiled)
    before = values(model)
    bad = {key: np.copy(value) for key, value in batch.items()}
    bad["text_scores"][0, 0] = np.nan
    bad["text_present"][:] = 1
    logs = model.train_on_batch(bad, return_dict=True)
    assert not np.isfinite(logs["loss"])
    report = model.finite_report()
    assert report == {"terms": ["text_score"], "groups": list(GROUPS)}
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    model.reset_metrics()
    model.train_on_batch(batch)
    assert model.finite_report() == {"terms": [], "groups": []}
    assert all((value != before[path]).any() for path, value in values(model).items())
    assert np.isfinite(np.concatenate([value.ravel() for value in values(model).values()])).all()


def test_a_gradient_that_is_not_finite_is_named_by_its_group():
    model = make_model()
    optimizer, variables = model.optimizer, model.trainable_variables
    before = values(model)
    table = model.student.modality_table("text").path
    given = [np.full(v.shape, np.inf if v.path == table else 1.0, "f4") for v in variables]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in given], variables)
    assert model.finite_report() == {"terms": [], "groups": ["modality_tables"]}
    for path, value in values(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


def test_weights_follow_their_schedule_in_one_trace():
    model = make_model({"text_score": annealed(2.0, final=0.25, steps=4)}, ("text",))
    model.compile(optimizer=grouped_adam(variable_groups(model), 0.01))
    weights, traces, compute_loss = [], [], model.compute_loss
    model.compute_loss = lambda *a, **k: traces.append(a) or compute_loss(*a, **k)
    for _ in range(6):
        weights.append(model.term_weights["text_score"])
        model.reset_metrics()
        logs = model.train_on_batch(make_batch(), return_dict=True)
        expected = weights[-1] * logs["text_score"]
        np.testing.assert_allclose(logs["text_score_weighted"], expected, rtol=1e-5)
    np.testing.assert_allclose(weights, [2.0, 1.625, 1.25, 0.875, 0.5, 0.5], rtol=1e-5)
    assert len(traces) == 1
    copy = KDSR.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert copy.term_weights["text_score"] == 2.0


def test_norm_of_each_terms_gradient():
    model, batch = make_model({"text_score": 3.0, "image_code": 0.0}), make_batch()
    state = [np.array(v) for v in model.weights]
    norms = term_gradient_norms(model, batch)
    assert set(norms) == set(TERMS)
    assert norms["image_code"] == 0.0
    for value, kept in zip(model.weights, state, strict=True):
        np.testing.assert_array_equal(value, kept)
    for term in ("next_item", "text_score"):
        alone = {name: model.term_weights[name] * (name == term) for name in TERMS}
        only = KDSR(model.student, NUM_CODES, weights=alone)
        for head, theirs in zip(
            only.objectives[-1]._heads.values(), model.objectives[-1]._heads.values(), strict=True
        ):
            head.set_weights(theirs.get_weights())
        found = gradients(only, batch)
        norm = np.sqrt(sum((g**2).sum() for g in found.values()))
        np.testing.assert_allclose(norms[term], norm, rtol=1e-5)


def test_the_optimizer_round_trips_with_its_groups(tmp_path):
    model, batch = make_model(clip_norm={"rest": 1.0}, slow_start_steps=9), make_batch()
    model.train_on_batch(batch)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(reloaded.optimizer, GroupedOptimizer)
    assert len(reloaded.optimizer.optimizers) == 2
    assert current_rates(reloaded.optimizer) == current_rates(model.optimizer)
    for one in (model, reloaded):
        one.train_on_batch(batch)
    for (path, value), other in zip(values(model).items(), values(reloaded).values(), strict=True):
        assert_near(other, value, err_msg=path)


@pytest.mark.slow
def test_mixed_float16_scales_the_loss_around_the_groups():
    student = make_student(dropout=0.0, dtype="mixed_float16")
    model = KDSR(student, NUM_CODES, dtype="mixed_float16")
    model.compile(optimizer=grouped_adam(variable_groups(model), 0.01, clip_norm=1.0))
    first = model.fit(repeated(make_batch(), 3), verbose=0).history
    last = model.fit(repeated(make_batch(), 3), verbose=0).history
    assert last["next_item"][0] < first["next_item"][0]
    # Norms are of gradients without the scale of 2 ** 15.
    assert 0 < last["gradient_norm_rest"][0] < 100
    assert set(current_rates(model.optimizer)) == set(GROUPS)
    assert model.finite_report() == {"terms": [], "groups": []}


SAME_STEPS = """
from kdsr_tf import light_imports; light_imports.install()
import json, sys
import keras, numpy as np
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.objectives.objective import annealed
from kdsr_tf.training.rates import grouped_adam, variable_groups
from kdsr_tf.training.term_gradients import term_gradient_norms
from tests.models.batches import NUM_CODES, make_batch, make_student

model = KDSR(make_student(dropout=0.0), NUM_CODES, weights={"text_code": annealed(1.0, 0.5, 2)})
rng = np.random.default_rng(0)
for variable in model.trainable_variables:
    variable.assign(0.2 * rng.normal(size=variable.shape))
options = {"weight_decay": 0.1, "clip_norm": {"rest": 0.5}, "decay": "cosine", "total_steps": 6}
model.compile(grouped_adam(variable_groups(model), 0.01, 4, **options))
norms = term_gradient_norms(model, make_batch())
logs = [model.train_on_batch(make_batch(seed=seed), return_dict=True) for seed in range(3)]
kept = {v.path: np.asarray(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables}
bad = make_batch()
bad["text_scores"][0], bad["text_present"][:] = np.nan, 1
model.train_on_batch(bad)
report = model.finite_report()
for variable in model.trainable_variables:
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), kept[variable.path])
logs = [{name: float(value) for name, value in step.items()} for step in logs]
sums = [float(np.abs(value).sum()) for value in kept.values()]
print(json.dumps({"norms": norms, "logs": logs, "sums": sums, "report": report}))
"""


@pytest.mark.slow
def test_jax_and_tensorflow_take_the_same_steps():
    found = {}
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", SAME_STEPS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found[backend] = json.loads(done.stdout.splitlines()[-1])
    one, other = found["tensorflow"], found["jax"]
    assert one["report"] == other["report"] == {"terms": ["text_score"], "groups": list(GROUPS)}
    for term, norm in one["norms"].items():
        np.testing.assert_allclose(other["norms"][term], norm, rtol=1e-4, err_msg=term)
    np.testing.assert_allclose(other["sums"], one["sums"], rtol=1e-4)
    for step, theirs in zip(one["logs"], other["logs"], strict=True):
        assert step.keys() == theirs.keys()
        for name, value in step.items():
            np.testing.assert_allclose(theirs[name], value, rtol=1e-3, err_msg=name)
