"""The process environment: quiet libraries, and children that never outlive `kdsr run`."""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings
from typing import NoReturn

from kdsr_tf import light_imports

PARENT_PIPE = "KDSR_PARENT_PIPE"
"""Names the read end of a pipe that closes when the parent process is gone."""

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_DEFAULTS = {
    _LOG_LEVEL: "2",
    "GRPC_VERBOSITY": "ERROR",
    "TFDS_LOG_LEVEL": "ERROR",
}

_NATIVE_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IW]\d{4} \d\d:\d\d:\d+\.\d+ .*\] "  # ScaNN and XLA, information and warnings
    rb"|E\d{4} .* add_port\.cc:"  # a taken port, which `kdsr serve` reports itself
    rb"|.*: E .*\] failed call to cuInit"  # no GPU
    rb"|.*: E .*\] oneDNN supports DT_INT64 only on platforms with AVX-512"
)
_PYTHON_NOISE = re.compile(r"apitools not found|`FeatureConnector.dtype` is deprecated")


def prepare() -> None:
    """Set what must be set before TensorFlow, gRPC or Beam is imported.

    Information is silenced; errors are not. Values that the user has set stay.
    """
    light_imports.install()
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)
    for logger in (logging.getLogger(), logging.getLogger("absl")):
        logger.addFilter(lambda record: not _PYTHON_NOISE.match(str(record.msg)))


_followed = False


def has_parent() -> bool:
    """Whether `kdsr run` has started this process."""
    return _followed


def follow_parent() -> None:
    """Exit when the process that started this one through `children` is gone."""
    global _followed
    pipe = os.environ.pop(PARENT_PIPE, None)
    if pipe is not None:
        _followed = True
        threading.Thread(target=_exit_with_parent, args=(int(pipe),), daemon=True).start()


def filter_native_noise() -> None:
    """Pass what native libraries write to stderr through a filter process.

    Before they are initialised, absl's loggers in ScaNN and XLA obey no environment
    variable. Python's `sys.stderr` stays what it was, a terminal for example. The
    filter is a process of its own, so that the last words of a crash get through.
    Setting TF_CPP_MIN_LOG_LEVEL=0 shows everything.
    """
    if os.environ.get(_LOG_LEVEL) == "0":
        return
    sys.stderr.flush()
    real = os.dup(2)
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(write_end)
        _filter(read_end, real)
    os.close(read_end)
    os.dup2(write_end, 2)
    os.close(write_end)
    sys.stderr = io.TextIOWrapper(
        os.fdopen(real, "wb", buffering=0),
        encoding=sys.stderr.encoding,
        errors=sys.stderr.errors,
        write_through=True,
    )


def leave(status: int) -> NoReturn:
    """End the process once its work is done.

    Python's exit handlers run and buffers are flushed, but native libraries are not
    torn down: the threads of gRPC, Arrow and TensorFlow race with their destructors,
    and now and then a process that had committed everything ended with SIGABRT.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(status)


def _filter(read_end: int, real: int) -> None:
    """The filter process: ends when every writer is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        os.close(0)
        os.close(1)
        with os.fdopen(read_end, "rb") as lines:
            for line in lines:
                if not _NATIVE_NOISE.match(line):
                    os.write(real, line)
    finally:
        os._exit(0)


def _exit_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)
