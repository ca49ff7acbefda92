import contextlib
import csv
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.local import LocalFileSystem
from google.protobuf import text_format
from tensorboard.plugins import projector

from kdsr_tf import artifacts, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.data.buckets import few_lengths
from kdsr_tf.data.examples import Examples
from kdsr_tf.errors import ConfigError, MissingArtifactError, TrainingError
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.registry import build_model
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.metrics.modality_retention import correlation, pair_cosines, sample_pairs
from kdsr_tf.training import fit
from kdsr_tf.training.callbacks import (
    RETENTION_PAIRS,
    SIMILARITIES,
    FiniteLosses,
    similarities_file,
)
from kdsr_tf.training.checkpoints import Checkpointing, Checkpoints, restore_variables
from kdsr_tf.training.fit import train
from kdsr_tf.training.profiling import profile
from kdsr_tf.training.rates import grouped_adam, variable_groups
from tests import factories
from tests.models.batches import NUM_CODES, make_batch, make_student
from tests.nearness import assert_near


def make_config(workdir, **overrides):
    return Config(
        workdir=str(workdir),
        encode={"text": {}},
        windows={"max_length": 8, "stride": 4},
        model={"dim": 8, "num_layers": 1, "num_heads": 1},
        teach={"num_codes": 5},
        train={"epochs": 3, "batch_size": 16, "slow_start_epochs": 4, **overrides},
    )


