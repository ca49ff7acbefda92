"""Checks of the windows: whether any shows what it is to predict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kdsr_tf.evaluation.checks.finding import LEAK, WARNING, Finding, finding
from kdsr_tf.evaluation.checks.interaction_log import Log
from kdsr_tf.evaluation.evaluation_inputs import Windows, read_windows
from kdsr_tf.schema import SPLITS

_WINDOWS_AT_ONCE = 4096
_SHOWN = {
    "train": "train windows that show held-out interactions",
    "validation": "validation windows that show their target or what follows",
    "test": "test windows that show their target or what follows",
}


def check_examples(log: Log, directory: str) -> Iterator[Finding]:
    """Check an `examples/` against the interactions it was cut from."""
    foreign, windows_read, points = [], 0, 0
    for split in SPLITS:
        leaking, total = [], 0
        for windows in read_windows(directory, split, _WINDOWS_AT_ONCE):
            leaks, differs = _examine(log, windows, split)
            leaking += _names(windows, leaks)
            foreign += [f"{split}: {name}" for name in _names(windows, differs & ~leaks)]
            total += len(leaks)
            if split != "test":
                points += sum(int(np.count_nonzero(row)) for row in windows.targets)
        windows_read += total
        yield finding(
            _SHOWN[split],
            LEAK,
            len(leaking),
            total,
            "windows",
            leaking,
            "The model is told answers of the test. Run `kdsr distill` again.",
        )
    yield finding(
        "windows that differ from their user's history",
        WARNING,
        len(foreign),
        windows_read,
        "windows",
        foreign,
        "The records do not belong to these sequences. Run `kdsr distill` again.",
    )
    expected = int(np.maximum(log.num_train - 1, 0).sum())
    yield finding(
        "train points without a target, or with several",
        WARNING,
        abs(points - expected),
        expected,
        "train points",
        [f"{points:,} targets in train and validation windows"],
        "Every train point must be learnt once. Run `kdsr distill` again.",
    )


def _names(windows: Windows, chosen: np.ndarray) -> list[str]:
    return [
        f"{windows.user_ids[k]} from position {windows.starts[k]}" for k in np.flatnonzero(chosen)
    ]


def _examine(log: Log, windows: Windows, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Per window, whether it shows what is held out and whether it differs from its history."""
    rows = np.array([log.row_of.get(user, -1) for user in windows.user_ids])
    sizes = np.array([len(items) for items in windows.items])
    stops = windows.starts + sizes
    if split == "train":
        hidden_from = log.held_out_from[rows]
        leaks = stops > hidden_from
        last = np.array([np.flatnonzero(row).max(initial=-1) for row in windows.targets])
        leaks |= windows.starts + last + 1 >= hidden_from
    else:
        hidden_from = stops
        trained = log.num_train[rows]
        leaks = stops != trained - 1 if split == "validation" else stops < trained
    differs = np.ones(len(rows), bool)
    for number, row in enumerate(rows):
        if row < 0:
            continue
        sequence, items = log.sequence(row), windows.items[number]
        targets, start, stop = windows.targets[number], windows.starts[number], stops[number]
        following = sequence[start + 1 : stop + 1]
        differs[number] = not (
            np.array_equal(sequence[start:stop], items)
            and len(following) == len(targets)
            and np.array_equal(np.where(targets > 0, following, 0), targets)
        )
        if differs[number]:
            hidden = np.setdiff1d(sequence[hidden_from[number] :], sequence[: hidden_from[number]])
            shown = np.union1d(items, targets) if split == "train" else items
            leaks[number] |= np.isin(hidden, shown).any()
    return leaks & (rows >= 0), differs
