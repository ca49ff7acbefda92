import os
import subprocess

import tensorflow as tf

from kdsr_tf.config import load_config
from kdsr_tf.training import devices
from tests import warm

FRESH = """
from kdsr_tf import light_imports; light_imports.install()
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import tensorflow as tf
from kdsr_tf.config import load_config
from kdsr_tf.training.devices import set_up
set_up(load_config("configs/demo.yaml"))
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_a_process_that_has_begun_is_left_as_it_is(monkeypatch):
    tf.constant(1.0)
    before = tf.config.threading.get_intra_op_parallelism_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    devices.set_up(load_config("configs/demo.yaml"))
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


def test_a_new_process_is_limited():
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TF_NUM_INTRAOP_THREADS", None)
    command = [warm.python(), "-c", FRESH]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split()[-1] == "1"
