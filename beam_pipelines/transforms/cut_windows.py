"""Cutting one user's sequence into train, validation and test windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from kdsr_tf import splits


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """At most `max_length` inputs of one user and their targets."""

    split: str  # `train`, `validation` or `test`
    items: np.ndarray  # int32 `(length,)`
    target: np.ndarray  # int32 `(length,)`, 0 where a position carries no loss
    start: int  # Position of the first input in the user's sequence


def cut_windows(
    sequence: np.ndarray, num_train: int, max_length: int, stride: int
) -> Iterator[Window]:
    """All windows of one user: train, then validation, then test, each in time order.

    Every train target has its loss in exactly one window. The validation target
    is no train target. A validation or test window ends right before its one
    target. A window has at least one input.

    Args:
        sequence: int32 `(interactions,)`, oldest first.
        num_train: Leading interactions that are train; the rest are test.
        max_length: Most inputs of a window.
        stride: Step between the train windows of a long sequence.

    Example:
        >>> windows = cut_windows(np.array([5, 6, 7, 8]), 3, max_length=2, stride=1)
        >>> [(w.split, w.items.tolist(), w.target.tolist()) for w in windows]
        [('train', [5], [6]), ('validation', [5, 6], [0, 7]), ('test', [6, 7], [0, 8])]
    """
    num_inputs = splits.num_inputs(num_train)
    for start, stop, first_loss in splits.training_windows(num_inputs, max_length, stride):
        target = sequence[start + 1 : stop + 1].copy()
        target[:first_loss] = 0
        yield Window("train", sequence[start:stop], target, start)
    if splits.has_validation(num_train):
        yield _point("validation", sequence, num_train - 1, max_length)
    for position in splits.evaluation_positions(len(sequence), num_train):
        yield _point("test", sequence, position, max_length)


def _point(split: str, sequence: np.ndarray, position: int, max_length: int) -> Window:
    start, stop = splits.evaluation_span(position, max_length)
    target = np.zeros(stop - start, np.int32)
    target[-1] = sequence[position]
    return Window(split, sequence[start:stop], target, start)
