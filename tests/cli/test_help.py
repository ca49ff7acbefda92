"""Help and version of every command, without the libraries behind them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from kdsr_tf import stages
from kdsr_tf.cli import data_command
from kdsr_tf.cli.main import cli
from kdsr_tf.cli.stage_commands import STAGES
from kdsr_tf.config import PrepareConfig
from kdsr_tf.sources.time_units import CHOICES

ROOT = Path(__file__).parent.parent.parent
HEAVY = (
    "apache_beam",
    "fsspec",
    "grpc",
    "jax",
    "keras",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "tensorflow",
    "yaml",
)
LOADED = f"""
import sys
from kdsr_tf.cli.main import cli, main

def shown(*arguments):
    try:
        main(arguments)
    except SystemExit as ended:
        assert ended.code == 0, arguments

shown("--help")
shown("--version")
for name, command in cli.commands.items():
    shown(name, "--help")
    for below in getattr(command, "commands", ()):
        shown(name, below, "--help")
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
"""


def test_help_of_every_command_loads_no_library_but_click():
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    *helps, loaded = done.stdout.splitlines()
    assert loaded == "loaded:"
    text = "\n".join(helps)
    for name in cli.commands:
        assert f"Usage: kdsr {name} " in text
    assert "kdsr, version" in text and "Usage: kdsr data import " in text


def test_what_help_says_is_what_the_libraries_have():
    assert tuple(command.name for command in STAGES) == stages.STAGES
    assert CHOICES == data_command.UNITS
    assert PrepareConfig().max_rejected_fraction == data_command.MOST_REJECTED
