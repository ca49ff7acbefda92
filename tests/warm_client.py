"""Stands for Python: has `warm_server.py` fork what the arguments say; see `warm.python`."""

import marshal
import os
import signal
import socket
import sys


def main() -> int:
    """Run the arguments to their end; the exit status, negative for a signal."""
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))
    with open(os.path.join(folder, "started"), "rb") as file:
        python, defaults, imported = marshal.load(file)
    asked = sys.argv[1:]
    if not asked or asked[0] not in ("-c", "-m", os.path.abspath(asked[0])):
        os.execv(python, [python, *asked])
    if any(os.environ.get(k, defaults[k]) != value for k, value in imported.items()):
        os.execv(python, [python, *asked])
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    held = [number for number in numbers if number < 3 or _is_inherited(number)]
    request = marshal.dumps((asked, os.getcwd(), dict(os.environ), held))
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.path.join(folder, "socket"))
        socket.send_fds(server, [len(request).to_bytes(8, "big")], held)
        server.sendall(request)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        answer = server.recv(8)
    return int.from_bytes(answer, "big", signed=True) if answer else 1


def _is_inherited(number: int) -> bool:
    """Whether the file came with the start of this process: what Python opens ends with `exec`."""
    try:
        return os.get_inheritable(number)
    except OSError:  # the listing of the folder itself
        return False


if __name__ == "__main__":
    status = main()
    if status < 0:
        if -status != signal.SIGKILL:  # whose action cannot be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
