"""A web server on this machine that answers what a test says."""

from __future__ import annotations

import http.server
import ssl
import threading
from typing import Any

Answer = tuple[int, dict[str, str | None], bytes]
"""Status, headers (None leaves a usual one out) and body."""


def redirect(location: str) -> Answer:
    """An answer that leads elsewhere."""
    return 302, {"Location": location}, b""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's `answers` say: status, headers and body by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answers = self.server.answers[self.path]
        answer = answers.pop(0) if isinstance(answers, list) else answers
        status, headers, body = answer
        self.send_response(status)
        for name, value in (
            {"Content-Length": str(len(body)), "Connection": "close"} | headers
        ).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def serve(
    request: Any, answers: dict[str, Answer | list[Answer]], certificates: dict | None = None
) -> Any:
    """A running server with its address as `uri` and the paths it was asked for as `asked`.

    Args:
        request: Fixture of pytest; the server ends with the test.
        answers: By path; of a list each answer is given once.
        certificates: What `write_certificates` gives, for https.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked = answers, []
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["certificate"], certificates["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    request.addfinalizer(server.server_close)
    request.addfinalizer(server.shutdown)
    server.uri = f"http{'s' if certificates else ''}://127.0.0.1:{server.server_port}"
    return server
