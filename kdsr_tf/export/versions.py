"""Numbered versions on disk: what is there, what appears, what is dropped, what returns.

A version is `serving_model/<variant>/<number>`; `root` is the `serving_model/`, a local path or
URI. TensorFlow Serving serves the highest number, so numbers only grow: a rollback publishes the
bytes of an earlier version again, under a new number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

import fsspec

from kdsr_tf import artifacts
from kdsr_tf.artifacts import MANIFEST, Manifest
from kdsr_tf.console import console
from kdsr_tf.errors import KDSRError
from kdsr_tf.export.gate_sample import VARIANTS
from kdsr_tf.paths import remove_folder

CARD = "model_card.md"
ROLLBACK_OF = "rollback_of"
"""Key of a manifest's details: the version whose bytes these are."""

_SAVED_MODEL = "saved_model.pb"
_BUILDING = ".building-"
_NOTE = "> **Rollback.**"


class VersionError(KDSRError):
    """A version that is asked for cannot be had."""


def versions(root: str, variant: str) -> list[int]:
    """Complete versions of a variant, oldest first."""
    numbers = _numbers(root, variant)
    return [n for n in numbers if artifacts.exists(_path(root, variant, n, _SAVED_MODEL))]


def next_version(root: str) -> int:
    """A number above every one ever seen there, the incomplete included."""
    return 1 + max((n for variant in VARIANTS for n in _numbers(root, variant)), default=0)


def new_build_folder(root: str) -> str:
    """A local folder, on the destination's own disk where that is local.

    Folders that a killed export has left there are removed.

    Raises:
        VersionError: if nothing can be written there.
    """
    if "://" in root:
        return tempfile.mkdtemp(prefix="kdsr-export-")
    build = os.path.join(root, f"{_BUILDING}{uuid.uuid4().hex[:12]}")
    try:
        os.makedirs(build)
    except OSError as error:
        raise VersionError(
            f"{root} takes no new version: {error.strerror}. It must be a folder that may be "
            "written to, on a disk with room for one more."
        ) from error
    for leftover in os.listdir(root):
        other = os.path.join(root, leftover)
        if leftover.startswith(_BUILDING) and other != build:
            shutil.rmtree(other, ignore_errors=True)
    return build


def publish(
    root: str, build: str, version: int, manifest: Manifest, card: Callable[[str], str]
) -> Manifest:
    """Make both variants of a build appear as a version, then describe it as the newest.

    Args:
        root: `serving_model/`.
        build: Local folder with a SavedModel per variant; they are moved away.
        version: Its number.
        manifest: Manifest of the version, without its files.
        card: Variant to text of the model card.

    Returns:
        The manifest of `root`. It lists the files of both variants, so that a version that
        was deleted or damaged is no longer what an export takes for up to date.
    """
    described = dataclasses.replace(manifest, artifact="serving_model", files={})
    for variant in VARIANTS:
        folder = os.path.join(build, variant)
        artifacts.write_text_durably(os.path.join(folder, CARD), card(variant))
        files = {
            os.path.relpath(path, folder): os.path.getsize(path)
            for path in _files(folder)
            if os.path.basename(path) != MANIFEST
        }
        own = dataclasses.replace(
            manifest, artifact=f"serving_model/{variant}/{version}", files=files
        )
        artifacts.write_text_durably(os.path.join(folder, MANIFEST), _as_json(own))
        described.files |= {f"{variant}/{version}/{name}": size for name, size in files.items()}
    for variant in VARIANTS:
        _place(os.path.join(build, variant), _path(root, variant, version))
    artifacts.write_text(artifacts.join(root, MANIFEST), _as_json(described))
    return described


def prune(root: str, keep: int) -> None:
    """Drop all but the `keep` newest complete versions, and what a killed upload has left.

    Called once a new version is complete. A version that cannot be dropped is reported
    and stays: what is served does not depend on it.
    """
    for variant in VARIANTS:
        kept = versions(root, variant)[-keep:]
        for number in _numbers(root, variant):
            if kept and number < kept[-1] and number not in kept:
                _drop(_path(root, variant, number))


def rollback(root: str, version: int | None = None) -> Manifest:
    """Publish an earlier version of both variants again, under a new number.

    The bytes are those that passed the gate then; they are checked against the sizes
    that were recorded. Local files are hard links where the disk allows. Nothing is
    deleted. The manifest keeps the fingerprint of the earlier version, so that an export
    is up to date only if it would write those bytes.

    Args:
        root: `serving_model/`.
        version: Number to return to; None is the one before that whose bytes are
            served now, so that a second rollback goes further back.

    Raises:
        VersionError: if there is no such version, or it is damaged.
    """
    version, earlier = find_earlier(root, version)
    origin = _origin(earlier, version)
    number = next_version(root)
    manifest = dataclasses.replace(
        earlier,
        counts=earlier.counts | {"version": number},
        details=earlier.details | {ROLLBACK_OF: origin},
    )
    build = new_build_folder(root)
    try:
        for variant in VARIANTS:
            _fetch(_path(root, variant, version), os.path.join(build, variant))
        return publish(
            root,
            build,
            number,
            manifest,
            lambda variant: _card(os.path.join(build, variant), number, origin),
        )
    finally:
        shutil.rmtree(build, ignore_errors=True)


