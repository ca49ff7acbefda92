"""The folder that `kdsr data import` writes: whether it is free, and its manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import fsspec

from kdsr_tf import artifacts
from kdsr_tf.artifacts import Manifest
from kdsr_tf.errors import ConfigError

if TYPE_CHECKING:
    from kdsr_tf.datasets.import_findings import Findings
    from kdsr_tf.sources import Source

_ARTIFACT = "source"


def free_folder(folder: str | None, force: bool, inputs: Sequence[str]) -> str:
    """The folder to write; `ConfigError` if something would be lost by writing there.

    `force` replaces an earlier import; `inputs` are the paths that are read.
    """
    if folder is None:
        raise ConfigError("--output is not given. Name the folder to write, or use --check.")
    folder = _absolute(folder)
    for path in map(_absolute, inputs):
        if f"{path}/".startswith(f"{folder}/"):
            raise ConfigError(f"--output {folder} holds the input {path}. Choose another folder.")
    _refuse_unwritable(folder)
    filesystem, local = fsspec.core.url_to_fs(folder)
    if not filesystem.exists(local) or (filesystem.isdir(local) and not filesystem.ls(local)):
        return folder
    manifest = artifacts.find_manifest(folder)
    if manifest is None or manifest.artifact != _ARTIFACT:
        raise ConfigError(
            f"--output {folder} holds files that no import wrote. Choose another folder."
        )
    if not force:
        raise ConfigError(f"{folder} holds an earlier import. Replace it with --force.")
    return folder


def _refuse_unwritable(folder: str) -> None:
    """Tell before the files are read, which may take minutes.

    What is written is made beside `folder` and then renamed, even where `folder` exists.
    """
    if "://" in folder:
        return
    parent = os.path.dirname(folder)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        problem = f"{parent} is not a folder"
    elif not os.access(parent, os.W_OK | os.X_OK):
        problem = f"{parent} may not be written"
    else:
        return
    raise ConfigError(f"--output {folder} cannot be made: {problem}. Choose another folder.")


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def import_manifest(
    found: Findings, source: Source, inputs: Sequence[str], unit: str | None
) -> Manifest:
    """What the folder is and where it comes from; the mark that `--force` looks for."""
    from kdsr_tf.sources.time_units import POSITION

    return Manifest(
        artifact=_ARTIFACT,
        fingerprint=source.fingerprint(),
        counts={"items": found.catalogue, "users": len(found.lengths)},
        details={
            "from": list(inputs),
            "timestamps_were": unit or POSITION,
            "rejected": {f"{file}: {why}": n for (file, why), (n, _) in found.rejected.items()},
        },
    )
