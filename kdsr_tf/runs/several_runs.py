"""Runs beside each other: a comparison of any number, a report about two."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, load_config
from kdsr_tf.errors import InputError, StaleArtifactError
from kdsr_tf.evaluation.compared_arms import find_arms, split_name
from kdsr_tf.evaluation.comparison import Comparison, compare
from kdsr_tf.runs.run_folder import find_config
from kdsr_tf.runs.stale_runs import stale_notes
from kdsr_tf.runs.workdir import locked


def compare_runs(
    runs: Sequence[str], cutoffs: Sequence[int] = (), where: Mapping[str, str] | None = None
) -> Comparison:
    """Compare runs, each `PATH` or `NAME=PATH`, with the first of them; notes name the stale ones.

    Without `cutoffs` for all values of k. `where` gives a group by slice.

    Raises:
        InputError: if the runs cannot be compared.
    """
    arms = find_arms(runs)
    stale = list(stale_notes((arm.name, one.directory) for arm in arms for one in arm.evaluations))
    try:
        found = compare(arms, cutoffs or None, where)
    except InputError as error:
        raise InputError("\n".join([str(error), *stale])) from None
    return dataclasses.replace(found, notes=(*found.notes, *stale))


def report_two(config: Config, runs: Sequence[str]) -> tuple[Manifest, str]:
    """Write a page about two runs, each `PATH` or `NAME=PATH`; `config` is of the first.

    Returns:
        Its manifest and its path.

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
    with locked(config):
        return report_two_runs(*pair)
