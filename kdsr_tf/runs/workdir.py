"""The working directory: writable, and one writer at a time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import filelock

from kdsr_tf.config import Config
from kdsr_tf.errors import KDSRError
from kdsr_tf.runs import environment
from kdsr_tf.training.cluster import is_chief

_LOCK = ".lock"


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
