"""Runs before any test module: the environment that `kdsr` gives its own processes."""

from __future__ import annotations

import gc
import os
import sys

from kdsr_tf.runs import environment
from tests import warm

# The tests of a process share it, so this must precede whichever imports TensorFlow first.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# Programs of the tests compile for longer than they run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes of pytest share the cores: more threads in each would only switch places.
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
environment.prepare()

LONG = ("integration", "training", "export", "serving")
"""Folders whose modules take longest."""


def pytest_configure(config) -> None:
    made = warm.set_up()
    config.add_cleanup(lambda: warm.tear_down(made))


def pytest_collection_modifyitems(items: list) -> None:
    """Long modules first, so that no process of pytest is left alone with one at the end."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(LONG)))


def pytest_collection_finish() -> None:
    """What collecting has imported stays: looking for garbage passes it over from here on."""
    _share_kernels_of_variables()
    gc.collect()
    gc.freeze()


def _share_kernels_of_variables() -> None:
    """Let TensorFlow make a variable in half the time, where it has been imported.

    The name of a variable, for messages, is an attribute of the operation that makes it, so
    TensorFlow would build a kernel for every variable of another name. If the private module is
    gone, nothing fails.
    """
    module = sys.modules.get("tensorflow.python.ops.gen_resource_variable_ops")
    made = getattr(module, "var_handle_op", None)
    if made is not None:
        module.var_handle_op = lambda **given: made(**{**given, "debug_name": ""})
