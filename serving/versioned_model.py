"""The versions of a model on disk, and those that answer."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from typing import NamedTuple

from tensorflow_serving.apis import model_pb2

from kdsr_tf.errors import KDSRError
from serving.metrics import Metrics
from serving.model import ServableModel
from serving.request_error import invalid, not_found

LARGEST_VERSION = 2**63 - 1

_MOST_DIGITS = 19
_MOST_LOOKS_FOR_MEMORY = 60
_MANIFEST = "manifest.json"
_SAVED_MODEL = "saved_model.pb"

log = logging.getLogger("kdsr.serving")


class NoModelError(KDSRError):
    """There is no version a server could load."""


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What became of a version: `LOADING`, `AVAILABLE` or `END`, as in TF Serving.

    `error` says why it could not be loaded; it is empty where it could.
    """

    version: int
    state: str
    error: str = ""


class _Failure(NamedTuple):
    """Why a version could not be loaded, and the files it had then."""

    files: frozenset[tuple[str, int, int]]
    why: str


class VersionedModel:
    """Serves versions of a folder and follows what appears there.

    The newest versions are loaded, and those a label names. A request that names no
    version is answered by the newest loaded one.

    A new version is loaded and warmed up before one it replaces is dropped; calls under
    way finish on the old one, whose memory goes with the last of them. A version that
    cannot be loaded is reported and left alone until its files change, and the old ones
    keep answering. Where the newest version is removed, the newest of the rest takes over.

    Args:
        folder: Holds one numbered folder per version.
        name: Name clients ask for.
        metrics: Told which versions are loaded.
        num_versions: Newest versions kept loaded, >= 1.
        labels: Version numbers by label.
        poll_seconds: Time between two looks at the folder, > 0.
    """

    def __init__(
        self,
        folder: str,
        name: str,
        metrics: Metrics,
        num_versions: int = 1,
        labels: Mapping[str, int] | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        self.folder = folder
        self.name = name
        self._metrics = metrics
        self._num_versions = num_versions
        self._labels = dict(labels or {})
        self._poll_seconds = poll_seconds
        # Replaced, never changed: another thread reads them.
        self._loaded: dict[int, ServableModel] = {}
        self._failed: dict[int, _Failure] = {}
        self._retired: set[int] = set()
        self._loading: int | None = None
        # Models that have been dropped and may still have memory, and looks left for each.
        self._dropped: dict[weakref.ref[ServableModel], int] = {}
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Load what can be loaded and begin to watch; `NoModelError` if there is nothing."""
        while self.refresh():
            pass
        if not self._loaded:
            reasons = "".join(f"\n  {v}: {f.why}" for v, f in self._failed.items())
            raise NoModelError(
                f"{self.folder} holds no version that can be loaded{reasons or '.'}\n"
                "Run `kdsr export` first."
            )
        self._watcher.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def wanted_version(self, spec: model_pb2.ModelSpec) -> int | None:
        """The version a request names by number or label; None where it names none.

        NOT_FOUND for another model, INVALID_ARGUMENT for no name or an unknown label.
        """
        if not spec.name:
            raise invalid("Missing ModelSpec name.")
        if spec.name != self.name:
            raise not_found(f"Servable not found for request: Latest({spec.name})")
        if spec.HasField("version_label"):
            if spec.version_label not in self._labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return self._labels[spec.version_label]
        return spec.version.value if spec.HasField("version") else None

    def find(self, spec: model_pb2.ModelSpec) -> ServableModel:
        """The version that answers a request; as `wanted_version`, and NOT_FOUND for one not
        loaded."""
        loaded = self._loaded
        version = self.wanted_version(spec)
        if version is None:
            return loaded[max(loaded)]
        if version not in loaded:
            raise not_found(f"Servable not found for request: Specific({spec.name}, {version})")
        return loaded[version]

    def statuses(self) -> list[VersionStatus]:
        """Every version this server has met, newest first."""
        found = {version: VersionStatus(version, "END") for version in self._retired.copy()}
        for version, failure in self._failed.items():
            found[version] = VersionStatus(version, "END", failure.why)
        loading = self._loading
        if loading is not None:
            found[loading] = VersionStatus(loading, "LOADING")
        for version in self._loaded:
            found[version] = VersionStatus(version, "AVAILABLE")
        return sorted(found.values(), key=lambda status: -status.version)

    def refresh(self) -> bool:
        """Look at the folder once; returns whether a load was tried."""
        self._free_dropped()
        on_disk = {
            version: folder
            for version, folder in self._on_disk().items()
            if not self._is_known_to_fail(version, folder)
        }
        newest = sorted(on_disk, reverse=True)[: self._num_versions]
        wanted = {*newest, *(v for v in self._labels.values() if v in on_disk)}
        missing = wanted - set(self._loaded)
        if missing:
            self._load(max(missing), on_disk[max(missing)])
            return True
        if wanted and wanted != set(self._loaded):
            gone = set(self._loaded) - wanted
            self._retired |= gone
            for version in gone:
                self._dropped[weakref.ref(self._loaded[version])] = _MOST_LOOKS_FOR_MEMORY
            self._set_loaded({version: self._loaded[version] for version in wanted})
        return False

    def _free_dropped(self) -> None:
        """Give the memory of dropped models back once no call is under way on them.

        A loaded SavedModel refers to itself, so that only Python's collector frees it, which a
        server that makes few objects may not call for a long time.
        """
        if self._dropped:
            gc.collect()
            looks = self._dropped.items()
            self._dropped = {k: n - 1 for k, n in looks if k() is not None and n > 1}

    def _load(self, version: int, folder: str) -> None:
        self._loading = version
        files = _files(folder)
        try:
            model = ServableModel(folder, version)
            played = model.warm_up()
        except Exception as error:
            # Whatever is wrong with one version must not end the server.
            why = f"{type(error).__name__}: {error}"
            self._failed = {**self._failed, version: _Failure(files, why)}
            self._metrics.failed_loads.inc()
            log.error("version %d cannot be loaded: %s", version, error)
            return
        finally:
            self._loading = None
        self._retired.discard(version)
        self._failed = {v: failure for v, failure in self._failed.items() if v != version}
        self._set_loaded({**self._loaded, version: model})
        log.info("%s: version %d answers (%d warm-up requests)", self.name, version, played)

    def _set_loaded(self, loaded: dict[int, ServableModel]) -> None:
        self._loaded = loaded
        self._metrics.set_versions(loaded)

    def _on_disk(self) -> dict[int, str]:
        """The folders of whole versions.

        As TF Serving has it, `007` is version 7 where there is no `7`, and a name that is no
        whole number of 64 bits is no version.
        """
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        found = {}
        for name in sorted(names, key=len, reverse=True):  # of equal numbers the shortest wins
            folder = os.path.join(self.folder, name)
            if name.isascii() and name.isdecimal() and _is_version(folder):
                digits = name.lstrip("0") or "0"
                if len(digits) <= _MOST_DIGITS and int(digits) <= LARGEST_VERSION:
                    found[int(digits)] = folder
        return found

    def _is_known_to_fail(self, version: int, folder: str) -> bool:
        return version in self._failed and self._failed[version].files == _files(folder)

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_seconds):
            try:
                while self.refresh():
                    pass
            except OSError as error:
                log.error("cannot read %s: %s", self.folder, error)


def _is_version(folder: str) -> bool:
    return all(os.path.exists(os.path.join(folder, name)) for name in (_MANIFEST, _SAVED_MODEL))


def _files(folder: str) -> frozenset[tuple[str, int, int]]:
    """Paths, times of change and sizes of all files."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                found.append((path, status.st_ctime_ns, status.st_size))
    return frozenset(found)
