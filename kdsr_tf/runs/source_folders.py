"""Folders in the source format that commands write: the demo's boutique, and an import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import fsspec

from kdsr_tf import artifacts
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.runs.workdir import locked
from kdsr_tf.stages import SOURCE

if TYPE_CHECKING:
    from kdsr_tf.datasets.import_findings import Findings
    from kdsr_tf.sources import Source


class DemoSource(NamedTuple):
    """The folder of the boutique, a configuration with it as its source, and its manifest.

    `is_there` says whether the folder's manifest is this one already.
    """

    config: Config
    folder: str
    manifest: Manifest
    is_there: bool


def find_source(config: Config, num_items: int, num_users: int) -> DemoSource:
    """Where the boutique is, and whether it has been generated; `config` must have no source."""
    if config.source.path is not None:
        raise ConfigError(
            "`kdsr demo` generates its own files. "
            f"Received: source.path={config.source.path}. Use `kdsr run --config FILE`."
        )
    folder = artifacts.join(os.path.abspath(config.workdir), SOURCE)
    source = config.source.model_copy(update={"path": folder})
    arguments = {"num_items": num_items, "num_users": num_users, "seed": config.seed}
    manifest = Manifest(
        artifact=SOURCE,
        fingerprint=artifacts.fingerprint({"generator": "demo", "version": 1, **arguments}),
        config=arguments,
    )
    found = artifacts.find_manifest(folder)
    return DemoSource(
        config.model_copy(update={"source": source}),
        folder,
        manifest,
        found is not None and found.fingerprint == manifest.fingerprint,
    )


def generate_source(source: DemoSource) -> None:
    """Generate the boutique, unless it is there."""
    if source.is_there:
        return
    from kdsr_tf.datasets.demo import generate

    with (
        locked(source.config),
        artifacts.committing(source.folder, source.manifest) as target,
    ):
        generate(target, **source.manifest.config)


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
    if manifest is None or manifest.artifact != SOURCE:
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
        artifact=SOURCE,
        fingerprint=source.fingerprint(),
        counts={"items": found.catalogue, "users": len(found.lengths)},
        details={
            "from": list(inputs),
            "timestamps_were": unit or POSITION,
            "rejected": {f"{file}: {why}": n for (file, why), (n, _) in found.rejected.items()},
        },
    )
