"""The examples in the docstrings of the rooms that need no data."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parent.parent / "kdsr_tf"
MODULES = sorted(
    f"kdsr_tf.{room}.{path.stem}"
    for room in (
        *("ops", "layers", "losses", "metrics", "items", "scoring", "backbones"),
        *("models", "objectives", "methods"),
    )
    for path in (PACKAGE / room).glob("*.py")
    if ">>> " in path.read_text()
)
MODULES.append("kdsr_tf.splits")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0
