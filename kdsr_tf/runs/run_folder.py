"""The folder of a run and the configuration that is left in it."""

from __future__ import annotations

import os

from kdsr_tf import artifacts
from kdsr_tf.config import Config, dump_config, load_config
from kdsr_tf.errors import MissingArtifactError

CONFIG_FILE = "config.yaml"
"""Every command that runs stages leaves the configuration it used."""


def write_config(config: Config) -> str:
    """Leave the configuration in its run's folder; returns its path."""
    path = artifacts.join(config.run_directory, CONFIG_FILE)
    artifacts.write_text(path, dump_config(config))
    return path


def find_config(run: str) -> tuple[str, str]:
    """The configuration file and the working directory of a run.

    `run` is a working directory, or its folder `runs/NAME`; local path or URI.

    Raises:
        MissingArtifactError: if `kdsr run` left no configuration there.
    """
    folder = run.rstrip("/") if "://" in run else os.path.abspath(run)
    path = artifacts.join(folder, CONFIG_FILE)
    if not artifacts.exists(path):
        raise MissingArtifactError(
            f"{folder} is no run: there is no {CONFIG_FILE} of `kdsr run` or `kdsr repeat` in it. "
            "Give a working directory, its folder runs/NAME, or --config and --workdir."
        )
    # A folder that was moved since is where it is now, not where it was.
    name = load_config(path).run
    return path, folder.removesuffix(f"/runs/{name}") if name else folder
