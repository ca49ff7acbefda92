"""The windows of `examples/` as TFDS reads them, one by one or in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds

from kdsr_tf import schema
from kdsr_tf.data import joined

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
        """Windows in file order; those of two splits mixed and joined (`kdsr_tf.data.joined`)."""
        if len(splits) == 1:
            return self._of_split(fields, *splits)
        read = list(dict.fromkeys([*fields, schema.ITEMS, schema.TARGET, schema.WINDOW_START]))
        first, second = (self._of_split(read, split) for split in splits)
        num_first, num_second = map(self.num_windows, splits)
        windows = joined.join(first, second, self._max_length, num_first, num_second)
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
