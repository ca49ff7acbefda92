"""What several runs with different seeds say together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over seeds: its mean, the interval of the mean, and its values."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


def over_seeds(metrics: Sequence[Mapping[str, float]], level: float = 0.95) -> dict[str, Spread]:
    """Mean and Student's t interval of every metric that all runs have.

    The interval is about the mean over seeds: how much it would move with other
    seeds on the same data. It says nothing about other users; for that see the
    bootstrap interval of a single run.

    Args:
        metrics: Metrics of each run by name, at least two runs.
        level: Confidence, between 0 and 1.

    Raises:
        ValueError: for fewer than two runs.

    Example:
        >>> spread = over_seeds([{"hr_20": 10.0}, {"hr_20": 12.0}])["hr_20"]
        >>> spread.mean, round(spread.low, 2), round(spread.high, 2)
        (11.0, -1.71, 23.71)
    """
    if len(metrics) < 2:
        raise ValueError(f"`metrics` must hold at least 2 runs. Received: {len(metrics)}.")
    names = [name for name in metrics[0] if all(name in run for run in metrics)]
    width = stats.t.ppf((1 + level) / 2, len(metrics) - 1) / np.sqrt(len(metrics))
    spreads = {}
    for name in names:
        values = np.array([run[name] for run in metrics])
        half = float(width * values.std(ddof=1))
        mean = float(values.mean())
        spreads[name] = Spread(
            mean=mean, low=mean - half, high=mean + half, values=tuple(values.tolist())
        )
    return spreads


class SeedsTest(NamedTuple):
    """A two-sided test of a difference over seeds; all None where there can be none."""

    name: str | None = None
    interval: Interval | None = None
    p_value: float | None = None


def difference_over_seeds(
    before: np.ndarray, after: np.ndarray, paired: bool, level: float = 0.95
) -> SeedsTest:
    """Test whether runs with other seeds would show the difference of two means, too.

    There is no test for fewer than two seeds on a side, nor where seeds change nothing.

    Args:
        before: Metric of every seed of one run `(seeds,)`.
        after: Metric of every seed of the other.
        paired: Whether entry k of both has the same seed, so that both started from the
            same weights and saw the same batches.
        level: Confidence of the interval, between 0 and 1.
    """
    varying = [after - before] if paired else [before, after]
    if min(len(before), len(after)) < 2 or not any(np.ptp(values) for values in varying):
        return SeedsTest()
    if paired:
        name, test = "paired t", stats.ttest_rel(after, before)
    else:
        name, test = "Welch's t", stats.ttest_ind(after, before, equal_var=False)
    interval = test.confidence_interval(level)
    return SeedsTest(name, (float(interval.low), float(interval.high)), float(test.pvalue))
