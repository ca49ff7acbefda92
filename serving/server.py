"""The local server: `kdsr serve`.

For development, tests and small installations. It speaks TF Serving's gRPC and REST
protocols, so that a client cannot tell them apart. Both are adapters over one
`serving.predictor.Predictor`, in one event loop; batches are computed on other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

import grpc

from kdsr_tf.errors import KDSRError
from serving import tls
from serving.batching import Batcher
from serving.client import ADDRESS_FILE
from serving.crowding import Crowding
from serving.grpc_services import GrpcServices, grpc_options, most_calls
from serving.health import Health
from serving.http_server import HttpServer
from serving.internals import ReceivedCalls
from serving.listener import BoundedListener, allow_more_descriptors, most_connections
from serving.metrics import Metrics
from serving.predictor import Predictor
from serving.rest import RestService
from serving.starting import StartingFile
from serving.versioned_model import VersionedModel, log

if TYPE_CHECKING:
    from kdsr_tf.config import Config
    from kdsr_tf.config.serving_sections import ServeConfig

_START_POLL_SECONDS = 0.01
_WATCH_SECONDS = 0.05
_TAKEN = (
    "the port is taken, or the address is not one of this machine's. "
    "Stop what listens there, or choose another port (0 is any free one)."
)


class Server:
    """A server of one model, in a thread of its own; `folder` holds a numbered folder per version.

    Attributes:
        model: The versions.
        target: Address of gRPC once started, `host:port`.
        rest_url: Address of REST once started, `http://host:port`; None where it is off.
    """

    def __init__(self, folder: str, options: ServeConfig) -> None:
        self._options = options
        self._metrics = Metrics(options.model_name)
        self.model = VersionedModel(
            folder,
            options.model_name,
            self._metrics,
            options.num_versions,
            options.version_labels,
            options.poll_seconds,
        )
        self.target = ""
        self.rest_url: str | None = None
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> None:
        """Take the ports, load the newest version, then answer.

        Raises:
            KDSRError: if no version can be loaded, a port is taken or a certificate is bad.
        """
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Refuse new calls, let those under way finish, stop."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                log.exception("the server has ended")
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        options = self._options
        credentials = tls.grpc_credentials(options)
        batcher = Batcher(
            options.max_batch_size,
            options.max_batch_elements,
            options.batch_timeout_ms,
            options.queue_rows,
            options.queue_elements,
            options.batch_threads,
            self._metrics,
        )
        predictor = Predictor(self.model, batcher)
        async with contextlib.AsyncExitStack() as running:
            running.push_async_callback(batcher.stop)
            running.callback(self.model.stop)
            health = Health()
            crowding = Crowding(most_calls(options), options.queue_rows)
            services = GrpcServices(
                predictor, health, crowding, self._metrics, options.rest_timeout_seconds
            )
            grpc_server = self._grpc_server(services, credentials)
            watching = asyncio.create_task(_watch(ReceivedCalls(), crowding, self._metrics))
            running.callback(watching.cancel)
            running.push_async_callback(grpc_server.stop, None)
            listener = self._rest_listener(running)
            await asyncio.to_thread(self.model.start)
            await grpc_server.start()
            rest_server = self._rest_server(predictor)
            rest = asyncio.create_task(_answer(rest_server, listener))
            while listener is not None and not rest_server.started and not rest.done():
                await asyncio.sleep(_START_POLL_SECONDS)
            if rest.done():
                rest.result()
            self._ready.set_result(None)
            await self._stopping.wait()
            rest_server.should_exit = True
            health.stop()
            await asyncio.gather(rest, grpc_server.stop(options.drain_seconds))

    def _grpc_server(
        self, services: GrpcServices, credentials: grpc.ServerCredentials | None
    ) -> grpc.aio.Server:
        options = self._options
        server = grpc.aio.server(options=grpc_options(options))
        server.add_generic_rpc_handlers(services.handlers())
        address = _address(options.host, options.grpc_port)
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise _cannot_listen(address, "grpc_port") from error
        self.target = _address(options.host, port)
        return server

    def _rest_listener(self, running: contextlib.AsyncExitStack) -> socket.socket | None:
        """A socket that has its port and does not listen yet."""
        options = self._options
        if options.rest_port is None:
            return None
        try:
            family = socket.getaddrinfo(options.host, None, type=socket.SOCK_STREAM)[0][0]
            listener = running.enter_context(
                BoundedListener(most_connections(), self._metrics, family)
            )
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((options.host, options.rest_port))
        except OSError as error:
            address = _address(options.host, options.rest_port)
            raise _cannot_listen(address, "rest_port") from error
        scheme = "http" if options.tls_certificate is None else "https"
        self.rest_url = f"{scheme}://{_address(options.host, listener.getsockname()[1])}"
        return listener

    def _rest_server(self, predictor: Predictor) -> HttpServer:
        options = self._options
        service = RestService(
            predictor, self._metrics, options.max_request_bytes, options.rest_timeout_seconds
        )
        return HttpServer(options, service.application(), self._metrics)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cannot_listen(address: str, key: str) -> KDSRError:
    return KDSRError(f"Cannot listen at {address} (`serve.host`, `serve.{key}`): {_TAKEN}")


async def _watch(received: ReceivedCalls, crowding: Crowding, metrics: Metrics) -> None:
    """Look again and again how many calls there are."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        metrics.pending_calls.set(crowding.look(received.number(), time.monotonic()))


