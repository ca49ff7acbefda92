"""Child processes of `kdsr run`: one per stage, and a server for the closing query."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from kdsr_tf.errors import KDSRError
from kdsr_tf.runs.environment import PARENT_PIPE

_KIBIBYTE = 1024
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_END = 30.0


class ChildError(KDSRError):
    """A child process failed; it has said why on stderr."""


class Spent(NamedTuple):
    """What a child process took: wall time, time on all processors together, peak resident memory.

    Its own children are included. Unlike wall time, processor time says little about what else the
    machine had to do.
    """

    seconds: float
    processor_seconds: float
    peak_bytes: int


def run_child(arguments: Sequence[str], watch: Callable[[], None] | None = None) -> Spent:
    """Run `kdsr` with `arguments` to its end; `ChildError` if it fails.

    The child shares stderr, so its progress is seen live, and dies with this process, however this
    process ends. `watch` is called every second; the child is killed where it raises.
    """
    started = time.monotonic()
    with _started(arguments) as child:
        ended, status, usage = os.wait4(child.pid, 0 if watch is None else os.WNOHANG)
        while not ended and watch is not None:
            watch()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        child.returncode = os.waitstatus_to_exitcode(status)
    _check(arguments[0], child.returncode)
    return Spent(
        time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIBIBYTE
    )


@contextlib.contextmanager
def background_child(arguments: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Run `kdsr` with `arguments` beside this process; SIGTERM ends it.

    Yields a function that raises `ChildError`, with what the child has said, if the child is gone.
    """
    with tempfile.TemporaryFile() as said, _started(arguments, said) as child:

        def check() -> None:
            if child.poll() is not None:
                said.seek(0)
                text = said.read().decode(errors="replace").strip()
                raise ChildError(f"`kdsr {arguments[0]}` ended early:\n{text}")

        try:
            yield check
        finally:
            child.terminate()
            try:
                child.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def _started(
    arguments: Sequence[str], output: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    read_end, write_end = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "kdsr_tf", *arguments],
            env=os.environ | {PARENT_PIPE: str(read_end)},
            pass_fds=[read_end],
            stdout=output,
            # Not file descriptor 2, which `environment` puts a filter before.
            stderr=output or sys.stderr,
        )
        os.close(read_end)
        try:
            yield child
        except BaseException:
            child.kill()
            child.wait()
            raise
    finally:
        os.close(write_end)


def _check(name: str, status: int) -> None:
    if status == 0:
        return
    if status < 0:
        cause = f"was killed by {signal.Signals(-status).name}"
        if -status == signal.SIGKILL:
            cause += " (out of memory?)"
    else:
        cause = f"failed with exit status {status}; its message is above"
    raise ChildError(
        f"Stage `{name}` {cause}. What earlier stages wrote is kept: correct the cause and "
        "run the same command again."
    )
