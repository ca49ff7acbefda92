"""A run killed in the middle of an epoch ends with the bits of one that was not."""

import csv
import os
import shutil
import signal
import subprocess
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.training.fit import train
from tests import factories, warm

# Kills its own process, without notice, after some steps of training.
KILLED = """
    from kdsr_tf import light_imports; light_imports.install()
    import os, signal, sys
    import tensorflow as tf
    tf.config.run_functions_eagerly(True)
    from kdsr_tf.config import Config
    from kdsr_tf.training import callbacks
    from kdsr_tf.training.fit import train

    class Killed(callbacks.FiniteLosses):
        left = int(sys.argv[2])

        def on_train_batch_end(self, batch, logs):
            super().on_train_batch_end(batch, logs)
            Killed.left -= 1
            if not Killed.left:
                os.kill(os.getpid(), signal.SIGKILL)

    callbacks.FiniteLosses = Killed
    train(Config.model_validate_json(sys.argv[1]))
"""
STEPS = 4  # per epoch, of 24 windows of several lengths


def make_config(workdir, checkpoint_steps=None):
    return Config(
        workdir=str(workdir),
        seed=3,
        encode={"text": {}},
        windows={"max_length": 10, "stride": 5},
        model={"dim": 8, "num_layers": 1, "num_heads": 1, "dropout": 0.5},
        distillation={"pairs_per_window": 6},
        teach={"num_codes": 5},
        train={
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 0.01,
            "patience": 2,
            "slow_start_epochs": 2,
            "clip_norm": 1.0,
            "checkpoint_steps": checkpoint_steps,
        },
    )


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Steps as they are written: what a few of them compute costs less than their compilation.

    tests/methods/test_computed_items.py resumes compiled ones.
    """
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("prepared")
    factories.write_workdir(make_config(workdir), num_users=24)
    return workdir


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    config = make_config(shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "work"))
    manifest = train(config)
    return manifest, *results(config)


def results(config):
    directory = stages.location(config, "student")
    student = keras.saving.load_model(os.path.join(directory, "student.keras"))
    with open(os.path.join(directory, "history.csv"), newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return student.get_weights(), rows


def kill_after(config, steps):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [warm.python(), "-c", textwrap.dedent(KILLED), config.model_dump_json(), str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def checkpoints_of(config):
    folder = Path(stages.location(config, "student") + ".checkpoints")
    return sorted(path.stem for path in folder.glob("*/select/*.npz"))


@pytest.mark.parametrize(
    ("every", "steps", "left"),
    [
        (2, STEPS + 3, ["epoch-00001-step-00000000", "epoch-00001-step-00000002"]),
        pytest.param(
            None,
            2 * STEPS + 3,
            ["epoch-00001-step-00000000", "epoch-00002-step-00000000"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["within the epoch", "from the epoch's start"],
)
def test_killed_and_resumed(prepared, uninterrupted, tmp_path, every, steps, left):
    config = make_config(shutil.copytree(prepared, tmp_path / "work"), every)
    kill_after(config, steps)
    assert checkpoints_of(config) == left
    assert not os.path.exists(stages.location(config, "student"))

    manifest = train(config)

    whole, expected_weights, expected_rows = uninterrupted
    weights, rows = results(config)
    assert rows == expected_rows
    for value, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert manifest.details["best_epoch"] == whole.details["best_epoch"]
    assert manifest.counts == whole.counts
    assert checkpoints_of(config) == []
