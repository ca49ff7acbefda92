"""Small real servers, gRPC and HTTP, that fail as they are told."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc

from kdsr_tf import schema
from serving import wire_pb2 as wire
from serving.rest_calls import CODES

ANSWER = [[0.5, 0.25]]


@dataclasses.dataclass
class Plan:
    """What a server does.

    Args:
        failures: Calls that fail before one succeeds.
        code: Status of those.
        hangs: Whether calls get no whole answer.
        body: Body of an HTTP answer; None is the right one.
        retry_after: Header of an HTTP failure.
    """

    failures: int = 0
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    hangs: bool = False
    body: bytes | None = None
    retry_after: str | None = None
    calls: int = 0
    peers: set[str] = dataclasses.field(default_factory=set)
    ended: threading.Event = dataclasses.field(default_factory=threading.Event)

    def fails(self, peer: str) -> bool:
        self.calls += 1
        self.peers.add(peer)
        return self.calls <= self.failures


@contextlib.contextmanager
def grpc_server(plan: Plan, tls: dict[str, str] | None = None) -> Iterator[str]:
    """Answers any method as `embed` would; yields its target."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if plan.fails(context.peer()):
            context.abort(plan.code, "on purpose")
        if plan.hangs:
            plan.ended.wait()
        tensor = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=ANSWER[0])
        tensor.tensor_shape.dim.add(size=1)
        tensor.tensor_shape.dim.add(size=2)
        return wire.PredictResponse(outputs={schema.EMBEDDING: tensor}).SerializeToString()

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    if tls:
        key, certificate, authority = (
            open_bytes(tls[n]) for n in ("key", "certificate", "authority")
        )
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        plan.ended.set()
        server.stop(None).wait()


@contextlib.contextmanager
def http_server(plan: Plan, tls: dict[str, str] | None = None) -> Iterator[str]:
    """The same over REST."""
    statuses = {code: status for status, code in reversed(CODES.items())}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            failed = plan.fails(str(self.client_address))
            answer = {"error": "on purpose"} if failed else {"outputs": ANSWER}
            body = plan.body or json.dumps(answer).encode()
            self.send_response(statuses[plan.code] if failed else 200)
            self.send_header("Content-Length", str(len(body) + 10**6 * plan.hangs))
            if failed and plan.retry_after:
                self.send_header("Retry-After", plan.retry_after)
            self.end_headers()
            # Bytes now and then keep a timeout between two of them from ending the call.
            while plan.hangs and not plan.ended.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls["authority"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(tls["certificate"], tls["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        plan.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def open_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
