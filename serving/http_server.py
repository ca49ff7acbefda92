"""uvicorn, as this server runs it, with bounds on what a connection may cost."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving import tls
from serving.metrics import Metrics

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig

_MOST_HEAD_BYTES = 1 << 19
_PART_BYTES = 1 << 12
_UPGRADE = re.compile(rb"(?<=\n)upgrade(?=[ \t]*:)", re.IGNORECASE)
_IGNORED = b"x-grade"
"""httptools drops the body of a request that offers another protocol, as those of Java's client do
(`Upgrade: h2c`). A name of the same length hides the offer; no JSON has a line that begins so."""


class HttpLimits(NamedTuple):
    """Bounds of a connection, and who is told what cannot be read.

    `idle_seconds` is the longest time without a whole request, `request_seconds` that for a request
    to arrive, to be answered, and for the answer to be taken.
    """

    idle_seconds: float
    request_seconds: float
    counts: Metrics


class _Flow(FlowControl):
    """Does not read on while the protocol has bytes left that it has not parsed."""

    def __init__(self, transport: asyncio.Transport, protocol: GuardedHttpProtocol) -> None:
        super().__init__(transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        if not self._protocol.unparsed:
            super().resume_reading()


class GuardedHttpProtocol(HttpToolsProtocol):
    """Ends connections that are silent, slow or endless, and parses no request too early.

    httptools keeps a request line, headers and trailers that do not end, and copies a long one
    with each part of it that arrives. uvicorn parses all requests that have arrived at once,
    before the first is answered: megabytes of short ones would stop the event loop for seconds.
    """

    def __init__(self, limits: HttpLimits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._alarm: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self.unparsed = bytearray()

    # The base class takes a transport of streams, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, not forever."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        self._end_after(self._limits.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all."""
        if self._alarm is not None:
            self._alarm.cancel()
        self.unparsed.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, up to a request that must wait for another's answer."""
        self.unparsed += data
        self.unparsed = bytearray(_UPGRADE.sub(_IGNORED, self.unparsed))
        self._parse()

    def on_headers_complete(self) -> None:
        """Count anew; the body has its own limits."""
        self._head_bytes = 0
        super().on_headers_complete()
        if not self.pipeline:
            self._end_after(self._limits.request_seconds)

    def on_body(self, body: bytes) -> None:
        """Count anew."""
        self._head_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on with the next request; of a connection that closes, the answer must be taken."""
        super().on_response_complete()
        limits = self._limits
        self._end_after(limits.request_seconds if self.pipeline else limits.idle_seconds)
        if self.unparsed and not self.pipeline:
            self.loop.call_soon(self._parse)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._limits.counts.malformed("rest", msg)
        self.unparsed.clear()
        super().send_400_response(msg)

    def _parse(self) -> None:
        while self.unparsed and not self.pipeline and not self.transport.is_closing():
            part = bytes(self.unparsed[:_PART_BYTES])
            del self.unparsed[:_PART_BYTES]
            self._head_bytes += len(part)
            super().data_received(part)
            if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too long.")
        if self.unparsed:
            self.flow.pause_reading()
        elif self.flow.read_paused and not self.pipeline:
            self.flow.resume_reading()

    def _end_after(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.loop.call_later(seconds, self.transport.abort)


class HttpServer(uvicorn.Server):
    """Serves an application on sockets that others have opened.

    It listens by itself, because uvicorn does not bound the time of a TLS handshake.
    """

    def __init__(self, options: ServeConfig, application: Starlette, counts: Metrics) -> None:
        self._idle_seconds = options.idle_seconds
        limits = HttpLimits(
            options.idle_seconds, 2 * options.rest_timeout_seconds + options.idle_seconds, counts
        )
        super().__init__(
            uvicorn.Config(
                application,
                # uvicorn calls it, as it would call the class.
                http=functools.partial(GuardedHttpProtocol, limits),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                log_level=logging.ERROR,  # a warning for each line that is no HTTP
                access_log=False,
                server_header=False,
                # uvicorn hands it to asyncio, which takes parts of a second.
                timeout_graceful_shutdown=options.drain_seconds,  # type: ignore[arg-type]
                **tls.http_options(options),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""

        def protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state={}
            )

        tls = self.config.ssl
        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=listener,
                ssl=tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=self._idle_seconds if tls else None,
            )
            for listener in sockets or []
        ]
        self.started = True
