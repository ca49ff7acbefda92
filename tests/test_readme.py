"""The program in the README runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parent.parent
LIGHT = "from kdsr_tf import light_imports; light_imports.install()"


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_program_in_the_readme_learns(tmp_path, backend):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert program.count("\n") <= 40
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [warm.python(), "-c", f"{LIGHT}\n{program}"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    losses = [float(value) for value in re.findall(r"next_item: ([\d.]+)", done.stdout)]
    assert len(losses) == 10
    # Three items can follow each item, so a perfect model comes down to log 3 = 1.10.
    assert 1.05 < losses[-1] < 1.6 < losses[0]
    assert (tmp_path / "student.keras").exists()
