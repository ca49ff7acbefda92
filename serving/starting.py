"""What a local server does before it is ready, for those who wait for it. No TensorFlow."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import NamedTuple

import psutil

STARTING_FILE = "server.starting.json"
"""In the run's folder from the first moment of a local server until it is ready or ends."""

log = logging.getLogger("kdsr.serving")


class Starting(NamedTuple):
    """A server that is not ready yet: its process, and what that does (`importing TensorFlow`).

    `created` is when the process was, in seconds since 1970: numbers of processes come back.
    """

    pid: int
    created: float
    doing: str

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.created and process.status() != "zombie"
        except psutil.NoSuchProcess:
            return False


class StartingFile:
    """Says what this process does until it serves: as a line of its log, and in a file.

    If the folder of the run cannot be written, only the lines are left.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, STARTING_FILE)
        self._created = psutil.Process().create_time()
        self._is_there = False

    def __enter__(self) -> StartingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def say(self, doing: str) -> None:
        """Replace what is said; `doing` reads well after "The server is"."""
        log.info("%s…", doing[0].upper() + doing[1:])
        with contextlib.suppress(OSError):
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                json.dump(Starting(os.getpid(), self._created, doing)._asdict(), file)
            os.replace(f"{self._path}.new", self._path)
            self._is_there = True

    def remove(self) -> None:
        """Remove the file: the server is ready, or has ended."""
        if self._is_there:
            self._is_there = False
            with contextlib.suppress(OSError):
                os.remove(self._path)


def find_starting(directory: str) -> Starting | None:
    """The live server of a run's folder that is not ready yet, if there is one."""
    try:
        with open(os.path.join(directory, STARTING_FILE), encoding="utf-8") as file:
            found = Starting(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.is_alive() else None
