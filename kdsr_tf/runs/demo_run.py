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
    """The files of the boutique.

    Args:
        config: The configuration, with these files as its source.
        folder: Where they are.
        manifest: What the folder's manifest has to say.
        is_there: Whether it says so.
    """

    config: Config
    folder: str
    manifest: Manifest
    is_there: bool


def find_source(config: Config, num_items: int, num_users: int) -> DemoSource:
    """Where the boutique is, and whether it has been generated.

    Args:
        config: The configuration, without a source.
        num_items: Products.
        num_users: Customers.
    """
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
