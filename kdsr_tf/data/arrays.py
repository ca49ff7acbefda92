"""Windows in memory as NumPy arrays, for backends other than TensorFlow.

`write_arrays` packs a split of `examples/` into one `.npz` (it reads through
TFDS and so imports TensorFlow); everything else needs NumPy and Keras only.
"""

from __future__ import annotations

import itertools
from typing import Any

import fsspec
import keras
import numpy as np

from kdsr_tf import schema
from kdsr_tf.data.buckets import Buckets, few_lengths, histogram
from kdsr_tf.items.content import Content

_SIZES = "sizes/"


def write_arrays(directory: str, split: str, path: str) -> None:
    """Pack a split of `examples/` into one `.npz`; both are local paths or URIs."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    names = [name for name in builder.info.features if name not in _NOT_ARRAYS]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    if builder.info.splits[split].num_examples:  # TFDS refuses to read nothing
        for window in builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator():
            for name in names:
                parts[name].append(window[name])
    packed: dict[str, Any] = {}
    for name, arrays in parts.items():
        dtype = builder.info.features[name].np_dtype
        packed[name] = np.concatenate([np.zeros(0, dtype), *arrays])
        packed[_SIZES + name] = np.array([len(array) for array in arrays], np.int32)
    with fsspec.open(path, "wb") as file:
        np.savez(file, **packed)


class WindowArrays:
    """Windows packed end to end, one array per field.

    Args:
        path: File of `write_arrays`, local path or URI.

    Example:
        >>> windows = WindowArrays("train.npz")          # doctest: +SKIP
        >>> windows.batch(np.arange(2), length=50)["items"].shape  # doctest: +SKIP
        (2, 50)
    """

    def __init__(self, path: str) -> None:
        with fsspec.open(path, "rb") as file, np.load(file) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        self._fields = {name: a for name, a in stored.items() if not name.startswith(_SIZES)}
        self._starts = {
            name: np.concatenate([[0], np.cumsum(stored[_SIZES + name], dtype=np.int64)])
            for name in self._fields
        }

    def __len__(self) -> int:
        return len(self._starts[schema.ITEMS]) - 1

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Window and position of every target, windows in order."""
        at = np.flatnonzero(self._fields[schema.TARGET] > 0)
        starts = self._starts[schema.TARGET]
        windows = np.searchsorted(starts, at, side="right") - 1
        return windows, at - starts[windows]

    def sizes(self) -> np.ndarray:
        """Items of every window."""
        return np.diff(self._starts[schema.ITEMS])

    def batch(
        self,
        windows: np.ndarray,
        length: int,
        stops: np.ndarray | None = None,
        size: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Some windows as the right-padded dict that `KDSR` takes.

        Args:
            windows: Numbers of the windows, any order.
            length: Padded length, at least that of the longest of them.
            stops: Per window, how many items are taken; only the last of them keeps
                its target, and `target_index` says where. None takes whole windows.
            size: Windows of the batch, the rest of them empty; None adds none.
        """
        size = size or len(windows)
        batch = {}
        for name, values in self._fields.items():
            pairs = name.endswith(_PAIR_FIELDS)
            padded = np.zeros((size, schema.num_pairs(length) if pairs else length), values.dtype)
            for row, window in enumerate(windows):
                start, stop = self._starts[name][window : window + 2]
                if stops is not None:
                    held = schema.num_pairs(stops[row]) if pairs else stops[row]
                    stop = min(stop, start + held)
                padded[row, : stop - start] = values[start:stop]
            if name.endswith("_present"):
                padded = padded.astype(bool)
            elif name.endswith("_codes"):
                padded = padded.astype(np.int32)
            batch[name] = padded
        if stops is not None:
            last = np.pad(np.asarray(stops), (0, size - len(windows)))[:, None] - 1
            only = np.arange(length) == last
            batch[schema.TARGET] = np.where(only, batch[schema.TARGET], 0)
            index = np.where(only.any(axis=1), np.arange(size) * length + last[:, 0], -1)
            batch[schema.TARGET_INDEX] = index.astype(np.int32)
        return batch


class ArrayBatches(keras.utils.PyDataset):
    """Batches for `fit` from memory, without TensorFlow.

    JAX compiles once per shape: a batch has windows of like length, padded to one of
    `few_lengths`, and is filled up with empty windows; see `kdsr_tf.data.buckets`.

    Args:
        windows: The windows.
        batch_size: Windows, or prefixes, of a batch on average.
        length: Largest padded length, at least that of the longest window.
        seed: Shuffles epoch `e` by `(seed, e)`; None keeps the order within a length.
        prefixes: Whether every target becomes a row of its own that holds the items
            up to it, for backbones that are not causal.
        content: Features of all items if vectors are computed; a batch brings those of its items.
    """

    def __init__(
        self,
        windows: WindowArrays,
        batch_size: int,
        length: int,
        seed: int | None = None,
        prefixes: bool = False,
        content: Content | None = None,
    ) -> None:
        super().__init__()
        self._windows = windows
        self._content = content
        self._lengths = few_lengths(length)
        self._seed = seed
        self._epoch = 0
        self._prefixes = prefixes
        of_targets, positions = windows.targets()
        if prefixes:
            self._rows, self._stops = of_targets, positions + 1
            targets = np.ones_like(self._rows)
        else:
            self._rows, self._stops = np.arange(len(windows)), windows.sizes()
            targets = np.bincount(of_targets, minlength=len(windows))
        counts = histogram(self._stops, targets, self._lengths)
        self._buckets = Buckets([counts], self._lengths, batch_size)
        self._batches = self._shuffled()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray]]:
        rows = self._batches[index]
        stops = self._stops[rows]
        bucket = np.searchsorted(self._lengths, stops.max())
        batch = self._windows.batch(
            self._rows[rows],
            self._lengths[bucket],
            stops if self._prefixes else None,
            int(self._buckets.capacities[bucket]),
        )
        batch[schema.WINDOWS_PER_TARGET] = self._buckets.totals
        if self._content is not None:
            asked = batch[schema.ITEMS], batch[schema.TARGET]
            batch |= self._content.of_batch(*asked, round_up=True)
        return (batch,)

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._batches = self._shuffled()

    def _shuffled(self) -> list[np.ndarray]:
        """Row numbers of every batch of the epoch."""
        order = np.arange(len(self._rows))
        rng = None if self._seed is None else np.random.default_rng([self._seed, self._epoch])
        if rng is not None:
            rng.shuffle(order)
        padded = np.searchsorted(self._lengths, self._stops[order])
        order = order[np.argsort(padded, kind="stable")]
        (edges,) = self._buckets.edges
        batches = [order[start:stop] for start, stop in itertools.pairwise(edges)]
        if rng is not None:
            rng.shuffle(batches)
        return batches


_NOT_ARRAYS = (schema.USER_ID, schema.WINDOW_START)
_PAIR_FIELDS = ("_scores", "_codes")
