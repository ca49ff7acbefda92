"""Asking a server that may still be loading its model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import KDSRError

T = TypeVar("T")

_POLL_SECONDS = 0.2
_FIRST_LOOK_SECONDS = 10.0
"""A `kdsr serve` that was typed a moment ago may need as long to say that it starts."""


def ask_when_ready(
    config: Config, rest: bool, limit_seconds: float | None, ask: Callable[[str], T]
) -> T:
    """Ask the server of a configuration, and wait for it while it starts.

    A local server says in its working directory what it does until it is ready, so that
    `kdsr serve … &` and `kdsr query …` may be typed right after one another.

    Args:
        config: The configuration.
        rest: Whether REST is asked.
        limit_seconds: Longest wait for a server that starts; None waits while it lives.
        ask: Called with the address.

    Raises:
        KDSRError: if there is no server, if it ended before it was ready, or after the limit.
    """
    import grpc

    from serving.client import NoServerError, QueryError, find_target
    from serving.starting import find_starting

    if config.serve.target or "://" in config.workdir:
        return ask(find_target(config, rest))
    first_look = time.monotonic() + _FIRST_LOOK_SECONDS
    while True:
        wait_until_started(config.run_directory, limit_seconds)
        try:
            return ask(find_target(config, rest))
        except (QueryError, NoServerError) as error:
            unavailable = getattr(error, "code", None) in (None, grpc.StatusCode.UNAVAILABLE)
            may_start = time.monotonic() < first_look or find_starting(config.run_directory)
            if not (unavailable and may_start):
                raise
            time.sleep(_POLL_SECONDS)


def wait_until_started(directory: str, limit_seconds: float | None) -> None:
    """Return once no server of a run's folder is starting, and say what is waited for.

    Raises:
        KDSRError: if the server ended before it was ready, or after the limit.
    """
    from serving.starting import find_starting

    started, said, last = time.monotonic(), "", None
    while (found := find_starting(directory)) is not None:
        last = found
        if found.doing != said:
            said = found.doing
            console.print(
                f"Waiting for `kdsr serve` (process {found.pid}), which is {said}.", markup=False
            )
        if limit_seconds is not None and time.monotonic() - started >= limit_seconds:
            raise KDSRError(
                f"`kdsr serve` (process {found.pid}) is still {said} after {limit_seconds:g} s "
                "(--wait). Ask again later, or wait longer."
            )
        time.sleep(_POLL_SECONDS)
    if last is not None and not last.is_alive():
        raise KDSRError(
            f"`kdsr serve` (process {last.pid}) ended before it was ready, while {last.doing}. "
            "Its own message says why."
        )
