"""Why a request gets an error, whatever protocol it came by."""

from __future__ import annotations

import random

import grpc

_RETRY_SECONDS = 1.0


class RequestError(Exception):
    """A request that gets an error status: gRPC's, which REST maps to its own.

    `retry_seconds` says when the same request is worth another attempt; None is never.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_seconds = retry_seconds


def invalid(message: str) -> RequestError:
    """A request that is wrong whenever it is sent."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def unavailable(message: str) -> RequestError:
    """A request that this server has no room for now; the hint to retry differs by caller."""
    seconds = _RETRY_SECONDS * random.uniform(0.5, 1.5)
    return RequestError(grpc.StatusCode.UNAVAILABLE, message, seconds)


def full() -> RequestError:
    """A request that the queue has no room for."""
    return unavailable("The batch scheduling queue to which this task was submitted is full")


def not_found(message: str) -> RequestError:
    """A request for a model or version that is not here."""
    return RequestError(grpc.StatusCode.NOT_FOUND, message)