def find_earlier(root: str, version: int | None = None) -> tuple[int, Manifest]:
    """The version that `rollback` would publish again, and its manifest; raises likewise."""
    both = sorted(set(versions(root, VARIANTS[0])) & set(versions(root, VARIANTS[1])))
    if not both:
        raise VersionError(f"{root} holds no version to return to. Run `kdsr export` first.")
    if version is None:
        version = _version_before(root, both)
    if version not in both:
        raise VersionError(
            f"There is no version {version} of both variants in {root}. "
            f"Versions: {', '.join(map(str, both))}."
        )
    earlier, _ = (_read(root, variant, version) for variant in VARIANTS)
    return version, earlier


def _version_before(root: str, both: list[int]) -> int:
    served = both[-1]
    origin = _origin(_read(root, VARIANTS[0], served), served)
    older = [n for n in both if n < origin]
    if not older:
        raise VersionError(
            f"{root} holds no version older than {origin}, whose bytes are served now. "
            f"Versions: {', '.join(map(str, both))}. Name one: --rollback VERSION."
        )
    return older[-1]


def _origin(manifest: Manifest, version: int) -> int:
    return manifest.details.get(ROLLBACK_OF, version)


def _read(root: str, variant: str, version: int) -> Manifest:
    folder = _path(root, variant, version)
    manifest = artifacts.find_manifest(folder)
    if manifest is None:
        raise VersionError(f"{folder} has lost its {MANIFEST} or some of its files.")
    return manifest


def _card(folder: str, number: int, origin: int) -> str:
    with open(os.path.join(folder, CARD), encoding="utf-8") as file:
        title, *paragraphs = file.read().split("\n\n")
    if paragraphs and paragraphs[0].startswith(_NOTE):
        del paragraphs[0]
    title = re.sub(r"version \d+", f"version {number}", title)
    note = f"{_NOTE} These are the bytes of version {origin}, published again."
    return "\n\n".join([title, note, *paragraphs])


def _fetch(source: str, folder: str) -> None:
    """A local copy of a version, of links where the disk allows."""
    if "://" not in source:
        shutil.copytree(source, folder, copy_function=_link)
        return
    filesystem, path = fsspec.core.url_to_fs(source)
    for remote in filesystem.find(path):
        local = os.path.join(folder, os.path.relpath(remote, path))
        os.makedirs(os.path.dirname(local), exist_ok=True)
        filesystem.get_file(remote, local)


def _link(source: str, destination: str) -> None:
    """What a rollback writes anew is copied, so that it does not reach the original."""
    if os.path.basename(source) not in (CARD, MANIFEST):
        with contextlib.suppress(OSError):
            os.link(source, destination)
            return
    shutil.copy2(source, destination)


def _place(folder: str, destination: str) -> None:
    """Make a folder appear: a rename locally, else an upload with `saved_model.pb` last."""
    filesystem, path = fsspec.core.url_to_fs(destination)
    if "://" not in destination:
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        os.rename(folder, destination)
        return
    for file in sorted(_files(folder), key=lambda file: (file.endswith(_SAVED_MODEL), file)):
        target = f"{path}/{os.path.relpath(file, folder)}"
        filesystem.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        filesystem.put_file(file, target)


def _drop(folder: str) -> None:
    filesystem, path = fsspec.core.url_to_fs(folder)
    try:
        # A half-deleted version must not look complete.
        if filesystem.exists(f"{path}/{_SAVED_MODEL}"):
            filesystem.rm_file(f"{path}/{_SAVED_MODEL}")
        remove_folder(filesystem, path)
    except OSError as error:
        console.print(
            f"Warning: {folder} is no longer needed and cannot be deleted: {error}.",
            style="yellow",
            markup=False,
        )


def _numbers(root: str, variant: str) -> list[int]:
    paths = artifacts.find_files(artifacts.join(root, variant), "*")
    names = [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]
    return sorted(int(name) for name in names if name.isdecimal())


def _path(root: str, variant: str, version: int, *parts: Any) -> str:
    return artifacts.join(root, variant, str(version), *parts)


def _files(folder: str) -> list[str]:
    return [os.path.join(base, name) for base, _, names in os.walk(folder) for name in names]


def _as_json(manifest: Manifest) -> str:
    return json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True) + "\n"
