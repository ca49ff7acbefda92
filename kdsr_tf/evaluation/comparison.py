"""Runs against a first one, on the same test points: differences and what they are worth.

Two kinds of chance are kept apart. Over *users*: would other users from the same
source show the same difference between these very students? Over *seeds*: would
students trained with other seeds? The first needs one run per side, the second two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdsr_tf import schema
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation import significance
from kdsr_tf.evaluation.compared_arms import Arm
from kdsr_tf.evaluation.evaluation_files import (
    ORACLE,
    ORACLE_WARNING,
    POSITION,
    RANK,
    TARGET_ID,
    Evaluation,
)
from kdsr_tf.evaluation.rank_metrics import ACCURACY
from kdsr_tf.evaluation.significance import Interval, SeedsTest, difference_over_seeds, over_seeds
from kdsr_tf.evaluation.summary import accuracy

_POINT = (schema.USER_ID, POSITION, TARGET_ID)
_SAME_PROTOCOL = ("candidates", "filter_seen", "ties")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of one arm minus that of the first.

    `interval` is a 95% paired bootstrap over users, `p_value` of a paired randomisation test,
    `p_holm` the same, corrected for all differences of the comparison. `seeds_test` is `paired t`
    where both arms hold the same seeds (they start from the same weights and see the same
    batches), else `Welch's t`; it and the figures of that test are None unless both have two seeds.
    """

    value: float
    interval: Interval
    p_value: float
    p_holm: float
    seeds_test: str | None
    seeds_interval: Interval | None
    seeds_p_value: float | None
    seeds_p_holm: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one arm, in %, the mean over its seeds.

    `interval` is a 95% bootstrap over users, `seeds_interval` Student's t over seeds (None for a
    single seed), `difference` that to the first arm (None for that one).
    """

    metric: str
    run: str
    value: float
    interval: Interval
    seeds_interval: Interval | None
    difference: Difference | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs beside each other; the first is the one the others are compared with.

    `runs` has per arm its name, evaluation folders, seeds, selection, and `beyond_accuracy`:
    coverage and diversity over all its test points. `where` are the slices the points were
    restricted to; rows are by metric, then by arm. Notes are what a reader must know before
    believing the figures.
    """

    runs: tuple[dict[str, Any], ...]
    test_points: int
    users: int
    where: dict[str, str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(
    arms: Sequence[Arm],
    cutoffs: Sequence[int] | None = None,
    where: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare arms with the first of them, metric by metric.

    Args:
        arms: At least one; see `kdsr_tf.evaluation.compared_arms.find_arms`.
        cutoffs: Values of k; None takes those of the first run.
        where: Group by slice, such as `{"target_training": "cold"}`: only these points.
        seed: Seed of the resampling.

    Raises:
        InputError: if the runs were not evaluated on the same test points, against
            equally many candidates, with the same filter; if `where` names no slice or
            leaves no point.
    """
    first = arms[0].evaluations[0]
    points = first.users()
    chosen = _choose(points, where or {})
    cutoffs = list(cutoffs or first.summary["cutoffs"])
    names = list(accuracy(np.ones(1), cutoffs))
    known, users = np.unique(points[schema.USER_ID].to_numpy()[chosen], return_inverse=True)
    counts = np.bincount(users, minlength=len(known))[:, None]
    sums, by_seed = [], []
    for arm in arms:
        per_seed = []
        for evaluation in sorted(arm.evaluations, key=_seed):
            ranks = _ranks(evaluation, first, points)[chosen]
            values = np.stack(list(accuracy(ranks, cutoffs).values()), axis=1)
            per_seed.append(significance.user_sums(values, users, len(known)))
        sums.append(np.mean(per_seed, axis=0))
        by_seed.append(np.array([one.sum(axis=0) / counts.sum() for one in per_seed]))
    seeds = _seeds(arms[0])
    paired = [len(set(seeds)) == len(seeds) and _seeds(arm) == seeds for arm in arms[1:]]
    return Comparison(
        runs=tuple(map(_describe, arms)),
        test_points=int(counts.sum()),
        users=len(known),
        where=dict(where or {}),
        rows=tuple(_rows([arm.name for arm in arms], names, sums, counts, by_seed, paired, seed)),
        notes=tuple(_notes(arms)),
    )


def _rows(
    runs: Sequence[str],
    names: Sequence[str],
    sums: Sequence[np.ndarray],
    counts: np.ndarray,
    by_seed: Sequence[np.ndarray],
    paired: Sequence[bool],
    seed: int,
) -> list[Row]:
    """Rows from sums per user `(users, metrics)` and means per seed `(seeds, metrics)`.

    `paired` says of every arm but the first whether its seeds are those of the first.
    """
    deltas = [one - sums[0] for one in sums[1:]]
    both = np.concatenate([*sums, *deltas], axis=1)
    means = (both.sum(axis=0) / counts.sum()).tolist()
    low, high = significance.percentile_interval(significance.bootstrap_means(both, counts, seed))
    intervals = list(zip(low.tolist(), high.tolist(), strict=True))
    shift = len(runs) * len(names)
    differences = (
        _differences(
            means[shift:],
            intervals[shift:],
            significance.randomisation_p_values(np.concatenate(deltas, axis=1), seed).tolist(),
            [
                difference_over_seeds(a, b, is_paired)
                for arm, is_paired in zip(by_seed[1:], paired, strict=True)
                for a, b in zip(by_seed[0].T, arm.T, strict=True)
            ],
        )
        if deltas
        else []
    )
    spreads = [
        over_seeds([dict(zip(names, row, strict=True)) for row in arm]) if len(arm) > 1 else None
        for arm in by_seed
    ]
    rows = []
    for metric, name in enumerate(names):
        for arm, (run, spread) in enumerate(zip(runs, spreads, strict=True)):
            place = arm * len(names) + metric
            rows.append(
                Row(
                    metric=name,
                    run=run,
                    value=means[place],
                    interval=intervals[place],
                    seeds_interval=(spread[name].low, spread[name].high) if spread else None,
                    difference=differences[place - len(names)] if arm else None,
                )
            )
    return rows


def _differences(
    values: Sequence[float],
    intervals: Sequence[Interval],
    p_values: Sequence[float],
    tests: Sequence[SeedsTest],
) -> list[Difference]:
    """Every difference of the comparison, whose p-values are corrected together."""
    corrected = iter(significance.holm([t.p_value for t in tests if t.p_value is not None]))
    return [
        Difference(
            value=value,
            interval=interval,
            p_value=p_value,
            p_holm=p_holm,
            seeds_test=test.name,
            seeds_interval=test.interval,
            seeds_p_value=test.p_value,
            seeds_p_holm=None if test.p_value is None else next(corrected),
        )
        for value, interval, p_value, p_holm, test in zip(
            values, intervals, p_values, significance.holm(p_values), tests, strict=True
        )
    ]


def _seed(evaluation: Evaluation) -> int:
    return evaluation.summary["training"]["seed"]


def _seeds(arm: Arm) -> list[int]:
    return sorted(map(_seed, arm.evaluations))


def _ranks(evaluation: Evaluation, first: Evaluation, points: pa.Table) -> np.ndarray:
    """Ranks of the test points, in the order of the first run's."""
    for key in _SAME_PROTOCOL:
        ours, theirs = (e.summary["protocol"][key] for e in (first, evaluation))
        if ours != theirs:
            raise InputError(
                f"{first.directory} and {evaluation.directory} cannot be compared: their ranks "
                f"mean different things. Received: {key}={ours} and {key}={theirs}. Evaluate both "
                "on the same catalogue with the same section `evaluate`."
            )
    table = evaluation.users([*_POINT, RANK])
    if not all(_plain(table, name).equals(_plain(points, name)) for name in _POINT):
        raise InputError(_other_points(evaluation, first, table, points))
    return table[RANK].to_numpy()


def _plain(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    return column.combine_chunks()


def _other_points(
    evaluation: Evaluation, first: Evaluation, table: pa.Table, points: pa.Table
) -> str:
    ours, theirs = (
        set(zip(*(_plain(one, name).to_pylist() for name in _POINT), strict=True))
        for one in (points, table)
    )

    def origin(one: Evaluation, number: int) -> str:
        protocol = one.summary["protocol"]
        return (
            f"{one.directory} has {number:,} test points (split {protocol['split']}, "
            f"test_fraction {protocol['test_fraction']}, sequences "
            f"{one.manifest.inputs.get('sequences')})"
        )

    return (
        "Runs can be compared on the same test points only. "
        f"Received: {origin(first, len(ours))}; {origin(evaluation, len(theirs))}; "
        f"{len(ours & theirs):,} are the same. Evaluate both on the same `sequences/`."
    )


def _choose(points: pa.Table, where: Mapping[str, str]) -> np.ndarray:
    slices = {
        field.name: points[field.name]
        for field in points.schema
        if pa.types.is_dictionary(field.type) and field.name != TARGET_ID
    }
    chosen = np.ones(len(points), bool)
    for name, group in where.items():
        if name not in slices:
            raise InputError(f"There is no slice `{name}`. Valid slices: {', '.join(slices)}.")
        values = _plain(points, name)
        chosen &= pc.equal(values, group).to_numpy(zero_copy_only=False)
        if not chosen.any():
            valid = ", ".join(sorted(pc.unique(values).to_pylist()))
            raise InputError(
                f"No test point is left. Received: {name}={group}. Groups of {name}: {valid}."
            )
    return chosen


def _describe(arm: Arm) -> dict[str, Any]:
    every = [one.summary["metrics"] for one in arm.evaluations]
    beyond = [name for name in every[0] if name.split("_")[0] not in ACCURACY]
    return {
        "name": arm.name,
        "evaluations": [one.directory for one in arm.evaluations],
        "seeds": _seeds(arm),
        "selection": sorted({one.summary["selection"] for one in arm.evaluations}),
        "beyond_accuracy": {
            name: float(np.mean([found[name] for found in every]))
            for name in beyond
            if all(name in found for found in every)
        },
    }


def _notes(arms: Sequence[Arm]) -> list[str]:
    selections = {arm.name: _describe(arm)["selection"] for arm in arms}
    oracle = [name for name, found in selections.items() if ORACLE in found]
    notes = []
    if oracle:
        notes.append(f"{', '.join(oracle)}: {ORACLE_WARNING}")
    if len(set(map(tuple, selections.values()))) > 1:
        told = "; ".join(f"{name}: {', '.join(found)}" for name, found in selections.items())
        notes.append(
            f"The epochs were selected in different ways, which differences show too: {told}."
        )
    for arm in arms:
        seeds = _seeds(arm)
        if len(set(seeds)) < len(seeds):
            notes.append(
                f"{arm.name} holds a seed twice ({seeds}): its interval over seeds is too narrow."
            )
    return notes
