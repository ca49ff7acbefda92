"""Intervals and tests: over users by resampling, over seeds by Student's t.

The test points of a user stand or fall together, so users are drawn, never points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Interval = tuple[float, float]

LEVEL = 0.95
"""Confidence of every interval."""

BOOTSTRAP_SAMPLES = 1000
PERMUTATIONS = 9999

_CELLS_AT_ONCE = 2**22


def user_sums(values: np.ndarray, users: np.ndarray, num_users: int) -> np.ndarray:
    """Sums `(num_users, columns)` over the test points of every user.

    Args:
        values: `(points, columns)`.
        users: User of each point, `0..num_users - 1`, `(points,)`.
        num_users: Rows of the result.
    """
    sums = [np.bincount(users, column, num_users) for column in values.T]
    return np.stack(sums, axis=1) if sums else np.zeros((num_users, 0))


def bootstrap_means(
    sums: np.ndarray, counts: np.ndarray, seed: int, num_samples: int = BOOTSTRAP_SAMPLES
) -> np.ndarray:
    """Means over the test points of users drawn with replacement.

    All columns share the draws, so columns of one sample can be compared.

    Args:
        sums: Sum of each column over the test points of a user `(users, columns)`.
        counts: Test points behind these sums `(users, groups)`; each count belongs to as
            many columns as the next, one after the other.
        seed: Seed of the draws.
        num_samples: Number of draws.

    Returns:
        float64 `(num_samples, columns)`; NaN where no point of a column was drawn.
    """
    rng = np.random.default_rng([seed, 7])
    num_users, num_columns = sums.shape
    both = np.concatenate([sums, counts], axis=1, dtype=np.float64)
    parts = []
    for rows in _chunks(num_samples, num_users):
        drawn = rng.integers(num_users, size=(rows, num_users))
        drawn += np.arange(rows)[:, None] * num_users
        times = np.bincount(drawn.ravel(), minlength=rows * num_users)
        totals = times.reshape(rows, num_users).astype(np.float64) @ both
        number = np.repeat(totals[:, num_columns:], num_columns // counts.shape[1], axis=1)
        with np.errstate(invalid="ignore"):
            parts.append(totals[:, :num_columns] / np.where(number > 0, number, np.nan))
    return np.concatenate(parts)


def percentile_interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end per column, over the samples that are numbers."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(samples, [tail, 1 - tail], axis=0)
    return low, high


def randomisation_p_values(
    differences: np.ndarray, seed: int, num_samples: int = PERMUTATIONS
) -> np.ndarray:
    """Two-sided p-values `(columns,)` of a paired randomisation test over users.

    Were two runs alike, each user's difference could as well have the other sign. The
    p-value is the share of random signs, the observed ones included, whose sum lies
    at least as far from 0.

    Args:
        differences: Per user, the sum of the differences over the test points
            `(users, columns)`.
        seed: Seed of the signs.
        num_samples: Random signs drawn per user; the smallest possible p-value is
            `1 / (num_samples + 1)`.

    Reference: [Smucker, Allan, Carterette, CIKM 2007](https://doi.org/10.1145/1321440.1321528).
    """
    differences = differences[np.any(differences != 0, axis=1)]
    rng = np.random.default_rng([seed, 8])
    # What only rounding sets apart counts as equal.
    least = np.abs(differences.sum(axis=0)) * (1 - 1e-9) - 1e-12
    as_far = np.ones(differences.shape[1])
    for rows in _chunks(num_samples, len(differences)):
        bits = np.frombuffer(rng.bytes(-(-rows * len(differences) // 8)), np.uint8)
        signs = np.unpackbits(bits, count=rows * len(differences))
        halves = signs.reshape(rows, len(differences)) * 2.0 - 1.0
        as_far += np.count_nonzero(np.abs(halves @ differences) >= least, axis=0)
    return as_far / (num_samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for testing several hypotheses at once (Holm).

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(scaled, 1.0)
    return corrected.tolist()


def _chunks(num_samples: int, num_users: int) -> Iterator[int]:
    """Samples to draw at once, so that memory does not grow with their number."""
    size = max(1, _CELLS_AT_ONCE // max(num_users, 1))
    for start in range(0, num_samples, size):
        yield min(size, num_samples - start)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over seeds: its mean, the interval of the mean, and its values."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


def over_seeds(metrics: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and Student's t interval of every metric that all of at least two runs have.

    The interval is about the mean over seeds: how much it would move with other
    seeds on the same data. It says nothing about other users; for that see the
    bootstrap interval of a single run.

    Example:
        >>> spread = over_seeds([{"hr_20": 10.0}, {"hr_20": 12.0}])["hr_20"]
        >>> spread.mean, round(spread.low, 2), round(spread.high, 2)
        (11.0, -1.71, 23.71)
    """
    if len(metrics) < 2:
        raise ValueError(f"`metrics` must hold at least 2 runs. Received: {len(metrics)}.")
    names = [name for name in metrics[0] if all(name in run for run in metrics)]
    width = stats.t.ppf((1 + LEVEL) / 2, len(metrics) - 1) / np.sqrt(len(metrics))
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


def difference_over_seeds(before: np.ndarray, after: np.ndarray, paired: bool) -> SeedsTest:
    """Test whether runs with other seeds would show the difference of two means, too.

    There is no test for fewer than two seeds on a side, nor where seeds change nothing. Both sides
    have a metric per seed `(seeds,)`; `paired` says whether entry k of both has the same seed, so
    that both started from the same weights and saw the same batches.
    """
    varying = [after - before] if paired else [before, after]
    if min(len(before), len(after)) < 2 or not any(np.ptp(values) for values in varying):
        return SeedsTest()
    if paired:
        name, test = "paired t", stats.ttest_rel(after, before)
    else:
        name, test = "Welch's t", stats.ttest_ind(after, before, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    return SeedsTest(name, (float(interval.low), float(interval.high)), float(test.pvalue))