async def _answer(server: HttpServer, listener: socket.socket | None) -> None:
    if listener is None:
        return
    try:
        await server.serve([listener])
    except OSError as error:  # Another took the port too, while neither listened.
        raise _cannot_listen(_address(*listener.getsockname()[:2]), "rest_port") from error


def serve(config: Config, starting: StartingFile | None = None) -> None:
    """Serve the exported model until SIGTERM or SIGINT.

    The addresses are printed when the server is ready. With a port of 0 they lie in
    `server.json` of the working directory while the server runs. `starting` has said what this
    process does so far.

    Raises:
        KDSRError: if there is nothing to serve, a port is taken or `workdir` is no local path.
    """
    if "://" in config.workdir:
        raise KDSRError(
            "The local server reads a local folder. Received: "
            f"workdir={config.workdir}. Copy `serving_model/` here, or use TF Serving."
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    allow_more_descriptors()
    options = config.serve
    folder = os.path.join(config.run_directory, "serving_model", options.variant)
    server = Server(folder, options)
    stopping = threading.Event()
    with _on_signal(stopping), starting or StartingFile(config.run_directory) as starting:
        starting.say(f"loading the newest version in {folder}")
        # What was imported stays: later collections pass over it, and stop calls for less time.
        gc.collect()
        gc.freeze()
        server.start()
        with _announced(config, server):
            starting.remove()
            log.info(
                "%s (%s) is served at %s (gRPC) and %s (REST)",
                options.model_name,
                options.variant,
                server.target,
                server.rest_url or "nowhere",
            )
            try:
                stopping.wait()
            finally:
                log.info("draining")
                server.stop()


@contextlib.contextmanager
def _announced(config: Config, server: Server) -> Iterator[None]:
    """`server.json` while a server runs at a port nobody knows; given ports need none."""
    if config.serve.grpc_port and config.serve.rest_port != 0:
        yield
        return
    path = os.path.join(config.run_directory, ADDRESS_FILE)
    address = {
        "target": server.target,
        "rest_url": server.rest_url,
        "model_name": config.serve.model_name,
        "pid": os.getpid(),
    }
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(address, file)
    os.replace(f"{path}.new", path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def _on_signal(event: threading.Event) -> Iterator[None]:
    """Set an event on SIGTERM and SIGINT; the handlers before come back afterwards."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
