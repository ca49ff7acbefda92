from __future__ import annotations

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kdsr_tf import schema
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.teacher import pair_correlations
from tests.models.batches import LENGTH, NUM_CODES, NUM_ITEMS, make_batch, make_student, repeated

TERMS = ["next_item", "image_score", "image_code", "text_score", "text_code"]


def make(student=None, **arguments):
    """A compiled model that runs eagerly: one step costs less than a trace."""
    model = KDSR(student or make_student(), NUM_CODES, **arguments)
    model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
    return model


@functools.cache
def untouched():
    """A student that no test changes."""
    return make_student()


def losses(model, batch):
    logs = model.test_on_batch(batch, return_dict=True)
    return {name: float(logs[name]) for name in ("loss", *TERMS) if name in logs}


def oracle(model, batch):
    """Every term in float64, pair by pair and target by target."""
    student, items, target = model.student, batch["items"], batch["target"]
    states = np.asarray(student(items), "f8")
    table = np.asarray(student.item_vectors(), "f8")[1:]
    logits = states[target > 0] @ table.T
    own = logits[np.arange(len(logits)), target[target > 0] - 1]
    terms = {"next_item": (np.log(np.exp(logits).sum(1)) - own).mean()}
    ranks = (logits >= own[:, None]).sum(1)
    for modality in ("image", "text"):
        # A window without items is no window.
        records = [record_pairs(model, batch, modality, b) for b in np.flatnonzero(items[:, 0])]
        score = [window_score(model, *record[:2]) for record in records]
        code = [np.mean(record[2]) if record[2] else 0.0 for record in records]
        terms |= {f"{modality}_score": np.mean(score), f"{modality}_code": np.mean(code)}
    terms["loss"] = sum(terms[name] * model.term_weights[name] for name in TERMS)
    return terms, ranks


def record_pairs(model, batch, modality, b):
    """Teacher scores, student scores and code losses of a window's valid pairs."""
    config, items = model.get_config(), batch["items"]
    embeddings = np.asarray(model.student.tables(items)[modality], "f8")[b]
    weights = [np.asarray(w, "f8") for w in model.objectives[-1]._heads[modality].get_weights()]
    kernel, bias, compare, classify = weights
    theirs, ours, code = [], [], []
    for i, j in zip(*schema.pair_positions(LENGTH), strict=True):
        present = batch[schema.present_key(modality)][b, [i, j]].all()
        if not (present and items[b, i] and items[b, j]) or items[b, i] == items[b, j]:
            continue
        at = schema.pair_index(i, j)
        e, g = embeddings[[i, j]], embeddings[[i, j]] @ kernel + bias
        theirs.append(float(batch[schema.scores_key(modality)][b, at]))
        scale = config["score_scales"].get(modality, 1.0)
        ours.append(pair_correlations.correlation(g[0], g[1], config["correlation"]) / scale)
        p = np.maximum(np.abs(e[0] - e[1]) @ compare, 0) @ classify
        c = batch[schema.codes_key(modality)][b, at]
        code.append(np.log(np.exp(p).sum()) - p[c])
    return np.array(theirs), np.array(ours), code


def window_score(model, theirs, ours):
    config = model.get_config()
    if config["match"] == "soft":
        theirs, ours = theirs / config["temperature"], ours / config["temperature"]
        if config["score_loss"] == "paper":
            theirs, ours = (1 / (1 + np.exp(-x)) for x in (theirs, ours))
    squares = np.square(theirs - ours)
    if config["score_loss"] == "frobenius":
        return np.sqrt(2 * squares.sum())
    return squares.mean() if len(squares) else 0.0


