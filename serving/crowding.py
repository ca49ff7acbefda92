"""Connections that have more to ask than they may ask at once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from serving.request_error import unavailable

_PATIENCE_SECONDS = 2.0
_PAUSE_SECONDS = 0.5
_ANSWERED_PART = 16
"""A sixteenth of the calls is answered even then, so that the processors have work."""


class Crowding:
    """Refuses calls of a connection that has been at its limit for long.

    gRPC hands calls to Python in the order in which they came, so a call waits for all those
    before it. A connection may therefore have few calls at once; further ones wait at its client.
    Where they come faster than they are answered, they would wait there until their deadlines
    pass. So after two seconds at the limit the calls of a connection are refused, all but a
    sixteenth of the limit, until fewer come.

    Args:
        most: Calls of a connection at once, >= 2.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: Counter[str] = Counter()
        self._since: float | None = None
        self._last = 0.0

    @contextlib.contextmanager
    def call(self, caller: str) -> Iterator[None]:
        """Count a call as long as it lasts."""
        self._calls[caller] += 1
        try:
            yield
        finally:
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller]

    def look(self, received: int, now: float) -> int:
        """Learn how many calls there are.

        Args:
            received: Calls that gRPC has, those that Python does not know yet included. Nobody
                knows whose these are: they may all be of the caller who has most.
            now: Time, in seconds.

        Returns:
            The calls that Python does not know yet.
        """
        unread = max(0, received - self._calls.total())
        if unread + max(self._calls.values(), default=0) >= self._most:
            self._last = now
            self._since = now if self._since is None else self._since
        elif now - self._last > _PAUSE_SECONDS:
            self._since = None
        return unread

    def require_room(self, caller: str) -> None:
        """Refuse a call of a connection that has been at its limit for long.

        Raises:
            RequestError: UNAVAILABLE.
        """
        crowded = self._since is not None and self._last - self._since >= _PATIENCE_SECONDS
        if crowded and self._calls[caller] > self._most // _ANSWERED_PART:
            raise unavailable(
                f"This connection has had its {self._most} calls at once for "
                f"{_PATIENCE_SECONDS:g} s. Further ones are refused until fewer come."
            )
