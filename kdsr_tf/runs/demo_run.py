"""The generated boutique that `kdsr demo` runs on."""

from __future__ import annotations

import os
from typing import NamedTuple

from kdsr_tf import artifacts
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.runs.workdir import locked
from kdsr_tf.stages import SOURCE


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
