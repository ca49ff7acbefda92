"""Fixtures of the export and serving tests: models are built once, in another process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile

import pytest

_BUILD = os.path.join(os.path.dirname(__file__), "build_models.py")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(_BUILD)))


@functools.cache
def _built() -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory(prefix="kdsr-models-")
    run_python(_BUILD, folder.name)
    return folder


def run_python(*arguments: str) -> str:
    """Standard output of a Python process that sees the repository."""
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": _ROOT},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def models() -> str:
    """Folder with the models of `build_models.py`: `<name>/<variant>`."""
    return _built().name
