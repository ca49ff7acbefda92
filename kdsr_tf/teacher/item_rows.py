"""What the encoders say of items, as rows that training maps into memory.

`features/` is a stream in the order in which it was encoded; a training step reads the rows of
its items. They are written once, in memory that does not grow with the catalogue, and read by
train, evaluate and export.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.console import progress
from kdsr_tf.paths import local_folder
from kdsr_tf.sequences import count_items
from kdsr_tf.stage_frame import StageFrame
from kdsr_tf.teacher.feature_files import Features, States

ROWS, PRESENT, STATISTICS = "rows.npy", "present.npy", "statistics.npz"


def write_item_rows(config: Config, name: str) -> Manifest:
    """Write `content/<modality>` or `states/<modality>`, unless it is up to date.

    Args:
        config: The configuration.
        name: The artifact.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if features and sequences do not belong together.
    """
    kind, _, modality = name.partition("/")
    with StageFrame(config, name) as frame:
        if frame.current is not None:
            return frame.current
        folder = stages.location(config, f"features/{modality}")
        details = frame.inputs[f"features/{modality}"].details
        if kind == stages.STATES:
            described = details["states"]
            read: Features = States(folder, described["sizes"])
            levels, dtype = described["sizes"], described["dtype"]
        else:
            read = Features(folder, details["size"])
            levels, dtype = [details["size"]], "float32"
        num_items = count_items(stages.location(config, "sequences"))
        with local_folder(frame.new_folder()) as target:
            found = _write(read, levels, dtype, num_items, target, f"teach {name}")
        frame.manifest.counts = {"items": found, "absent": num_items - found}
        frame.manifest.details = {"sizes": list(levels), "dtype": dtype}
    return frame.manifest


def _write(
    read: Features, levels: Sequence[int], dtype: str, num_items: int, folder: str, title: str
) -> int:
    """Write the files; the number of items that have a row."""
    path, present = os.path.join(folder, ROWS), np.zeros(num_items + 1, bool)
    empty_rows(path, (num_items + 1, read.size), dtype)
    moments = Moments(read.size)
    with progress(title, total=max(len(read), 1)) as bar:
        for items, values in read.batches():
            # Mapped anew per batch, so that touched pages do not add up.
            np.load(path, mmap_mode="r+")[items] = values
            present[items] = True
            moments.add(values)
            bar.advance(len(items))
    np.save(os.path.join(folder, PRESENT), present)
    mean, variance = moments.result()
    of_levels = np.split(variance, np.cumsum(levels)[:-1])
    deviation = np.sqrt([level.mean() for level in of_levels])
    np.savez(os.path.join(folder, STATISTICS), mean=mean, deviation=deviation)
    return int(present.sum())


class Moments:
    """Mean and variance of every column of rows that come in batches.

    Distances are taken from the first row, so that a column without any has the variance 0 and
    a large mean costs no digits.

    Args:
        size: Number of columns.

    Example:
        >>> moments = Moments(2)
        >>> moments.add(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> [values.tolist() for values in moments.result()]
        [[2.0, 5.0], [1.0, 0.0]]
    """

    def __init__(self, size: int) -> None:
        self._first: np.ndarray | None = None
        self._count, self._total, self._squares = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        """Count a batch of rows, `(any, size)`."""
        rows = np.asarray(rows, "float64")
        if self._first is None and len(rows):
            self._first = rows[0].copy()
        if len(rows):
            away = rows - self._first
            self._count += len(rows)
            self._total += away.sum(0)
            self._squares += np.square(away).sum(0)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance, `(size,)` each; zeros without rows."""
        count = max(self._count, 1)
        mean = self._total / count
        first = 0.0 if self._first is None else self._first
        return first + mean, np.maximum(self._squares / count - np.square(mean), 0.0)


def empty_rows(path: str, shape: tuple[int, int], dtype: str) -> None:
    """Make an `.npy` file of zeros whose room on the disk is taken at once.

    Raises:
        OSError: if there is no such room.
    """
    # A new memory map is a sparse file of zeros.
    np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape).flush()
    if hasattr(os, "posix_fallocate"):
        # A page that finds no room on the disk later would kill the process (SIGBUS).
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
