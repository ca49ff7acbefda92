"""The windows of `examples/` as TFDS reads them, one by one or in blocks; of one or two splits."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from kdsr_tf import schema
from kdsr_tf.splits import MIN_TRAIN_FOR_VALIDATION

Raw = dict[str, tf.Tensor]
"""Fields of one window: `items` and `target` byte strings, `window_start` a number."""

_ITEM_BYTES = 4
_KEPT = "kept"


def join(
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    max_length: int,
    num_train: int,
    num_validation: int,
) -> tf.data.Dataset:
    """All targets of both splits, each once, in the layout of the splits.

    Whoever has a validation target and at most `max_length` items before it has one train window
    and one validation window: the train window, its last target as one more item, and the held-out
    target alone. Learning from both would take two windows where one with all targets says the
    same. Longer sequences keep their windows apart: each has other items.

    The splits are interleaved evenly, always alike, before train windows are left out: what is
    left of a large split is spread over the whole. The numbers count their windows.
    """

    def left(window: Raw) -> Raw:
        size = tf.strings.length(window[schema.ITEMS]) // _ITEM_BYTES
        # Inputs are one fewer than train interactions, the held-out one not counted: with so
        # few of them there may be no validation window that has these items.
        few = size + 1 < MIN_TRAIN_FOR_VALIDATION
        return window | {_KEPT: (window[schema.WINDOW_START] > 0) | (size >= max_length) | few}

    def complete(window: Raw) -> Raw:
        items, target = window[schema.ITEMS], window[schema.TARGET]
        size = tf.strings.length(items)
        whole = (window[schema.WINDOW_START] == 0) & (
            size >= MIN_TRAIN_FOR_VALIDATION * _ITEM_BYTES
        )
        last = tf.strings.substr(target, size - _ITEM_BYTES, _ITEM_BYTES)
        following = tf.strings.substr(items, tf.minimum(_ITEM_BYTES, size), size - _ITEM_BYTES)
        return window | {schema.TARGET: tf.where(whole, following + last, target), _KEPT: True}

    total = num_train + num_validation
    # Not `sample_from_datasets`: its order depends on the global seed.
    turns = tf.data.Dataset.range(total).map(
        lambda i: tf.cast((i + 1) * num_validation // total > i * num_validation // total, tf.int64)
    )
    both = tf.data.Dataset.choose_from_datasets(
        [train.map(left), validation.map(complete)], turns, stop_on_empty_dataset=False
    )
    return both.filter(lambda window: window[_KEPT])


BLOCK_BYTES = 128 * 2**20
"""Windows are shuffled in blocks of about this size; smaller splits as a whole."""

MIN_BLOCK_WINDOWS = 4096

CACHED_BYTES = 2 * BLOCK_BYTES
"""Splits up to this size are read from their files once and stay in memory."""


class WindowFiles:
    """Reader of the files of one `examples/` directory. Fields are raw bytes.

    Attributes:
        features: Features of the windows, by field.
    """

    def __init__(self, directory: str, max_length: int) -> None:
        self._builder = tfds.builder_from_directory(directory)
        self._max_length = max_length
        self.features = self._builder.info.features

    def num_windows(self, split: str) -> int:
        """Windows of a split."""
        return self._builder.info.splits[split].num_examples

    def windows(self, fields: Sequence[str], splits: Sequence[str]) -> tf.data.Dataset:
        """Windows in file order; those of two splits mixed and joined (`join`)."""
        if len(splits) == 1:
            return self._of_split(fields, *splits)
        read = list(dict.fromkeys([*fields, schema.ITEMS, schema.TARGET, schema.WINDOW_START]))
        first, second = (self._of_split(read, split) for split in splits)
        num_first, num_second = map(self.num_windows, splits)
        windows = join(first, second, self._max_length, num_first, num_second)
        return windows.map(lambda window: {name: window[name] for name in fields})

    def blocks(
        self, fields: Sequence[str], splits: Sequence[str], keep: bool = False
    ) -> tf.data.Dataset:
        """Blocks of `windows`, each field a vector.

        With `keep`, blocks of small splits stay in memory: a second pass over those costs nothing,
        over single windows several microseconds each.
        """
        num_bytes = sum(self._builder.info.splits[split].num_bytes for split in splits)
        number = sum(map(self.num_windows, splits))
        size = max(MIN_BLOCK_WINDOWS, BLOCK_BYTES * number // max(num_bytes, 1))
        blocks = self.windows(fields, splits).batch(size)
        return blocks.cache() if keep and num_bytes <= CACHED_BYTES else blocks

    def _of_split(self, fields: Sequence[str], split: str) -> tf.data.Dataset:
        if not self.num_windows(split):  # TFDS refuses to read nothing
            return tf.data.Dataset.from_tensor_slices(
                {
                    name: tf.constant([], tf.int64 if name == schema.WINDOW_START else tf.string)
                    for name in fields
                }
            )
        windows = self._builder.as_dataset(
            split=split,
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
            decoders=tfds.decode.PartialDecoding(
                dict.fromkeys(fields, True),
                decoders=dict.fromkeys(fields, tfds.decode.SkipDecoding()),
            ),
        )
        return windows.map(lambda window: {name: window[name] for name in fields})
