"""What the clients of threads and of asyncio share: which model, which protocol, how long."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import tenacity

from serving import grpc_calls, rest_calls
from serving.connections import Tls, tries_again
from serving.queries import ModelRef, Query, QueryError, VersionStatus

AVAILABLE = "AVAILABLE"
_POLL_SECONDS = 0.1
_NOT_YET = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


class Session:
    """Makes the calls of a client; see `serving.client.Client` for the arguments."""

    def __init__(
        self,
        target: str,
        model_name: str,
        timeout_seconds: float,
        version: int | None,
        label: str | None,
        tls: Tls | None,
    ) -> None:
        _check(target, timeout_seconds)
        if tls is not None and target.startswith("http://"):
            raise ValueError(f"`tls` needs an https:// target. Received: {target}.")
        self.target = target
        self.timeout_seconds = timeout_seconds
        self._model = ModelRef(model_name, version, label)
        self._tls = tls
        self._rest = target.startswith(("http://", "https://"))
        self._calls: Any = rest_calls if self._rest else grpc_calls

    def connect(self, over_grpc: Callable[..., Any], over_rest: Callable[..., Any]) -> Any:
        """A connection of the protocol the target names."""
        return (over_rest if self._rest else over_grpc)(self.target, self._tls)

    def predict(self, query: Query) -> tuple[Any, float]:
        """A call and its deadline in seconds, for a connection to send."""
        return self._calls.predict(self._model, query), self.timeout_seconds

    def status(self, most_seconds: float = math.inf) -> tuple[Any, float]:
        """As `predict`, for the state of the versions; the deadline has a limit of its own."""
        return self._calls.status(self._model), min(self.timeout_seconds, most_seconds)

    def metadata(self) -> tuple[Any, float]:
        """As `predict`, for the signatures."""
        return self._calls.metadata(self._model), self.timeout_seconds

    def until_ready(self, timeout_seconds: float) -> dict[str, Any]:
        """Arguments of tenacity's loops that ask until a version is available."""
        return tries_again(
            lambda error: error.code in _NOT_YET,
            timeout_seconds,
            wait=tenacity.wait_fixed(_POLL_SECONDS),
        )

    def require_available(self, statuses: Sequence[VersionStatus]) -> None:
        """Raise `QueryError` unless one of the versions is available."""
        if not any(status.state == AVAILABLE for status in statuses):
            states = ", ".join(f"{s.version} {s.state} {s.message}".rstrip() for s in statuses)
            raise QueryError(
                f"{self.target} is up, but no version of {self._model.name!r} is available: "
                f"{states or 'there is none'}.",
                grpc.StatusCode.UNAVAILABLE,
            )


def _check(target: Any, timeout_seconds: Any) -> None:
    if not isinstance(target, str):
        raise ValueError(f"`target` must be text, as 127.0.0.1:8500. Received: {target!r}.")
    is_number = isinstance(timeout_seconds, numbers.Real)
    if not is_number or not timeout_seconds > 0:
        raise ValueError(f"`timeout_seconds` must be > 0. Received: {timeout_seconds!r}.")
