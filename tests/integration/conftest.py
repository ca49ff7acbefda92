"""A small demo run that the integration tests share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--items", "60", "--users", "120", "--set", "train.epochs=2", "--set", "teach.num_codes=8")


class CommandLine:
    """`kdsr` in a folder of its own, as a newcomer types it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [warm.python(), "-m", "kdsr_tf", *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            text=True,
            **options,
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess:
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.fixture(scope="session")
def kdsr(tmp_path_factory) -> CommandLine:
    """The command line, in the folder of `demo`."""
    return CommandLine(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="session")
def demo(kdsr) -> str:
    """What a small `kdsr demo` said; its artifacts are in `work/demo`."""
    done = kdsr("demo", *SMALL)
    assert done.returncode == 0, done.stderr
    return done.stderr
