"""Remote pictures kept on this machine between the two readings of a job.

`encode` reads a picture once to tell equal contents and once more to decode it, with a shuffle in
between through which no picture travels.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from tempfile import TemporaryDirectory

_LEAST_FREE = 0.2
"""Share of the disk that stays free."""


class KeptPictures:
    """Bytes of remote pictures in a folder of one job.

    On a worker that has no such folder, or whose disk is almost full, nothing is kept, and a
    picture is fetched again.

    Args:
        folder: Local folder.
    """

    def __init__(self, folder: str):
        self._folder = folder

    def keep(self, address: str, data: bytes) -> None:
        """Remember what is at an address, if there is room."""
        with contextlib.suppress(OSError):
            disk = shutil.disk_usage(self._folder)
            if disk.free - len(data) > _LEAST_FREE * disk.total:
                path = self._path(address)
                with open(f"{path}.{os.getpid()}", "wb") as file:
                    file.write(data)
                os.replace(file.name, path)

    def take(self, address: str) -> bytes | None:
        """What was kept of an address, which then is forgotten; None if there is nothing."""
        try:
            with open(self._path(address), "rb") as file:
                data = file.read()
            os.remove(file.name)
        except OSError:
            return None
        return data

    def _path(self, address: str) -> str:
        return os.path.join(self._folder, hashlib.sha256(address.encode()).hexdigest())


@contextlib.contextmanager
def keeping_pictures() -> Iterator[KeptPictures]:
    """Kept pictures until the block ends."""
    with TemporaryDirectory(prefix="kdsr-pictures-") as folder:
        yield KeptPictures(folder)
