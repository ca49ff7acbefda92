"""Connections to a server: gRPC and REST, for threads and for asyncio.

Each sends one kind of call and answers it by its deadline, or raises a `QueryError`. A call
is tried again, with backoff, only where the server was unavailable, and never beyond its
deadline. gRPC does so itself, by its service configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import random
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import httpx2
import tenacity
from anyio.from_thread import start_blocking_portal

from serving.grpc_calls import MODEL_SERVICE, PREDICTION_SERVICE, GrpcCall
from serving.queries import QueryError
from serving.rest_calls import CODES, RestCall
from serving.tls import read_file

T = TypeVar("T")

_ATTEMPTS = 4
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 1.0
_LONGEST_REASON = 500
_BACKOFF = tenacity.wait_random_exponential(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)

_SERVICE_CONFIG = {
    # Of several addresses behind one name, such as the pods of a service, each gets its share.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": PREDICTION_SERVICE}, {"service": MODEL_SERVICE}],
            "retryPolicy": {
                "maxAttempts": _ATTEMPTS,
                "initialBackoff": f"{_FIRST_BACKOFF_SECONDS}s",
                "maxBackoff": f"{_LONGEST_BACKOFF_SECONDS}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
_CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A refused connection is tried again within the time of the attempts above.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
]


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files of an encrypted connection, all PEM.

    Args:
        root_certificates: Authorities the server's certificate is checked against; None is
            the system's for REST and gRPC's own for gRPC.
        certificate: The client's certificate, where the server asks for one.
        key: Its private key.
    """

    root_certificates: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError(
                "`certificate` and `key` belong together. "
                f"Received: certificate={self.certificate}, key={self.key}."
            )


def tries_again(predicate: Callable[[QueryError], bool], seconds: float, **options: Any) -> dict:
    """Arguments of tenacity's loops, of threads and of asyncio alike.

    `predicate` says whether an error is worth another attempt; none starts later than `seconds`
    after the first. `options` are further arguments; `stop` adds to that limit.
    """
    stop = tenacity.stop_before_delay(seconds)
    return {
        "retry": tenacity.retry_if_exception(
            lambda error: isinstance(error, QueryError) and predicate(error)
        ),
        "reraise": True,
        **options,
        "stop": stop | options["stop"] if "stop" in options else stop,
    }


