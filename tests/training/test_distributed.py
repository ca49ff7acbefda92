"""Several replicas, on one machine or on two, take the steps of one."""

import json
import os
import socket
import subprocess

import pytest

from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.training.cluster import is_chief
from tests import factories, warm
from tests.nearness import assert_near

# Eager steps of one replica against traced ones of two. The gradient is clipped, windows
# grow shorter, so that the second replica has fewer targets, and the last batch is odd.
STEPS = """
from kdsr_tf import light_imports; light_imports.install()
import json, traceback
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.training import distributed, rates
from tests.models.batches import NUM_CODES, NUM_ITEMS, make_batch, make_student
from tests.nearness import assert_near

batch = make_batch(9, modalities=("text",))
batch["target"][4:, 1:] = 0
batches = tf.data.Dataset.from_tensor_slices(batch).batch(6)

def made(negatives, **arguments):
    student = make_student(modalities=("text",), dropout=0.0)
    model = KDSR(student, NUM_CODES, negatives=negatives)
    optimizer = rates.grouped_adam(rates.variable_groups(model), 0.05, 3, clip_norm=0.1)
    model.compile(optimizer=optimizer, **arguments)
    optimizer.build(model.trainable_variables)
    return model

def check(negatives):
    one = made(negatives, run_eagerly=True)
    expected = one.fit(batches, verbose=0).history
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = made(negatives)
    log = keras.callbacks.History()
    distributed.fit(two, batches, epochs=1, initial_epoch=0, steps_per_epoch=2, callbacks=[log])
    for name, values in expected.items():
        np.testing.assert_allclose(log.history[name], values, rtol=1e-4, err_msg=name)
    variables = [[*m.trainable_variables, *m.optimizer.variables] for m in (one, two)]
    for variable, other in zip(*variables, strict=True):
        # Adam divides by the gradient's size: a small gradient's rounding grows to a share of
        # the rate.
        assert_near(other, variable, 1e-4, err_msg=variable.path)

failures = {}
# All items are drawn once, and so by every replica the same.
for name, negatives in (("all items", None), ("drawn items", NUM_ITEMS)):
    try:
        check(negatives)
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps(failures))
"""

STAGE = """
from kdsr_tf import light_imports; light_imports.install()
import sys
import tensorflow as tf
if sys.argv[2] == "2":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from kdsr_tf.config import Config
from kdsr_tf.training.fit import train
print(train(Config.model_validate_json(sys.argv[1])).details["best_epoch"])
"""


def start(program, *arguments, **environment):
    return subprocess.Popen(
        [warm.python(), "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.getcwd(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """What the processes printed."""
    try:
        said = [process.communicate() for process in processes]
        for process, (_, errors) in zip(processes, said, strict=True):
            assert process.returncode == 0, errors[-3000:]
        return [printed for printed, _ in said]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def failures():
    """What failed in one process with two devices, by what is drawn."""
    (printed,) = finish(start(STEPS))
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("scored", ["all items", "drawn items"])
def test_two_replicas_take_the_steps_of_one(failures, scored):
    assert scored not in failures, failures[scored]


def make_config(workdir, strategy):
    return Config(
        workdir=str(workdir),
        run=strategy,
        encode={"text": {}},
        windows={"max_length": 8, "stride": 4},
        model={"dim": 8, "num_layers": 1, "num_heads": 1, "dropout": 0.0},
        teach={"num_codes": 5},
        train={
            "epochs": 2,
            "batch_size": 16,
            "clip_norm": 0.5,
            "refit": True,
            "checkpoint_steps": 2,
            "strategy": strategy,
        },
    )


@pytest.mark.slow
def test_every_strategy_trains_the_same_student(tmp_path):
    factories.write_workdir(make_config(tmp_path, "single"), num_users=32)
    for strategy, devices in (("single", "1"), ("mirrored", "2")):
        finish(start(STAGE, make_config(tmp_path, strategy).model_dump_json(), devices))
    config = make_config(tmp_path, "multi_worker")
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers = [
        start(STAGE, config.model_dump_json(), "1", TF_CONFIG=cluster(addresses, index))
        for index in (0, 1)
    ]
    finish(*workers)
    expected_weights, expected_rows = results(make_config(tmp_path, "single"))
    for strategy in ("mirrored", "multi_worker"):
        weights, rows = results(make_config(tmp_path, strategy))
        for row, expected in zip(rows, expected_rows, strict=True):
            for name in expected.keys() - {"seconds"}:
                assert row[name] == pytest.approx(expected[name], rel=1e-4), (strategy, name)
        for value, expected in zip(weights, expected_weights, strict=True):
            assert_near(value, expected, 1e-4, err_msg=strategy)


def results(config):
    import csv

    import keras

    from kdsr_tf.methods.student import Student

    directory = stages.location(config, "student")
    student = keras.saving.load_model(os.path.join(directory, "student.keras"))
    assert isinstance(student, Student)
    rows = []
    for name in ("history.csv", "refit_history.csv"):
        with open(os.path.join(directory, name), newline="") as file:
            rows += [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return student.get_weights(), rows


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("localhost", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def cluster(addresses, index):
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def test_the_chief_of_a_cluster_is_worker_0(monkeypatch):
    config = make_config("unused", "multi_worker")
    for index, expected in ((0, True), (1, False)):
        monkeypatch.setenv("TF_CONFIG", cluster(["a:1", "b:2"], index))
        assert is_chief(config) is expected
        assert is_chief(make_config("unused", "mirrored"))
    # Where there is a chief, worker 0 is no second one.
    for kind, expected in (("chief", True), ("worker", False)):
        described = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}}
        described["task"] = {"type": kind, "index": 0}
        monkeypatch.setenv("TF_CONFIG", json.dumps(described))
        assert is_chief(config) is expected
    monkeypatch.setenv("TF_CONFIG", '{"task": 0}')
    with pytest.raises(ConfigError, match=r"needs the environment variable TF_CONFIG.*Received"):
        is_chief(config)


@pytest.mark.parametrize("train", [{"jit_compile": True}, {"accumulation_steps": 2}])
def test_what_one_replica_alone_can_do(train):
    with pytest.raises(ValueError, match=r"on one replica only. Received: .*mirrored"):
        Config(train={"strategy": "mirrored", **train})
