"""A process of this package starts TensorFlow and Keras without other frameworks."""

from __future__ import annotations

import importlib.util
import json
import os
import re
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


def test_the_modules_are_where_they_were():
    """Read as files, because importing them takes seconds."""
    for framework, modules in light_imports._WITHOUT.items():
        for name in modules:
            package, *parts = name.split(".")
            # Once TensorFlow is imported, its package has several folders.
            folders = importlib.util.find_spec(package).submodule_search_locations
            paths = [Path(folder, *parts) for folder in folders]
            files = [file for path in paths if path.is_dir() for file in path.rglob("*.py")]
            files += [file for path in paths if (file := path.with_suffix(".py")).is_file()]
            imported = re.compile(rf"^\s*(import|from) {framework}\b", re.MULTILINE)
            assert any(imported.search(file.read_text()) for file in files), (framework, name)


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
