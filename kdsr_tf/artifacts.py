"""Committed directories: a stage's output exists whole or not at all.

A stage writes into a new, uniquely named directory; `manifest.json` is written
last and is the commit mark. Readers refuse a directory without it. Local disks
rename the directory into place; object stores, where a rename is not atomic,
receive the files first and the manifest last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import posixpath
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.paths import copy_folder, remove_folder

MANIFEST = "manifest.json"

_PACKAGES = (
    "kdsr-tf",
    "tensorflow",
    "keras",
    "tensorflow-recommenders",
    "tensorflow-datasets",
    "apache-beam",
    "scann",
    "numpy",
)


@dataclasses.dataclass(kw_only=True)
class Manifest:
    """What a committed directory holds and how it came to be.

    Args:
        artifact: Name in the working directory, such as `features/text`.
        fingerprint: Hash of the configuration and of the inputs' fingerprints.
        config: The part of the configuration that the output depends on.
        inputs: Fingerprint of every input artifact or source.
        counts: Whole numbers worth keeping (rows, users, rejected rows).
        details: Anything else a reader needs (encoder digest, scale, metrics).
        files: Bytes of every file, by path below the directory.
        seconds: Wall time of the stage.
        versions: Versions of Python and of the packages that matter.
    """

    artifact: str
    fingerprint: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)


def fingerprint(payload: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON of `payload`."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages, without importing them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def join(base: str, *parts: str) -> str:
    """Join a local path or a URI with further parts."""
    return posixpath.join(base, *parts) if "://" in base else os.path.join(base, *parts)


def exists(path: str) -> bool:
    """Whether a local path or a URI exists."""
    filesystem, local = fsspec.core.url_to_fs(path)
    return filesystem.exists(local)


def find_files(directory: str, pattern: str) -> list[str]:
    """Files of a folder by name (`vectors-*.parquet`), sorted; none if there is no such folder.

    The folder, a local path or URI, is taken literally: brackets in it are no pattern.
    """
    filesystem, local = fsspec.core.url_to_fs(directory)
    found = sorted(filesystem.glob(f"{glob.escape(local.rstrip('/'))}/{pattern}"))
    return [filesystem.unstrip_protocol(path) if "://" in directory else path for path in found]


def find_manifest(directory: str) -> Manifest | None:
    """The manifest of a committed directory, or None if it is not committed.

    A manifest that is cut short or is something else commits nothing, nor does one
    whose files are no longer there as they were written.
    """
    manifest = _parse_manifest(directory)
    return None if manifest is None or damaged_files(directory, manifest) else manifest


def _parse_manifest(directory: str) -> Manifest | None:
    try:
        with fsspec.open(join(directory, MANIFEST), "r") as file:
            return Manifest(**json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # not UTF-8, not JSON, not a manifest's fields
        return None


def damaged_files(directory: str, manifest: Manifest) -> list[str]:
    """Files of a committed directory that are missing or have another size."""
    filesystem, local = fsspec.core.url_to_fs(directory)
    found = _file_sizes(filesystem, local.rstrip("/"))
    return sorted(name for name, size in manifest.files.items() if found.get(name) != size)


def _file_sizes(filesystem: Any, directory: str) -> dict[str, int]:
    found = filesystem.find(directory, detail=True)
    return {path[len(directory) + 1 :]: info["size"] for path, info in found.items()}


def read_manifest(directory: str, *, written_by: str) -> Manifest:
    """The manifest of a committed directory, which the stage `written_by` makes.

    Raises:
        MissingArtifactError: if the directory is absent or was never committed.
    """
    manifest = find_manifest(directory)
    if manifest is None:
        state = "does not exist"
        parsed = _parse_manifest(directory)
        if parsed is not None:
            damaged = damaged_files(directory, parsed)
            state = f"has lost or changed {len(damaged)} of its files (first: {damaged[0]})"
        elif exists(join(directory, MANIFEST)):
            state = f"has a damaged {MANIFEST}"
        elif exists(directory):
            state = "has no manifest (an unfinished write)"
        raise MissingArtifactError(f"{directory} {state}. Run `kdsr {written_by}` first.")
    return manifest


@contextlib.contextmanager
def committing(directory: str, manifest: Manifest) -> Iterator[str]:
    """Write a directory that appears whole, with its manifest, or not at all.

    Yields a new, empty directory beside `directory`, a local path or URI. The caller fills it and
    may still add to `manifest.counts` and `manifest.details`. On a clean exit the manifest is
    completed and written, and the directory takes its place; on an exception it is deleted. A
    killed process leaves a directory that no reader accepts and that the next writer removes.

    Example:
        >>> manifest = Manifest(artifact="features/text", fingerprint="0" * 16)
        >>> with committing("/tmp/work/features/text", manifest) as target:
        ...     with open(os.path.join(target, "vectors.bin"), "wb") as file:
        ...         _ = file.write(bytes(4))
        ...     manifest.counts["items"] = 1
    """
    started = time.monotonic()
    filesystem, final = fsspec.core.url_to_fs(directory)
    final = final.rstrip("/")
    parent, name = final.rsplit("/", 1)
    prefix = f"{parent}/.{name}."
    filesystem.makedirs(parent, exist_ok=True)
    for leftover in filesystem.glob(f"{glob.escape(prefix)}*"):
        remove_folder(filesystem, leftover)
    attempt = f"{prefix}{uuid.uuid4().hex[:12]}"
    filesystem.makedirs(attempt)
    try:
        yield filesystem.unstrip_protocol(attempt) if "://" in directory else attempt
    except BaseException:
        remove_folder(filesystem, attempt)
        raise
    manifest.files = _file_sizes(filesystem, attempt)
    manifest.seconds = round(time.monotonic() - started, 3)
    manifest.versions = versions()
    _replace(filesystem, attempt, final, manifest)


def _replace(filesystem: Any, attempt: str, final: str, manifest: Manifest) -> None:
    text = json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True) + "\n"
    local = isinstance(filesystem, fsspec.implementations.local.LocalFileSystem)
    if local:
        write_text_durably(f"{attempt}/{MANIFEST}", text)
        # Two renames, so that a kill between them is all but impossible however much is
        # deleted afterwards. What a kill leaves aside, the next writer removes.
        aside = f"{attempt}.old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, aside)
        os.rename(attempt, final)
        with contextlib.suppress(OSError):
            remove_folder(filesystem, aside)
        return
    if filesystem.exists(final):
        # The mark goes first: from here until the new mark, readers refuse.
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(f"{final}/{MANIFEST}")
        remove_folder(filesystem, final)
    copy_folder(filesystem, attempt, final)
    remove_folder(filesystem, attempt)
    with filesystem.open(f"{final}/{MANIFEST}", "w") as file:
        file.write(text)


def write_text(path: str, text: str) -> None:
    """Write a small file, local or at a URI, that is never seen half-written, and its folders."""
    filesystem, local = fsspec.core.url_to_fs(path)
    filesystem.makedirs(local.rsplit("/", 1)[0], exist_ok=True)
    if "://" in path:
        filesystem.pipe_file(local, text.encode())
        return
    write_text_durably(f"{path}.new", text)
    os.replace(f"{path}.new", path)


def write_text_durably(path: str, text: str) -> None:
    """Write a local file and flush it to disk before returning."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
