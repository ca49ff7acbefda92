"""The versions of a model on disk, and the one that answers."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading

import grpc

from kdsr_tf.errors import KDSRError
from serving.model import RequestError, ServableModel

_MANIFEST = "manifest.json"
_SAVED_MODEL = "saved_model.pb"

log = logging.getLogger("kdsr.serving")


class NoModelError(KDSRError):
    """There is no version a server could load."""


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What became of a version.

    Args:
        version: Its number.
        state: `LOADING`, `AVAILABLE` or `END`, as in TF Serving.
        error: Why it could not be loaded; empty where it could.
    """

    version: int
    state: str
    error: str = ""


class VersionedModel:
    """Serves the newest loadable version of a folder and follows what appears there.

    A new version is loaded and warmed up before it takes over; calls under way finish on
    the old one. A version that cannot be loaded is reported and left alone until its
    files change, and the old one keeps answering. Where the newest version is removed, the
    newest of the rest takes over.

    Args:
        folder: Holds one numbered folder per version.
        name: Name clients ask for.
        poll_seconds: Time between two looks at the folder, > 0.
    """

    def __init__(self, folder: str, name: str, poll_seconds: float = 1.0) -> None:
        self.folder = folder
        self.name = name
        self._poll_seconds = poll_seconds
        self._current: ServableModel | None = None
        self._failed: dict[tuple[int, int], str] = {}
        self._retired: set[int] = set()
        self._loading: int | None = None
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> ServableModel:
        """Load the newest loadable version and begin to watch.

        Raises:
            NoModelError: if there is none.
        """
        while self._current is None and self.refresh():
            pass
        if self._current is None:
            reasons = "".join(f"\n  {v}: {why}" for (v, _), why in self._failed.items())
            raise NoModelError(
                f"{self.folder} holds no version that can be loaded{reasons or '.'}\n"
                "Run `kdsr export` first."
            )
        self._watcher.start()
        return self._current

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def find(self, name: str, version: int | None = None) -> ServableModel:
        """The version that answers a request.

        Raises:
            RequestError: NOT_FOUND for another model or version.
        """
        current = self._current
        if not name:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec name.")
        if name != self.name or current is None:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({name})"
            )
        if version is not None and version != current.version:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({name}, {version})",
            )
        return current

    def statuses(self) -> list[VersionStatus]:
        """Every version this server has met, newest first."""
        found = {version: VersionStatus(version, "END") for version in self._retired.copy()}
        for (version, _), why in self._failed.copy().items():
            found[version] = VersionStatus(version, "END", why)
        for version, state in (
            (self._loading, "LOADING"),
            (self._current and self._current.version, "AVAILABLE"),
        ):
            if version is not None:
                found[version] = VersionStatus(version, state)
        return sorted(found.values(), key=lambda status: -status.version)

    def refresh(self) -> bool:
        """Look at the folder once; returns whether a load was tried."""
        on_disk = [found for found in self._on_disk() if found not in self._failed]
        if not on_disk:
            return False
        version, changed = max(on_disk)
        if self._current is not None and version == self._current.version:
            return False
        self._loading = version
        try:
            model = ServableModel(os.path.join(self.folder, str(version)), version)
            played = model.warm_up()
        except Exception as error:
            # Whatever is wrong with one version must not end the server.
            self._failed[version, changed] = f"{type(error).__name__}: {error}"
            log.error("version %d cannot be loaded: %s", version, error)
            return True
        finally:
            self._loading = None
        if self._current is not None:
            self._retired.add(self._current.version)
        self._retired.discard(version)
        self._current = model
        log.info("%s: version %d answers (%d warm-up requests)", self.name, version, played)
        return True

    def _on_disk(self) -> list[tuple[int, int]]:
        """Whole versions and when their graph was written, in nanoseconds."""
        found = []
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
            folder = os.path.join(self.folder, name)
            if name.isdecimal() and os.path.exists(os.path.join(folder, _MANIFEST)):
                try:
                    changed = os.stat(os.path.join(folder, _SAVED_MODEL)).st_mtime_ns
                except FileNotFoundError:
                    continue
                found.append((int(name), changed))
        return found

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            try:
                self.refresh()
            except OSError as error:
                log.error("cannot read %s: %s", self.folder, error)
