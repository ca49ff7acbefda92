"""What the runs of an experiment say together: one row per arm."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation.compared_arms import Arm
from kdsr_tf.evaluation.comparison import Comparison, Difference, compare
from kdsr_tf.evaluation.evaluation_files import figures, read_evaluation
from kdsr_tf.evaluation.significance import Spread, over_seeds
from kdsr_tf.experiments.experiment import Experiment

SECONDS = "seconds_per_epoch"
BEST_EPOCH = "best_epoch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One row of an experiment's table: its seeds, and its figures over them, by name.

    A single seed has no interval (nan). The reference arm has no differences.
    """

    name: str
    seeds: tuple[int, ...]
    figures: dict[str, Spread]
    differences: dict[str, Difference]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """An experiment's table, with the arms that have run in the experiment's order.

    `columns` names the figures shown, `selections` all ways in which epochs were selected. `notes`
    are what a reader must know before believing the figures; `failures` says why an arm has no row.
    """

    experiment: Experiment
    arms: tuple[ArmResult, ...]
    columns: tuple[str, ...]
    selections: tuple[str, ...]
    test_points: int
    users: int
    notes: tuple[str, ...]
    failures: dict[str, str]

    @property
    def num_differences(self) -> int:
        """Differences for which the p-values are corrected together."""
        return sum(len(arm.differences) for arm in self.arms)


def collect(
    experiment: Experiment,
    runs: Mapping[str, Sequence[Config]],
    failures: Mapping[str, str],
    more: Mapping[str, Mapping[str, float]],
) -> Results:
    """Read the evaluations and students of the arms that have run, one per seed.

    `failures` has a reason by arm that has not run, `more` further figures by the name of a run.

    Raises:
        InputError: if a metric to be shown is not among those of the evaluations.
        StaleArtifactError: if an evaluation was written by another version.
    """
    found = _compare(experiment, runs)
    rows = []
    for name, seeded in runs.items():
        by_seed = [_figures(run) | dict(more.get(run.run or "", {})) for run in seeded]
        unknown = [metric for metric in experiment.metrics if metric not in by_seed[0]]
        if unknown:
            raise InputError(
                f"The experiment {experiment.name} shows `{unknown[0]}`, which {name} does not "
                f"have. Its metrics: {', '.join(_figures(seeded[0]))}."
            )
        rows.append(
            ArmResult(
                name=name,
                seeds=tuple(run.training_seed for run in seeded),
                figures=_spreads(by_seed),
                differences={
                    row.metric: row.difference
                    for row in found.rows
                    if row.run == name
                    and row.difference is not None
                    and experiment.reference in runs
                },
            )
        )
    notes = list(found.notes)
    if experiment.reference not in runs:
        notes.append(f"The reference arm {experiment.reference} has not run: no differences.")
    return Results(
        experiment=experiment,
        arms=tuple(rows),
        columns=tuple(_columns(experiment, rows)),
        selections=tuple(sorted({one for run in found.runs for one in run["selection"]})),
        test_points=found.test_points,
        users=found.users,
        notes=tuple(notes),
        failures=dict(failures),
    )


def _compare(experiment: Experiment, runs: Mapping[str, Sequence[Config]]) -> Comparison:
    """All arms beside the reference, or beside the first where that has not run."""
    reference = experiment.reference if experiment.reference in runs else next(iter(runs))
    arms = [
        Arm(
            name=name,
            evaluations=tuple(
                read_evaluation(stages.location(run, "evaluation")) for run in runs[name]
            ),
        )
        for name in sorted(runs, key=lambda name: name != reference)
    ]
    return compare(arms, experiment.cutoffs)


def _figures(run: Config) -> dict[str, float]:
    student = artifacts.read_manifest(stages.location(run, "student"), written_by="train")
    evaluation = read_evaluation(stages.location(run, "evaluation"))
    return (
        figures(evaluation.summary)
        | student.details["retention"]
        | {name: float(student.details[name]) for name in (BEST_EPOCH, SECONDS)}
    )


def _spreads(by_seed: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    if len(by_seed) > 1:
        return over_seeds(by_seed)
    return {
        name: Spread(mean=value, low=math.nan, high=math.nan, values=(value,))
        for name, value in by_seed[0].items()
    }


def _columns(experiment: Experiment, rows: Sequence[ArmResult]) -> list[str]:
    """Metrics, those at their own best epochs, what was kept of the modalities, and the cost."""
    known = dict.fromkeys(name for row in rows for name in row.figures)
    oracle = [f"oracle_{metric}" for metric in experiment.metrics]
    kept = sorted(name for name in known if name.startswith("retention_"))
    return [
        *experiment.metrics,
        *(name for name in oracle if name in known),
        *kept,
        BEST_EPOCH,
        SECONDS,
    ]
