"""A process of this package starts TensorFlow and Keras without other frameworks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdsr_tf import light_imports

ROOT = Path(__file__).parent.parent
PROGRAM = """
import importlib, json, sys
from kdsr_tf.runs import environment
environment.prepare()
import tensorflow, keras
names = sys.argv[1:]
started = [name for name in names if name in sys.modules]
print(json.dumps([started, [importlib.import_module(name).__name__ for name in names]]))
"""


@pytest.mark.parametrize("legacy", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_other_frameworks_are_imported_only_when_asked_for(legacy):
    """With the Keras behind `tf.keras` that the export needs, and without."""
    names = sorted(light_imports._WITHOUT)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": legacy},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], names]
