"""Kinds of test points that metrics are also given for, each on its own.

A mean over all test points hides for whom a model works. A slice divides the
points into named groups, by what is known before ranking.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_HISTORY_LENGTHS = (1, 5, 10, 20, 50)


class Slice(NamedTuple):
    """One way to divide test points: names of the groups, and the group of each point, int8."""

    groups: tuple[str, ...]
    codes: np.ndarray


def slice_points(
    targets: np.ndarray,
    positions: np.ndarray,
    train_counts: np.ndarray,
    presence: Mapping[str, np.ndarray],
    head_share: float,
    cold_below: int,
) -> dict[str, Slice]:
    """Divide test points by their target and by their history.

    Args:
        targets: Target items `(points,)`.
        positions: Items before each target `(points,)`.
        train_counts: Occurrences of each item among train interactions `(items + 1,)`.
        presence: Per modality, whether an item has it `(items + 1,)`.
        head_share: Share of the items that are the head; see `head_items`.
        cold_below: An item with fewer train interactions is cold.

    Returns:
        `target_popularity` (head, tail), `target_training` (warm, cold),
        `target_<modality>` (present, absent) per modality, and `history_length`.
    """

    def divide(first: str, second: str, is_first: np.ndarray) -> Slice:
        return Slice((first, second), np.where(is_first[targets], 0, 1).astype(np.int8))

    lengths = [f"{a}-{b - 1}" for a, b in itertools.pairwise(_HISTORY_LENGTHS)]
    return {
        "target_popularity": divide("head", "tail", head_items(train_counts, head_share)),
        "target_training": divide("warm", "cold", train_counts >= cold_below),
        **{f"target_{m}": divide("present", "absent", has) for m, has in presence.items()},
        "history_length": Slice(
            (*lengths, f"{_HISTORY_LENGTHS[-1]}+"),
            (np.searchsorted(_HISTORY_LENGTHS, positions, side="right") - 1).astype(np.int8),
        ),
    }


def head_items(train_counts: np.ndarray, share: float) -> np.ndarray:
    """The items most often seen in training: the first `share` of the catalogue.

    Items as frequent as the last of them belong to the head too, so that membership
    never depends on the numbering of items. An item never seen in training does not.

    Args:
        train_counts: Occurrences among train interactions `(items + 1,)`; entry 0 is padding.
        share: Between 0 and 1.

    Example:
        >>> head_items(np.array([0, 5, 9, 5, 1, 0]), 0.4).tolist()
        [False, True, True, True, False, False]
    """
    counts = train_counts[1:]
    number = int(np.ceil(share * len(counts)))
    if not number:
        return np.zeros(len(train_counts), bool)
    least = max(1, int(np.partition(counts, len(counts) - number)[len(counts) - number]))
    return np.concatenate([[False], counts >= least])
