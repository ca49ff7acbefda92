"""What `kdsr report RUN [RUN2]` adds to the stage: runs given as folders."""

from __future__ import annotations

import os

from kdsr_tf import artifacts
from kdsr_tf.cli.options import CONFIG_FILE
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config, load_config
from kdsr_tf.console import console
from kdsr_tf.errors import ConfigError, MissingArtifactError, StaleArtifactError
from kdsr_tf.evaluation.compared_arms import split_name

_MOST = 2


def find_config(run: str) -> tuple[str, str]:
    """The configuration file and the working directory of a run.

    Args:
        run: A working directory, or its folder `runs/NAME`; local path or URI.

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


def options_of_run(runs: tuple[str, ...]) -> dict[str, str]:
    """Options of `kdsr report RUN`, where the command line gives none: those of the first run.

    Raises:
        ConfigError: for more runs than fit on a page.
        MissingArtifactError: if `kdsr run` left no configuration there.
    """
    if len(runs) > _MOST:
        raise ConfigError(f"At most two runs fit beside each other. Received: {len(runs)}.")
    config_path, workdir = find_config(split_name(runs[0])[1])
    return {"config_path": config_path, "workdir": workdir}


def report_two(config: Config, runs: tuple[str, ...]) -> None:
    """Write a page about two runs.

    Args:
        config: Of the first.
        runs: Both, each `PATH` or `NAME=PATH`.

    Raises:
        KDSRError: if a run is not finished, or the two do not share their data.
    """
    from kdsr_tf.report.finished_run import read_finished_run
    from kdsr_tf.report.report_page import report_two_runs

    path, workdir = find_config(split_name(runs[1])[1])
    pair = []
    for run, one in zip(runs, (config, load_config(path, workdir=workdir)), strict=True):
        name, given = split_name(run)
        try:
            pair.append(read_finished_run(one, None if name == given.rstrip("/") else name))
        except StaleArtifactError as error:
            raise StaleArtifactError(f"The run {run} is stale: {error}") from None
    with locked(config.workdir):
        manifest, page = report_two_runs(*pair)
    megabytes = manifest.counts["bytes"] / 1e6
    console.print(f"{page} ({megabytes:.1f} MB)", soft_wrap=True, markup=False, highlight=False)
