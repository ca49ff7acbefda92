"""Connections that have more to ask than they may ask at once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from serving.request_error import unavailable

_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_ANSWERED_PART = 16
"""A sixteenth of the calls is answered even then, so that the processors have work."""


class Crowding:
    """Refuses calls of a connection that has been at its limit for long.

    gRPC hands calls to Python in the order in which they came, so a call waits for all those
    before it. A connection may therefore have few calls at once; further ones wait at its client.
    Where they come faster than they are answered, they would wait there until their deadlines
    pass. So when a connection is still at the limit after many of its calls, or after five
    seconds, further ones are refused, all but a sixteenth of the limit, until fewer come.

    Args:
        most: Calls of a connection at once, >= 2.
        patience: Calls that end before others are refused: how many may wait.
    """

    def __init__(self, most: int, patience: int) -> None:
        self._most = most
        self._patience = patience
        self._calls: Counter[str] = Counter()
        self._ended = 0
        self._since: tuple[float, int] | None = None  # the time, and how many had ended
        self._last = 0.0

    @contextlib.contextmanager
    def call(self, caller: str) -> Iterator[None]:
        """Count a call as long as it lasts."""
        self._calls[caller] += 1
        try:
            yield
        finally:
            self._ended += 1
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller]

    def look(self, received: int, now: float) -> int:
        """Learn how many calls there are at a time in seconds; returns those Python does not know.

        `received` are the calls that gRPC has, those that Python does not know yet included. Nobody
        knows whose these are: they may all be of the caller who has most.
        """
        unread = max(0, received - self._calls.total())
        if unread + max(self._calls.values(), default=0) >= self._most:
            self._last = now
            self._since = self._since or (now, self._ended)
        elif now - self._last > _PAUSE_SECONDS:
            self._since = None
        return unread

    def require_room(self, caller: str) -> None:
        """Refuse, as UNAVAILABLE, a call of a connection that has been at its limit for long."""
        if self._since is None or self._calls[caller] <= self._most // _ANSWERED_PART:
            return
        began, ended = self._since
        if self._ended - ended >= self._patience or self._last - began >= _PATIENCE_SECONDS:
            raise unavailable(
                f"More calls than can be answered have waited for the {self._most} places of this "
                "connection. Further ones are refused until fewer come."
            )