@contextlib.contextmanager
def steps_as_written():
    """What a few steps compute costs less than their compilation."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def uncompiled():
    with steps_as_written():
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fit")
    factories.write_workdir(make_config(workdir), num_users=32)
    return workdir


@pytest.fixture(scope="module")
def trained(workdir, tmp_path_factory):
    workdir = shutil.copytree(workdir, tmp_path_factory.mktemp("trained") / "work [1] *?#2, é")
    config = make_config(workdir)
    with steps_as_written():
        return config, train(config), read(config)


@pytest.fixture(scope="module")
def oracle(workdir, tmp_path_factory):
    """Selected on the test points, in float16, and compiled."""
    workdir = shutil.copytree(workdir, tmp_path_factory.mktemp("oracle") / "work")
    config = make_config(
        workdir, selection="test_oracle", precision="mixed_float16", learning_rate=0.01, epochs=2
    )
    return config, train(config), read(config)


def read(config):
    directory = stages.location(config, "student")
    with open(os.path.join(directory, "history.csv"), newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return keras.saving.load_model(os.path.join(directory, "student.keras")), rows


@pytest.mark.parametrize(
    ("model", "words"),
    [({"backbone": "foo"}, "dif_sr, gru4rec, .*sasrec"), ({"num_heads": 3}, "num_heads=3")],
)
def test_model_that_cannot_be_built_names_the_section(model, words):
    config = make_config("unused")
    config = config.model_copy(update={"model": config.model.model_copy(update=model)})
    with pytest.raises(ConfigError, match=f"section `model` .*{words}"):
        build_model(config, TrainingInputs(num_items=4))


def test_more_negatives_than_items_are_refused_by_their_key():
    config = make_config("unused", negatives=5)
    with pytest.raises(ConfigError, match=r"`train\.negatives` must be at most 4"):
        build_model(config, TrainingInputs(num_items=4))


def test_history_has_terms_rates_retention_and_agreement(trained):
    _, manifest, (_, rows) = trained
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for name in ("loss", "next_item", "text_score", "text_code", "val_hr_20", "val_mrr_5"):
        assert all(np.isfinite(row[name]) for row in rows)
    weights = manifest.details["weights"]
    for row in rows:
        total = sum(weight * row[term] for term, weight in weights.items())
        assert row["loss"] == pytest.approx(total, rel=1e-5)
        assert 0.9 < row["retention_text"] <= 1
        assert -1 <= row["val_text_score_agreement"] <= 1
    assert [row["learning_rate_rest"] for row in rows] == pytest.approx([1e-3] * 3)
    assert [row["learning_rate_modality_tables"] for row in rows] == pytest.approx(
        [1e-3 * (0.1 + 0.9 * epoch / 4) for epoch in (1, 2, 3)]
    )


def test_similarities_of_every_epoch_are_kept_and_give_its_retention(trained):
    config, _, (student, rows) = trained
    folder = Path(stages.location(config, "student"), "logs", "select", SIMILARITIES)
    teacher = Path(stages.location(config, "teacher/text"))
    pairs = sample_pairs(np.load(teacher / "present.npy"), RETENTION_PAIRS, seed=0)
    theirs = pair_cosines(np.load(teacher / "vectors.npy"), *pairs)
    kept = [np.load(similarities_file(str(folder), "text", epoch)) for epoch in (1, 2, 3)]
    for ours, row in zip(kept, rows, strict=True):
        assert correlation(ours.astype(float), theirs) == pytest.approx(
            row["retention_text"], abs=1e-3
        )
    best = max(range(3), key=lambda epoch: rows[epoch]["val_hr_20"])
    table = np.asarray(student.modality_table("text"))
    assert_near(kept[best], pair_cosines(table, *pairs), 1e-3)


def test_manifest_names_the_best_epoch_by_validation(trained):
    config, manifest, (_, rows) = trained
    best = max(rows, key=lambda row: row["val_hr_20"])
    assert manifest.details["best_epoch"] == best["epoch"]
    assert manifest.details["validation"]["val_hr_20"] == best["val_hr_20"]
    assert manifest.details["selection"] == "validation"
    assert manifest.details["refit"] is False
    assert manifest.counts["train_windows"] == manifest.counts["validation_windows"] == 32
    assert manifest.counts["epochs"] == 3 and manifest.counts["steps"] == 9
    assert sum(manifest.details["groups"].values()) == manifest.counts["parameters"]
    assert manifest == artifacts.read_manifest(stages.location(config, "student"), written_by="")


def test_oracle_selects_on_test_points_and_says_so(oracle):
    _, manifest, (_, rows) = oracle
    assert not [name for name in rows[0] if name.startswith("val_")]
    assert manifest.details["selection"] == "test_oracle"
    best = max(rows, key=lambda row: row["test_hr_20"])
    assert manifest.details["best_epoch"] == best["epoch"]
    for metric, value in manifest.details["oracle"].items():
        assert value == max(row[f"test_{metric}"] for row in rows)
    assert {"hr_5", "hr_20", "mrr_5", "mrr_20"} == set(manifest.details["oracle"])
    assert all(row["term_gradient_text_code"] > 0 for row in rows)
    # The validation targets are learnt from, too, in the windows of the train targets.
    windows = manifest.counts["validation_windows"]
    assert windows == manifest.counts["train_windows"] > 0
    assert manifest.counts["steps"] == 6  # 2 epochs


@pytest.mark.usefixtures("uncompiled")
def test_no_training_is_lost_by_what_follows_the_last_epoch(workdir, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(fit, "write_projector", fail)
    monkeypatch.setattr(Checkpoints, "delete", fail)
    monkeypatch.setattr(LocalFileSystem, "rm_file", fail)
    config = make_config(shutil.copytree(workdir, tmp_path / "work"), epochs=1)
    manifest = train(config)
    student, rows = read(config)
    assert manifest.counts["epochs"] == len(rows) == 1
    assert student.num_items == 40
    said = " ".join(capsys.readouterr().err.split())
    assert "Warning: The logs for TensorBoard are not all there. PermissionError" in said
    assert "Warning: The checkpoints of this training stay in" in said


def test_student_is_saved_alone_and_logs_for_tensorboard(trained):
    config, _, (student, _) = trained
    assert type(student).__name__ == "Student"
    assert not [w.path for w in student.weights if "head/W_c" in w.path or "g_phi" in w.path]
    assert student.scores(np.array([[3, 7, 0]])).shape == (1, 41)
    logs = os.path.join(stages.location(config, "student"), "logs", "select", "train")
    events = tf.data.TFRecordDataset([os.path.join(logs, name) for name in os.listdir(logs)])
    tags = {
        value.tag
        for event in events
        for value in tf.compat.v1.Event.FromString(event.numpy()).summary.value
    }
    assert {"epoch_text_score", "epoch_retention_text", "epoch_learning_rate_rest"} <= tags
    assert not os.path.exists(stages.location(config, "student") + ".checkpoints")


def test_student_carries_its_vocabulary_and_its_tables_can_be_looked_at(trained):
    config, _, (student, _) = trained
    folder = Path(stages.location(config, "student"))
    ids = sequences.read_items(str(folder), "item_id")["item_id"].to_pylist()
    assert ids == [f"item{k:04d}" for k in range(1, 41)]
    shown = text_format.Parse(
        (folder / "logs" / "projector_config.pbtxt").read_text(), projector.ProjectorConfig()
    )
    assert [e.tensor_name for e in shown.embeddings] == ["ids", "text"]
    vectors = np.loadtxt(folder / "logs" / shown.embeddings[1].tensor_path, delimiter="\t")
    np.testing.assert_allclose(vectors, student.modality_table("text")[1:], rtol=1e-3, atol=1e-5)
    lines = (folder / "logs" / shown.embeddings[1].metadata_path).read_text().splitlines()
    assert lines[0].split("\t")[:2] == ["item_id", "title"] and len(lines) == 41


@pytest.mark.usefixtures("uncompiled")
def test_equal_seeds_give_equal_bits_and_a_refit_trains_as_long_again(trained, workdir):
    again = make_config(workdir, refit=True, checkpoint_steps=1)
    manifest = train(again)
    _, rows = read(again)
    for row, expected in zip(rows, trained[2][1], strict=True):
        assert {**row, "seconds": 0} == {**expected, "seconds": 0}
    assert manifest.details["refit"] is True
    refit_rows = os.path.join(stages.location(again, "student"), "refit_history.csv")
    with open(refit_rows, newline="") as file:
        assert len(list(csv.DictReader(file))) == manifest.details["best_epoch"]


@pytest.mark.slow
def test_diverging_training_stops(workdir):
    config = make_config(workdir, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"epoch 1.* Lower `train.learning_rate`"):
        train(config)


def test_the_term_group_and_step_that_are_no_number_are_named(tmp_path):
    watch = FiniteLosses(Checkpoints(str(tmp_path)), first_epoch=2, first_step=10)
    watch.on_epoch_begin(2)
    watch.on_train_batch_end(0, {"loss": 1.0, "text_score": 0.1})
    nan = float("nan")
    logs = {"loss": nan, "text_score": nan, "text_score_weighted": nan, "next_item": 1.0}
    logs |= {"gradient_norm_rest": float("inf"), "gradient_norm_modality_tables": 1.0}
    expected = (
        r"at step 12 of epoch 3: `text_score` is nan, "
        r"the gradient of the group `rest` has norm inf\. No checkpoint had been written yet\."
    )
    with pytest.raises(TrainingError, match=expected):
        watch.on_train_batch_end(1, logs)


def test_a_batch_with_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    model = KDSR(make_student(modalities=("text",)), NUM_CODES)
    optimizer = grouped_adam(variable_groups(model), 0.01)
    model.compile(optimizer=optimizer, run_eagerly=True)
    optimizer.build(model.trainable_variables)
    batch = make_batch(6, modalities=("text",))
    batch["text_present"][:], batch["text_scores"][4:, 0] = 1, np.nan
    checkpoints = Checkpoints(str(tmp_path))
    watch = [
        FiniteLosses(checkpoints),
        Checkpointing(checkpoints, [], epochs=1, steps=4, every_steps=1),
    ]
    expected = r"at step 3 of epoch 1: .*group `modality_tables` .*`text_score` is nan\. .*kept in"
    with pytest.raises(TrainingError, match=expected) as raised:
        model.fit(batch, batch_size=2, shuffle=False, verbose=0, callbacks=watch)
    assert "text_code" not in str(raised.value)
    good = checkpoints.latest()
    assert (good.epoch, good.step) == (0, 2)
    weights = [np.array(v) for v in model.trainable_variables]
    restore_variables(model, good)  # the step with NaN has moved nothing
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_float16_learns_and_serves_float32(oracle):
    check_mixed_precision(*oracle[2])


@pytest.mark.slow
def test_bfloat16_learns_and_serves_float32(workdir):
    config = make_config(workdir, precision="mixed_bfloat16", learning_rate=0.01, epochs=2)
    train(config)
    check_mixed_precision(*read(config))


def check_mixed_precision(student, rows):
    for row in rows:
        assert all(np.isfinite(value) for value in row.values())
        assert set(gradient_norms(row)) == {"modality_tables", "rest"}
    assert rows[1]["loss"] < rows[0]["loss"]
    assert student.dtype_policy.name == student.backbone.dtype_policy.name == "float32"
    assert student.scores(np.array([[3, 7]])).dtype == "float32"


def gradient_norms(row):
    return [name.removeprefix("gradient_norm_") for name in row if name.startswith("gradient_norm")]


@pytest.mark.usefixtures("uncompiled")
def test_backbones_that_see_the_future_learn_from_prefixes_without_a_teacher_too(workdir):
    config = make_config(workdir, epochs=1)
    config.model.backbone, config.distillation.enabled = "sr_gnn", False
    factories.write_examples(config)
    manifest = train(config)
    points = sum((b["target"] > 0).sum() for b in windows_of(config, "train"))
    assert manifest.counts["steps"] == -(-points // 16)
    assert manifest.details["validation"]["val_hr_20"] > 0
    assert manifest.details["weights"] == {"next_item": 1.0}
    assert list(manifest.details["retention"]) == ["retention_text"]


def windows_of(config, split):
    reader = Examples(stages.location(config, stages.windows_of(config)), config.windows.max_length)
    return reader.batches(split, 8).as_numpy_iterator()


@pytest.mark.slow
def test_xla_takes_the_same_steps(workdir, monkeypatch):
    """From the same batches, which compiled steps see filled up with empty windows."""
    monkeypatch.setattr("kdsr_tf.data.examples.exact_lengths", few_lengths)
    losses = []
    for compiled in (False, True):
        config = make_config(workdir, epochs=2, jit_compile=compiled)
        config.model.dropout = 0.0
        train(config)
        losses.append([row["loss"] for row in read(config)[1]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_a_profile_is_a_trace_and_no_student(workdir, tmp_path):
    others = shutil.ignore_patterns("student")  # what tests before this one have trained
    config = make_config(shutil.copytree(workdir, tmp_path / "work", ignore=others))
    folder = profile(config)
    assert list(Path(folder).glob("plugins/profile/*/*.xplane.pb"))
    assert not os.path.exists(stages.location(config, "student"))


def test_examples_must_exist(tmp_path):
    with pytest.raises(MissingArtifactError, match="kdsr prepare"):
        train(make_config(tmp_path))
