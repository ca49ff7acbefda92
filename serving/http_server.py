"""uvicorn, as this server runs it."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from serving import tls
from serving.http_protocol import GuardedHttpProtocol, HttpLimits
from serving.metrics import Metrics

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig


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
