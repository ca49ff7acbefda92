"""How a process shares the processors of its machine."""

from __future__ import annotations

import contextlib
import os
from typing import Any

FEW_PROCESSORS = 2
"""Up to so many, an operation of TensorFlow has one thread."""


def few_processors() -> bool:
    """Whether this process may use only `FEW_PROCESSORS` or fewer."""
    return len(os.sched_getaffinity(0)) <= FEW_PROCESSORS


def limit_threads(tensorflow: Any) -> None:
    """Give every operation one thread, where there are few processors and no GPU.

    What is shared out between threads of so few processors mostly waits.
    `TF_NUM_INTRAOP_THREADS` decides instead where it is set.
    """
    chosen = "TF_NUM_INTRAOP_THREADS" in os.environ
    if few_processors() and not chosen and not tensorflow.config.list_physical_devices("GPU"):
        # TensorFlow has begun: it goes on as it is, only slower.
        with contextlib.suppress(RuntimeError):
            tensorflow.config.threading.set_intra_op_parallelism_threads(1)
