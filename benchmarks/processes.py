"""Measurements that need a process of their own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import resource
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def alone(function: Callable[..., T], *arguments: object) -> T:
    """A call in a process of its own, whose memory's peak is the call's.

    Args:
        function: Importable by name; takes and returns what can be pickled.
        *arguments: Its arguments.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
