"""A listening socket that sheds connections before the process runs out of descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import weakref
from typing import Any

from serving.metrics import Metrics

_OTHER_DESCRIPTORS = 128
_FEWEST_CONNECTIONS = 16
_MOST_DESCRIPTORS = 1 << 16
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def most_connections() -> int:
    """Connections of each protocol that leave descriptors for the other one and for files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = _MOST_DESCRIPTORS
    return max(_FEWEST_CONNECTIONS, (limit - _OTHER_DESCRIPTORS) // 2)


def allow_more_descriptors() -> None:
    """Raise this process's limit of open files as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BoundedListener(socket.socket):
    """Accepts connections up to a number, those that have not spoken yet included.

    asyncio tries to accept thousands of times, and logs each, when there is no descriptor left.
    One is therefore kept in reserve: with it a connection is accepted and closed.
    """

    def __init__(self, most: int, counts: Metrics, family: int) -> None:
        # asyncio switches Nagle's algorithm off, 40 ms an answer, where it knows it is TCP.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._most = most
        self._counts = counts
        self._accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._reserve = os.open(os.devnull, os.O_RDONLY)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that there is room for; `BlockingIOError` if none waits."""
        while True:
            try:
                connection, address = super().accept()
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    raise
                self._counts.refused("rest", "this process may open no more files")
                self._shed()
                continue
            if sum(accepted.fileno() >= 0 for accepted in self._accepted) < self._most:
                self._accepted.add(connection)
                return connection, address
            self._counts.refused("rest", f"{self._most} connections are open")
            _refuse(connection)

    def close(self) -> None:
        """Close the socket and the reserve."""
        self._give_reserve()
        super().close()

    def _shed(self) -> None:
        self._give_reserve()
        try:
            _refuse(super().accept()[0])
        finally:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY)

    def _give_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1


def _refuse(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(_REFUSAL)
