"""Looking at something again and again while something else runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watching(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `look` on a thread of its own, every so many seconds, until the block ends.

    It must not raise: the error would be lost.
    """
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(seconds):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
