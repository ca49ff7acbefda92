"""Vectors and states of the frozen encoders as content of computed items."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import fsspec
import numpy as np

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.items.content import Content
from kdsr_tf.schema import present_key, states_key
from kdsr_tf.teacher.feature_files import Features, States
from kdsr_tf.teacher.item_rows import PRESENT, ROWS, STATISTICS


class StateStatistics(NamedTuple):
    """What the states of a modality are like.

    Attributes:
        sizes: Width of every level.
        mean: Mean of every number over the items, floats `(sum of sizes,)`.
        deviation: Root of the mean squared distance from it, floats `(levels,)`.
    """

    sizes: tuple[int, ...]
    mean: np.ndarray
    deviation: np.ndarray


def read_content(config: Config, num_new: int = 0) -> Content | None:
    """The content of all items that the method computes vectors from.

    Args:
        config: The configuration; its `needs` names the modalities.
        num_new: Number of the items of `new_items/` that are read too; they follow the others.

    Returns:
        Per modality m of `needs.content`: m, float32 `(num_items + 1, size)`, and per one of
        `needs.states`: `{m}_states`, `(num_items + 1, sum of sizes)`; zeros for items without it.
        For all of them `{m}_present`, bool `(num_items + 1,)`. Rows are memory-mapped. None if no
        content is needed.

    Raises:
        MissingArtifactError: naming the stage to run first.
    """
    found: dict[str, np.ndarray | JoinedRows] = {}
    for name in stages.content_of(config):
        kind, _, modality = name.partition("/")
        folder = stages.location(config, name)
        details = artifacts.read_manifest(folder, written_by="teach").details
        rows, present = (map_array(join(folder, file)) for file in (ROWS, PRESENT))
        key = states_key(modality) if kind == stages.STATES else modality
        found |= {key: rows, present_key(modality): present}
        if num_new:
            added = join(stages.location(config, stages.NEW_ITEMS), modality)
            new, has = _new_rows(kind, added, details, num_new, len(rows))
            found[key] = JoinedRows(rows, new)
            found[present_key(modality)] = np.concatenate([present, has])
    return Content(found) if found else None


def read_statistics(config: Config) -> dict[str, StateStatistics]:
    """Statistics of the states, by modality; none if no states are needed."""
    found = {}
    for modality in config.needs.states:
        folder = stages.location(config, f"{stages.STATES}/{modality}")
        sizes = artifacts.read_manifest(folder, written_by="teach").details["sizes"]
        with fsspec.open(join(folder, STATISTICS), "rb") as file, np.load(file) as saved:
            found[modality] = StateStatistics(tuple(sizes), saved["mean"], saved["deviation"])
    return found


class JoinedRows:
    """The rows of two arrays, one after the other, none of which is read as a whole.

    Args:
        first: `(any, size)`.
        second: `(any, size)`, of the same dtype.

    Example:
        >>> JoinedRows(np.eye(2), 5 * np.eye(2))[np.array([3, 0])].tolist()
        [[0.0, 5.0], [1.0, 0.0]]
    """

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._first, self._second = first, second
        self.shape, self.dtype = (len(first) + len(second), *first.shape[1:]), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        later = rows >= len(self._first)
        found[~later] = self._first[rows[~later]]
        found[later] = self._second[rows[later] - len(self._first)]
        return found


def map_array(path: str) -> np.ndarray:
    """An `.npy` file as a memory map; one of a remote store through a local copy without a name.

    Args:
        path: Local path or URI.
    """
    if "://" not in path:
        return np.load(path, mmap_mode="r")
    # The file has no name: it ends with the process, however that ends.
    with fsspec.open(path, "rb") as remote, tempfile.TemporaryFile() as file:
        shutil.copyfileobj(remote, file)
        file.seek(0)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)


def _new_rows(
    kind: str, folder: str, details: Mapping, num_new: int, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of new items, the first of which is item `first`, and which of them have one."""
    sizes: Sequence[int] = details["sizes"]
    read = States(folder, sizes) if kind == stages.STATES else Features(folder, sizes[0])
    rows = np.zeros((num_new, sum(sizes)), details["dtype"])
    present = np.zeros(num_new, bool)
    for items, values in read.batches():
        rows[items - first], present[items - first] = values, True
    return rows, present
