"""Imports what the product imports, then forks for `warm_client.py`; see `warm.python`.

    python tests/warm_server.py FOLDER

It ends when no process of pytest holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import marshal
import os
import pathlib
import runpy
import selectors
import signal
import socket
import sys
import threading
import types
from typing import NamedTuple

MODULES = (
    "kdsr_tf.cli.main",
    "kdsr_tf.evaluation.evaluate",
    "kdsr_tf.export.publish",
    "kdsr_tf.report.report_page",
    "kdsr_tf.teacher.teach",
    "kdsr_tf.training.fit",
    "beam_pipelines.distill",
    "beam_pipelines.encode",
    "beam_pipelines.prepare",
    "scann",
    "serving.server",
    "tensorboard.plugins.projector",
    "tensorboard.summary",
)
READ_BY_IMPORTS = {
    "KERAS_BACKEND": "tensorflow",
    "OMP_NUM_THREADS": "",
    "OPENBLAS_NUM_THREADS": "",
    "PYTHONHASHSEED": "",
    "PYTHONWARNINGS": "",
    "TF_ENABLE_ONEDNN_OPTS": "",
    "TF_USE_LEGACY_KERAS": "",
}
"""Variables that come too late for a fork, with their defaults: others need another start."""


class Request(NamedTuple):
    """What a client asks for: the process that it would be."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    numbers: list[int]
    files: list[int]


class Server:
    """Forks for every client; it ends when nobody holds it and nothing runs."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / "socket.new"))
        self._listening.listen(100)
        os.rename(folder / "socket.new", folder / "socket")
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)

    def serve(self) -> Request:
        """Only a fork returns, with what it is to do."""
        while True:
            # Who has started it may be gone before it listens.
            for key, _ in self._selector.select(60):
                if key.fileobj is self._listening:
                    request = self._fork()
                    if request is not None:
                        return request
                elif isinstance(key.fileobj, int):
                    self._end(key.fileobj, *key.data)
                else:
                    self._signal(key.fileobj, key.data)
            if len(self._selector.get_map()) == 1:
                os._exit(0)

    def _fork(self) -> Request | None:
        """A request in the fork, nothing in the server."""
        connection, _ = self._listening.accept()
        request = _receive(connection)
        process = os.fork() if request else None
        if process == 0:
            for opened in (connection, *(k.fileobj for k in self._selector.get_map().values())):
                os.close(opened if isinstance(opened, int) else opened.detach())
            self._selector.close()
            return request
        if request:
            for number in request.files:
                os.close(number)
            ended = os.pidfd_open(process)
            self._selector.register(ended, selectors.EVENT_READ, (process, connection))
        self._selector.register(connection, selectors.EVENT_READ, process)
        return None

    def _end(self, ended: int, process: int, connection: socket.socket) -> None:
        _, status = os.waitpid(process, 0)
        self._selector.unregister(ended)
        os.close(ended)
        if connection.fileno() >= 0:
            self._selector.unregister(connection)
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                connection.send(code.to_bytes(8, "big", signed=True))
            connection.close()

    def _signal(self, connection: socket.socket, process: int | None) -> None:
        """Pass signals on; nothing to read means that the client or holder is gone."""
        if connection.fileno() < 0:  # its process has ended in this very moment
            return
        numbers = connection.recv(100)
        if not numbers:
            self._selector.unregister(connection)
            connection.close()
        if process is not None:
            for number in numbers or [signal.SIGKILL]:
                os.kill(process, number)


def _receive(connection: socket.socket) -> Request | None:
    """What a client asks for; nothing if it only holds the server."""
    size, files, _, _ = socket.recv_fds(connection, 8, 250)
    left, parts = int.from_bytes(size, "big"), []
    while left and (part := connection.recv(left)):
        parts.append(part)
        left -= len(part)
    if parts and not left:
        return Request(*marshal.loads(b"".join(parts)), files)
    for file in files:  # of a client that was killed while it asked
        os.close(file)
    return None


def run(request: Request, path: list[str]) -> None:
    """Be the process that was asked for."""
    # First out of the way of one another.
    high = [_moved(file) for file in request.files]
    for file, number in zip(high, request.numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    kind, *rest = request.arguments
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    first = {"-c": "", "-m": request.folder}.get(kind, os.path.dirname(kind))
    sys.path[:] = [first, *given, *path]
    sys.argv = [kind, *rest[0 if kind not in ("-c", "-m") else 1 :]]
    if kind == "-m":
        if not hasattr(sys.modules.get(rest[0]), "__path__"):
            sys.modules.pop(rest[0], None)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        runpy.run_path(kind, run_name="__main__")


def _moved(file: int) -> int:
    high = fcntl.fcntl(file, fcntl.F_DUPFD, 500)
    os.close(file)
    return high


def main(folder: pathlib.Path) -> None:
    """Import everything, and serve; a fork does what was asked of it."""
    path = sys.path[1:]
    sys.path[0] = os.getcwd()
    os.environ["COLUMNS"] = "200"  # of the console, which an import makes
    environment = importlib.import_module("kdsr_tf.runs.environment")
    environment.prepare()
    for name in MODULES:
        importlib.import_module(name)
    from tensorflow.python.eager import context

    assert context.context()._context_handle is None, "TensorFlow has started threads"
    imported = READ_BY_IMPORTS | {k: v for k, v in os.environ.items() if k in READ_BY_IMPORTS}
    (folder / "started").write_bytes(marshal.dumps((sys.executable, READ_BY_IMPORTS, imported)))
    sys.executable = str(folder / "python")
    gc.collect()
    gc.freeze()
    run(Server(folder).serve(), path)
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    environment.leave(0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
