"""The working directory: writable, one writer at a time; the configuration in a run's folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import filelock

from kdsr_tf import artifacts
from kdsr_tf.config import Config, dump_config, load_config
from kdsr_tf.errors import KDSRError, MissingArtifactError
from kdsr_tf.runs import environment
from kdsr_tf.training.cluster import is_chief

_LOCK = ".lock"
CONFIG_FILE = "config.yaml"
"""Every command that runs stages leaves the configuration it used."""


@contextlib.contextmanager
def locked(config: Config) -> Iterator[None]:
    """Create a local working directory and keep other writers out of it.

    A second writer would take the first one's unfinished directories for leftovers
    of a killed process. A stage that `kdsr run` has started works under its lock. Workers
    beside the chief write nothing, and may share its machine.

    Raises:
        KDSRError: if another command writes there, or if nothing can be written.
    """
    workdir = config.workdir
    if "://" in workdir or environment.has_parent() or not is_chief(config):
        yield
        return
    _make(workdir)
    try:
        with filelock.FileLock(os.path.join(workdir, _LOCK), timeout=0):
            yield
    except filelock.Timeout:
        raise KDSRError(
            f"Another `kdsr` command works in {workdir}. Wait for it, or choose another --workdir."
        ) from None


def _make(workdir: str) -> None:
    try:
        os.makedirs(workdir, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise KDSRError(
            f"The working directory {workdir} cannot be written: {error.strerror or error}. "
            "Choose another with --workdir."
        ) from None


def write_config(config: Config) -> str:
    """Leave the configuration in its run's folder; returns its path."""
    path = artifacts.join(config.run_directory, CONFIG_FILE)
    artifacts.write_text(path, dump_config(config))
    return path


def find_config(run: str) -> tuple[str, str]:
    """The configuration file and the working directory of a run.

    `run` is a working directory, or its folder `runs/NAME`; local path or URI. Raises
    `MissingArtifactError` where `kdsr run` left no configuration.
    """
    folder = run.rstrip("/") if "://" in run else os.path.abspath(run)
    path = artifacts.join(folder, CONFIG_FILE)
    if not artifacts.exists(path):
        raise MissingArtifactError(
            f"{folder} is no run: there is no {CONFIG_FILE} of `kdsr run` or `kdsr repeat` in it. "
            "Give a working directory, its folder runs/NAME, or --config and --workdir."
        )
    # A folder that was moved since is where it is now, not where it was.
    name = load_config(path).run
    return path, folder.removesuffix(f"/runs/{name}") if name else folder
