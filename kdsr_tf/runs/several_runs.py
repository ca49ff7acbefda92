"""Runs beside each other: a comparison of any number, which are stale, a report about two."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, load_config
from kdsr_tf.errors import InputError, KDSRError, MissingArtifactError, StaleArtifactError
from kdsr_tf.evaluation.compared_arms import find_arms, split_name
from kdsr_tf.evaluation.comparison import Comparison, compare
from kdsr_tf.runs import plan
from kdsr_tf.runs.workdir import find_config, locked


def compare_runs(
    runs: Sequence[str], cutoffs: Sequence[int] = (), where: Mapping[str, str] | None = None
) -> Comparison:
    """Compare runs, each `PATH` or `NAME=PATH`, with the first; notes name the stale ones.

    Without `cutoffs` for all values of k. `where` gives a group by slice.
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

    Returns its manifest and its path. `KDSRError` if a run is not finished, or their data differ.
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


def stale_run(config: Config) -> str | None:
    """Why the figures of a run are not those of its configuration and inputs, if so.

    Such as ``student: `train.epochs` changed from 2 to 3``; None for a run that is up to date, and
    where an artifact is missing.
    """
    found = []
    # What stands behind a run's figures and needs nothing but other artifacts.
    for name in (stages.windows_of(config), "student", "evaluation"):
        try:
            state = plan.plan_of_artifact(config, stages.artifact_of(config, name))
        except MissingArtifactError:
            return None
        except KDSRError as error:
            return f"{name}: {error}"
        found += [f"{name}: {'; '.join(state.reasons)}"] if state.reasons else []
    return ". ".join(found) or None


def stale_notes(evaluations: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A sentence per stale run, given by name and `evaluation/`: which, why, and the remedy."""
    for name, directory in evaluations:
        folder = directory.rstrip("/").rpartition("/")[0] or "."
        try:
            path, workdir = find_config(folder)
            reason = stale_run(load_config(path, workdir=workdir))
        except KDSRError:
            continue  # No configuration was left there to compare with.
        if reason is not None:
            yield (
                f"{name} is stale: its figures are those of an earlier run. Reason: {reason}. Make "
                f"it again: kdsr run --config {path} --workdir {workdir}"
            )
