"""Python processes of the tests that need not import TensorFlow again.

`python()` takes the arguments of Python: `-c`, `-m` or a file. What it starts is a fork of one
server (`warm_server.py`), which has imported what the product imports and done nothing else. The
fork has the arguments, environment, folder and open files of its caller, gets the caller's
signals, and ends with it. A start takes a hundredth of the seconds of processor time that imports
take.

Tests of the start itself (imports, threads, packages, other backends) use `sys.executable`.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from filelock import FileLock

FOLDER = "KDSR_TESTS_WARM"
"""Names the folder that the processes of pytest share."""

_HERE = pathlib.Path(__file__).parent
_held: list[socket.socket] = []
_started: list[subprocess.Popen] = []


def set_up() -> bool:
    """Choose the folder, unless another process of pytest has; nothing is started yet."""
    if FOLDER in os.environ:
        return False
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="warm-")
    return True


def tear_down(made: bool) -> None:
    """Let the server go, and the folder where this process has `made` it.

    Who has started the server waits for its end, so that its time counts as that of the tests.
    """
    for connection in _held:
        connection.close()
    for server in _started:
        server.wait()
    if made:
        shutil.rmtree(os.environ.pop(FOLDER))


def python() -> str:
    """A program that stands for `sys.executable`; its server is started once."""
    folder = pathlib.Path(os.environ[FOLDER])
    program = folder / "python"
    if not _held:
        with FileLock(folder / "lock"):
            if not _hold(folder):
                client = (_HERE / "warm_client.py").read_text()
                program.write_text(f"#!{sys.executable} -IS\n{client}")
                program.chmod(0o755)
                _start_server(folder)
    return str(program)


def _hold(folder: pathlib.Path) -> bool:
    """Keep the server, which ends when nobody holds it; whether there is one."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / "socket"))
        connection.sendall(bytes(8))
    except OSError:
        connection.close()
        return False
    _held.append(connection)
    return True


def _start_server(folder: pathlib.Path) -> None:
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(_HERE / "warm_server.py"), str(folder)],
            cwd=_HERE.parent,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _started.append(server)
    while not _hold(folder):
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