class GrpcConnection:
    """A gRPC channel, for threads, to `host:port`; `tls=None` is an unencrypted connection."""

    def __init__(self, target: str, tls: Tls | None = None) -> None:
        self._target = target
        self._channel = _open(grpc, target, tls)

    def send(self, call: GrpcCall[T], seconds: float) -> T:
        """The answer to a call, within some seconds."""
        try:
            response = _method(self._channel, call)(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise _grpc_error(self._target, call, error, seconds) from error
        return call.read(response)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncGrpcConnection:
    """A gRPC channel, for asyncio; see `GrpcConnection`."""

    def __init__(self, target: str, tls: Tls | None = None) -> None:
        self._target = target
        self._channel = _open(grpc.aio, target, tls)

    async def send(self, call: GrpcCall[T], seconds: float) -> T:
        """The answer to a call, within some seconds."""
        try:
            response = await _method(self._channel, call)(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise _grpc_error(self._target, call, error, seconds) from error
        return call.read(response)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class AsyncRestConnection:
    """A pool of HTTP connections, for asyncio; `url` has a path where a gateway has one."""

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        self._url = url
        # The deadline of a call bounds all it does; HTTP's timeouts bound its parts only.
        self._http = httpx2.AsyncClient(
            base_url=url, verify=_ssl_context(tls) if tls else True, timeout=None
        )

    async def send(self, call: RestCall[T], seconds: float) -> T:
        """The answer to a call, within some seconds."""
        attempts = tenacity.AsyncRetrying(
            **tries_again(
                lambda error: error.code is grpc.StatusCode.UNAVAILABLE,
                seconds,
                stop=tenacity.stop_after_attempt(_ATTEMPTS),
                wait=_seconds_until_next,
            )
        )
        try:
            async with asyncio.timeout(seconds):
                response: Any = await attempts(self._once, call)
        except TimeoutError as error:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise _error(self._url, call.path, code, "", seconds) from error
        return call.read(response)

    async def _once(self, call: RestCall[T]) -> Any:
        try:
            response = await self._http.request(call.verb, call.path, content=call.body)
        except (httpx2.TransportError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            code = grpc.StatusCode.UNAVAILABLE
            raise _error(self._url, call.path, code, reason) from error
        if response.status_code != httpx2.codes.OK:
            code = CODES.get(response.status_code, grpc.StatusCode.UNKNOWN)
            hint = response.headers.get("retry-after", "")
            raise _error(
                self._url,
                call.path,
                code,
                _reason(response),
                retry_seconds=float(hint) if hint.isdecimal() else 0.0,
            )
        try:
            return response.json()
        except ValueError as error:
            reason = f"the answer is no JSON: {_reason(response)}"
            raise _error(self._url, call.path, grpc.StatusCode.UNKNOWN, reason) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class RestConnection:
    """A pool of HTTP connections, for threads; see `AsyncRestConnection`.

    It runs that one on a thread of its own, because a deadline over a whole call, with its
    connection and all it reads, exists for asyncio only.
    """

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        with contextlib.ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._connection = self._portal.call(AsyncRestConnection, url, tls)
            stack.callback(self._portal.call, self._connection.close)
            self._stack = stack.pop_all()

    def send(self, call: RestCall[T], seconds: float) -> T:
        """The answer to a call, within some seconds."""
        return self._portal.call(self._connection.send, call, seconds)

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._stack.close()


def _seconds_until_next(state: tenacity.RetryCallState) -> float:
    """Backoff, or about what the server asks for: not all callers should come at once."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(error, "retry_seconds", 0.0) * random.uniform(0.5, 1.5)
    return max(asked, _BACKOFF(state))


def _open(library: Any, target: str, tls: Tls | None) -> Any:
    if tls is None:
        return library.insecure_channel(target, options=_CHANNEL_OPTIONS)
    return library.secure_channel(target, channel_credentials(tls), options=_CHANNEL_OPTIONS)


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """The files of an encrypted connection, as gRPC takes them."""
    return grpc.ssl_channel_credentials(
        read_file(tls.root_certificates), read_file(tls.key), read_file(tls.certificate)
    )


def _ssl_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.root_certificates)
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context


def _method(channel: Any, call: GrpcCall[T]) -> Any:
    return channel.unary_unary(
        call.method,
        request_serializer=type(call.request).SerializeToString,
        response_deserializer=call.response.FromString,
    )


def _grpc_error(target: str, call: GrpcCall, error: grpc.RpcError, seconds: float) -> QueryError:
    return _error(target, call.method, error.code(), error.details(), seconds)


def _reason(response: httpx2.Response) -> str:
    """TF Serving's `error`, or what a proxy in between says."""
    try:
        return response.json()["error"]
    except (ValueError, TypeError, KeyError):
        return response.text[:_LONGEST_REASON]


def _error(
    target: str,
    what: str,
    code: grpc.StatusCode,
    reason: str | None,
    seconds: float = 0,
    retry_seconds: float = 0.0,
) -> QueryError:
    remedy = {
        grpc.StatusCode.UNAVAILABLE: "Is `kdsr serve` or TF Serving running there?",
        grpc.StatusCode.DEADLINE_EXCEEDED: f"No answer within {seconds:g} s.",
        grpc.StatusCode.NOT_FOUND: "Does the server know this model and version?",
    }.get(code, "")
    said = f": {reason}." if reason else "."
    message = f"{what} at {target} failed with {code.name}{said} {remedy}".rstrip()
    return QueryError(message, code, retry_seconds)
