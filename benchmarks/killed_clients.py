"""Clients that are killed, one a second, until this process is told to stop.

    python -m benchmarks.killed_clients GRPC_TARGET REST_URL MODEL_NAME ITEM_ID...

Each is a process of its own with calls under way and half a REST request sent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from serving.client import Client

_LIVE_SECONDS = 0.7
_PAUSE_SECONDS = 0.3
_BETWEEN_CALLS_SECONDS = 0.02


def ask(target: str, rest_url: str, model_name: str, items: list[str]) -> None:
    """Ask until killed, or until there is nobody to do it."""
    parent = os.getppid()
    host, _, port = rest_url.partition("//")[2].rpartition(":")
    half = socket.create_connection((host, int(port)))
    head = f"POST /v1/models/{model_name}:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{{"
    half.sendall(head.encode())
    with Client(target, model_name) as client:
        while os.getppid() == parent:
            client.recommend([items])
            time.sleep(_BETWEEN_CALLS_SECONDS)


def main() -> None:
    """Start clients and kill them. gRPC allows forks of a process that has no channel."""
    target, rest_url, model_name, *items = sys.argv[1:]
    while True:
        child = os.fork()
        if child == 0:
            try:
                ask(target, rest_url, model_name, items)
            finally:
                os._exit(0)
        time.sleep(_LIVE_SECONDS)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
