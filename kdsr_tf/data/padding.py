"""The lengths that windows are padded to."""

from __future__ import annotations

RATIO = 1.4
"""Bound on the padding of a window where lengths are few: a length over the one before it."""


def exact_lengths(max_length: int) -> list[int]:
    """Every length from 2 to the longest window: no padding, for steps that take any shape.

    Windows of one item are padded to two: pairs and softmaxes of one item are special cases.
    """
    return list(range(2, max_length + 1)) or [1]


def few_lengths(max_length: int) -> list[int]:
    """Lengths whose ratio is about `RATIO`: little padding, for steps compiled once per shape.

    Example:
        >>> few_lengths(50)
        [2, 3, 5, 8, 12, 17, 25, 35, 50]
    """
    lengths = [max_length]
    while lengths[0] > 2:
        lengths.insert(0, max(2, min(int(lengths[0] / RATIO), lengths[0] - 1)))
    return lengths