@pytest.mark.parametrize("correlation", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("match", ["soft", "hard"])
@pytest.mark.parametrize("score_loss", ["paper", "frobenius"])
def test_every_term_equals_the_oracle(correlation, match, score_loss):
    """Three windows: a repeated item and absent modalities, padding, nothing at all."""
    batch = make_batch(3)
    batch["items"][0, :4], batch["text_present"][0, :4] = [3, 7, 3, 5], [1, 1, 1, 0]
    assert (batch["items"][1] == 0).any()
    assert not batch["items"][2].any()
    weights = {"next_item": 0.5, "image_score": 0.3, "text_code": 2.0}
    model = make(
        untouched(), weights=weights, correlation=correlation, match=match, score_loss=score_loss,
        score_scales={"text": 2.5}, temperature=1.2,
    )  # fmt: skip
    assert model.term_weights == {"image_code": 0.5, "text_score": 1.0} | weights
    expected, ranks = oracle(model, batch)
    assert expected["text_score"] > 1e-3
    logs = model.test_on_batch(batch, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(float(logs[name]), value, rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(float(logs["hr_5"]), (ranks <= 5).mean(), rtol=1e-5)
    reciprocal = np.where(ranks <= 5, 1 / ranks, 0).mean()
    np.testing.assert_allclose(float(logs["mrr_5"]), reciprocal, rtol=1e-5)


def test_items_without_any_modality_leave_no_pair_terms():
    model, batch = make(), make_batch(3)
    batch["image_present"][:] = batch["text_present"][:] = 0
    found = losses(model, batch)
    assert [found[name] for name in TERMS[1:]] == [0.0] * 4
    assert np.isfinite(found["loss"])


def test_padding_a_batch_changes_no_term():
    model, batch = make(), make_batch(length=4)
    wider = {k: np.pad(v, [(0, 0), (0, 2 if v.shape[1] == 4 else 9)]) for k, v in batch.items()}
    narrow, wide = losses(model, batch), losses(model, wider)
    for name in narrow:
        np.testing.assert_allclose(wide[name], narrow[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "smoothing, options",
    [
        (0.0, {"backbone": "gru4rec"}),
        (0.2, {"tied": False, "output": "fused", "logit_scale": 9.0}),
        (0.0, {"output": "fused", "last_item": True, "logit_scale": 9.0}),
    ],
)
def test_what_counts_alone_and_steps_of_known_shapes_are_the_same(smoothing, options):
    """With an index of targets every window and pair is computed with its padding."""
    student = make_student(dropout=0.0, **options)
    model, batch = make(student, label_smoothing=smoothing), make_batch()
    flat = np.flatnonzero(batch["target"])
    index = np.concatenate([flat, np.full(7, -1)]).astype("int32")
    known = batch | {schema.TARGET_INDEX: index}
    for compute, tolerance in ((losses, {"rtol": 1e-5}), (gradients, {"rtol": 1e-3, "atol": 1e-6})):
        expected = compute(model, known)
        for name, value in compute(model, batch).items():
            np.testing.assert_allclose(value, expected[name], **tolerance, err_msg=name)


def gradients(model, batch):
    """Gradient of the loss per variable, by its path below the model."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, y_pred=model(batch, training=True))
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    names = [v.path.split("/", 1)[1] for v in model.trainable_variables]
    return {n: np.asarray(tf.convert_to_tensor(g)) for n, g in zip(names, found, strict=True)}


def test_gradient_reaches_every_variable_and_stays_finite():
    batch = make_batch()
    batch["text_present"][:3] = 0
    for name, gradient in gradients(make(), batch).items():
        assert np.isfinite(gradient).all(), name
        assert gradient.any(), name


def test_distillation_moves_tables_whose_features_the_backbone_ignores():
    """The pair losses reach e_a and e_b themselves, not only through the recommender."""
    batch = make_batch()
    weights = {"next_item": 0.0, "text_score": 1.0, "image_score": 0.0, "image_code": 0.0}
    found = gradients(make(weights=weights), batch)
    assert found["tables/text_table"].any()
    assert not found["tables/image_table"].any()
    assert not found["tables/id_table"].any()


def test_drawn_pairs_average_to_all_pairs():
    student, batch = make_student(dropout=0.0), make_batch(4)
    expected = losses(make(student), batch)
    model = make(student, pairs_per_window=3)
    many = {key: np.repeat(values, 3000, axis=0) for key, values in batch.items()}
    model.compute_loss(x=many, y_pred=model(many, training=True))
    for name in TERMS[1:]:
        found = float(model._terms[name].result())
        np.testing.assert_allclose(found, expected[name], rtol=0.03, err_msg=name)


def test_drawing_takes_all_pairs_of_small_windows():
    student, batch = make_student(dropout=0.0), make_batch()
    expected, model = losses(make(student), batch), make(student, pairs_per_window=15)
    model.compute_loss(x=batch, y_pred=model(batch, training=True))
    for name in TERMS[1:]:
        found = float(model._terms[name].result())
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, err_msg=name)


def test_distillation_learns_the_teacher():
    student = make_student(modalities=("text",), dropout=0.0)
    model = make(student, weights={"text_score": 20.0})
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    batch = make_batch(16, modalities=("text",))
    vectors = np.random.default_rng(3).normal(size=(NUM_ITEMS + 1, 4))
    first, second = (batch["items"][:, p] for p in schema.pair_positions(LENGTH))
    teacher = pair_correlations.correlation(vectors[first], vectors[second], "cosine")
    batch["text_scores"] = teacher.astype("float16")
    batch["text_codes"] = np.digitize(teacher, [-0.5, 0.0, 0.5]).astype("uint8")
    model.fit(repeated(batch, 80), verbose=0)
    model.run_eagerly = True  # one batch costs less than a trace
    after = model.evaluate(batch, verbose=0, return_dict=True)
    assert float(after["text_score_agreement"]) > 0.95
    assert float(after["text_code_accuracy"]) > 0.9


def test_agreement_counts_every_valid_pair_alike_whatever_the_padding():
    import tensorflow as tf

    model, batches = make(), [make_batch(length=6), make_batch(length=2)]
    no_pairs = {k: v[:, : "_s" not in k and "_c" not in k] for k, v in batches[1].items()}
    batches.append(no_pairs)
    right = valid = 0.0
    for batch in batches:
        pairs = model(batch, training=False)["measured"][-1]
        weights = np.asarray(pairs["text_weights"])
        found = np.asarray(pairs["text_code_logits"]).argmax(-1) == np.asarray(pairs["text_codes"])
        right, valid = right + float((found * weights).sum()), valid + float(weights.sum())
    specs = {name: tf.TensorSpec([None, None], values.dtype) for name, values in batch.items()}
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
    logs = model.evaluate(data, verbose=0, return_dict=True)
    assert 0 < right < valid
    np.testing.assert_allclose(logs["text_code_accuracy"], right / valid, rtol=1e-5)


def test_round_trips_through_keras_with_its_optimizer(tmp_path):
    model, batch = make(pairs_per_window=4, score_scales={"text": 2.0}), make_batch()
    model.train_on_batch(batch)
    model.save(tmp_path / "model.keras")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    assert reloaded.get_config() == model.get_config()
    assert losses(reloaded, batch) == losses(model, batch)
    assert int(reloaded.optimizer.iterations) == 1


@pytest.mark.parametrize("options", [{}, {"output": "fused", "logit_scale": 9.0}])
def test_trains_in_mixed_precision(options):
    student = make_student(modalities=("text",), dtype="mixed_float16", **options)
    model = KDSR(student, NUM_CODES, dtype="mixed_float16")
    model.compile(optimizer=keras.optimizers.Adam(0.01), run_eagerly=True)
    batch = make_batch(modalities=("text",))
    before = losses(model, batch)
    model.fit(repeated(batch, 5), verbose=0)
    after = losses(model, batch)
    assert all(np.isfinite(value) for value in after.values())
    assert after["next_item"] < before["next_item"]
    rows, table = student.item_vectors_of(np.array([3, 5])), np.asarray(student.item_vectors())
    np.testing.assert_allclose(rows, table[[3, 5]], rtol=1e-2, atol=1e-2)


REPLICAS_PROGRAM = """
from kdsr_tf import light_imports; light_imports.install()
import keras, numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.models.batches import make_batch, make_student, NUM_CODES
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.training.rates import grouped_adam, variable_groups

# Windows grow shorter, so the second replica has fewer targets than the first.
batch = make_batch(8)
order = np.argsort(-(batch["items"] > 0).sum(1))
batch = {key: value[order] for key, value in batch.items()}

def fit():
    model = KDSR(make_student(dropout=0.0), NUM_CODES)
    # The limit is below every norm: clipping each replica's share would differ.
    model.compile(optimizer=grouped_adam(variable_groups(model), 0.01, clip_norm=0.01))
    data = tf.data.Dataset.from_tensor_slices(batch).batch(8).repeat(3)
    return model.fit(data, verbose=0).history, model.get_weights()

logs, weights = fit()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    their_logs, their_weights = fit()
assert min(logs["gradient_norm_modality_tables"] + logs["gradient_norm_rest"]) > 0.02
for name in logs:
    np.testing.assert_allclose(their_logs[name], logs[name], rtol=1e-5, err_msg=name)
for one, two in zip(weights, their_weights, strict=True):
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one():
    """A new process: logical devices exist before TensorFlow starts, or never."""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", REPLICAS_PROGRAM], env=environment, check=True)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="no `text` table"):
        KDSR(make_student(modality_tables="off"), modalities=("text",))
    with pytest.raises(ValueError, match="`frobenius` is the norm of all pairs"):
        make(score_loss="frobenius", pairs_per_window=3)
    with pytest.raises(ValueError, match="no term `txt_score`"):
        make(weights={"txt_score": 1.0})
    batch = make_batch(modalities=("image",))
    with pytest.raises(ValueError, match="no `text_present`"):
        make()(batch)
    with pytest.raises(ValueError, match=f"at most `max_length` = {LENGTH}"):
        make()(make_batch(length=LENGTH + 1))
    with pytest.raises(ValueError, match="`label_smoothing` spreads over all items"):
        make(label_smoothing=0.1, negatives=3)


def test_batch_without_targets_is_refused_with_what_it_has():
    batch = make_batch()
    del batch["target"]
    with pytest.raises(ValueError, match=r"no `target`.*Received: image_codes"):
        make()(batch)
