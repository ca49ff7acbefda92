"""The process environment: quiet libraries, and children that never outlive `kdsr run`."""

from __future__ import annotations

import glob
import logging
import os
import threading
import warnings

PARENT_PIPE = "KDSR_PARENT_PIPE"
"""Names the read end of a pipe that closes when the parent process is gone."""


def prepare() -> None:
    """Set what must be set before TensorFlow, gRPC or Beam is imported.

    Informational messages are silenced; errors are not. Values that the user has
    set stay.
    """
    for name, value in (
        ("TF_CPP_MIN_LOG_LEVEL", "2"),
        ("GRPC_VERBOSITY", "ERROR"),
        ("GLOG_minloglevel", "2"),
        ("ABSL_MIN_LOG_LEVEL", "2"),
        ("TFDS_LOG_LEVEL", "ERROR"),
    ):
        os.environ.setdefault(name, value)
    if not glob.glob("/dev/nvidia*") and not os.path.exists("/dev/dxg"):
        # Without a device TensorFlow's search for one ends in an error message.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger().addFilter(_without_noise)
    pipe = os.environ.pop(PARENT_PIPE, None)
    if pipe is not None:
        threading.Thread(target=_exit_with_parent, args=(int(pipe),), daemon=True).start()


def _without_noise(record: logging.LogRecord) -> bool:
    """Drop what Beam logs about Google Cloud parts that nobody asked for."""
    return not str(record.msg).startswith("apitools not found")


def _exit_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)
