"""Which runs no longer are what their configuration and their inputs ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdsr_tf import stages
from kdsr_tf.config import Config, load_config
from kdsr_tf.errors import KDSRError, MissingArtifactError
from kdsr_tf.runs import plan
from kdsr_tf.runs.run_folder import find_config


def stale_run(config: Config) -> str | None:
    """Why the figures of a run are not those of its configuration and inputs, if so.

    Returns:
        Such as ``student: `train.epochs` changed from 2 to 3``; None for a run that is
        up to date, and where an artifact is missing.
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
