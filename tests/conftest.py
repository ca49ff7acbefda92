"""Runs before any test module: the environment that `kdsr` gives its own processes."""

from __future__ import annotations

import os

from kdsr_tf.cli import environment

# All tests share one process, so this must precede whichever imports TensorFlow first.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
environment.prepare()
