"""Who is kept, what is train and test, and how long sequences become windows.

NumPy only: Beam workers, the trainer and tests share these rules.

A sequence of `n` interactions in time order is divided by `num_train`: the first
`num_train` are train, the rest test. With at least `MIN_TRAIN_FOR_VALIDATION`
train interactions the last of them is the validation target. A *point* is an
interaction with at least one before it; its history is everything before.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

LEAST_TIME = 10**8
"""Smallest number taken for a time, in seconds of 1973; below it may be positions."""

MIN_TRAIN_FOR_VALIDATION = 3
"""Fewest train interactions of a user who has a validation target."""


class Window(NamedTuple):
    """A window of a sequence."""

    start: int  # Position of the first input
    stop: int  # Position after the last input; targets are `start + 1 .. stop`.
    first_loss: int  # First position, relative to `start`, whose target carries loss


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Interactions left when every user and item must have at least `k` of them, bool `[n]`.

    Users and items below `k` are removed in turn until none is left below, so the result does not
    depend on the order. Both are non-negative integer codes `[n]`; a k of 0 or 1 keeps all.
    """
    kept = np.ones(len(users), bool)
    if k <= 1:
        return kept
    while True:
        enough_of_user = np.bincount(users[kept], minlength=_size(users)) >= k
        kept_next = kept & enough_of_user[users]
        enough_of_item = np.bincount(items[kept_next], minlength=_size(items)) >= k
        kept_next &= enough_of_item[items]
        if np.array_equal(kept_next, kept):
            return kept
        kept = kept_next


def num_train_ratio(num_interactions: int, test_fraction: float) -> int:
    """Train interactions where the last `floor(test_fraction * n)` are test.

    The product is exact: `0.29 * 100` is 29, not 28.999….

    Example:
        >>> num_train_ratio(14, 0.2)
        12
    """
    share = Fraction(str(test_fraction))
    return num_interactions - num_interactions * share.numerator // share.denominator


def num_train_leave_last_out(num_interactions: int) -> int:
    """Train interactions where the last one is test; a single one stays train."""
    return max(num_interactions - 1, min(num_interactions, 1))


def num_train_global_time(timestamps: np.ndarray, first_test_time: int) -> int:
    """Train interactions of a user, in order of time, if all from one moment on are test."""
    # `searchsorted` would round a moment after the last 64-bit number.
    return int(np.count_nonzero(timestamps < first_test_time))


def first_test_time(timestamps: np.ndarray, test_fraction: float) -> int:
    """Moment from which on at least `test_fraction` (in `[0, 1)`) of all interactions happen.

    The times are in any order, int64 `[n]`, `n > 0`. 0 gives a moment after the last one.
    """
    num_train = num_train_ratio(len(timestamps), test_fraction)
    if num_train == len(timestamps):
        return int(timestamps.max()) + 1
    return int(np.partition(timestamps, num_train)[num_train])


def are_positions(last: np.ndarray, counts: np.ndarray) -> bool:
    """Whether timestamps only number the interactions of each user.

    They do if most users have at least half of the numbers from 0 (or 1) to their last one,
    and none twice. Not all of them: rows that are rejected or outside the k-core leave gaps.
    Positions say nothing about who acted before whom. `last` and `counts` are the greatest
    timestamp and the number of interactions of each user, int64 `[u]`.
    """
    if not len(last) or last.max() >= LEAST_TIME:
        return False
    filled = (counts <= last + 1) & (2 * counts >= last + 1)
    return 2 * int(filled.sum()) > len(last)


def has_validation(num_train: int) -> bool:
    """Whether the last train interaction is the validation target."""
    return num_train >= MIN_TRAIN_FOR_VALIDATION


def num_inputs(num_train: int) -> int:
    """Inputs of a user's train windows: one per train target, the validation target not counted."""
    return max(num_train - has_validation(num_train) - 1, 0)


def training_windows(num_inputs: int, max_length: int, stride: int) -> list[Window]:
    """Windows in which every target has its loss exactly once.

    Windows start every `stride` positions, which is in `1..max_length`. A target has its loss in
    the earliest window where at least `max_length - stride` items precede it, or all of them.
    `num_inputs` are the interactions used for training, minus 1. A window's inputs are
    `sequence[start:stop]`, its targets `sequence[start + 1:stop + 1]`.

    Example:
        >>> training_windows(7, max_length=4, stride=2)
        [Window(start=0, stop=4, first_loss=0), Window(start=2, stop=6, first_loss=2), \
Window(start=4, stop=7, first_loss=2)]
    """
    if not 1 <= stride <= max_length:
        raise ValueError(
            f"`stride` must be between 1 and `max_length`. Received: stride={stride}, "
            f"max_length={max_length}."
        )
    if num_inputs <= 0:
        return []
    windows = [Window(0, min(num_inputs, max_length), 0)]
    while windows[-1].stop < num_inputs:
        start = windows[-1].start + stride
        windows.append(Window(start, min(start + max_length, num_inputs), max_length - stride))
    return windows


def context_lost(num_inputs: int, max_length: int, stride: int) -> int:
    """Items that targets cannot see because a window starts too late, summed.

    A target could see the last `max_length` items before it at most; divide by
    the number of targets for the mean.
    """
    lost = 0
    for start, stop, first_loss in training_windows(num_inputs, max_length, stride):
        seen = np.arange(first_loss, stop - start) + 1
        lost += int((np.minimum(seen + start, max_length) - seen).sum())
    return lost


def evaluation_span(position: int, max_length: int) -> tuple[int, int]:
    """`start` and `stop` of the inputs of a point: the last `max_length` items before it."""
    return max(position - max_length, 0), position


def evaluation_positions(num_interactions: int, num_train: int) -> range:
    """Positions of a user's test points (each has at least one item before it)."""
    return range(max(num_train, 1), num_interactions)


def _size(codes: np.ndarray) -> int:
    return int(codes.max(initial=-1)) + 1
