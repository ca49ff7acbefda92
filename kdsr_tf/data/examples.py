"""Batches of windows from `examples/`, through TFDS and tf.data.

Fields stay raw bytes until a whole batch is decoded by one operation per field
(`tf.io.decode_raw` pads as it decodes), not window by window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from kdsr_tf import schema
from kdsr_tf.data import joined, prefixes
from kdsr_tf.data.content_batches import with_content
from kdsr_tf.data.padding import TARGET_SLOTS, padded_lengths
from kdsr_tf.items.content import Content

BLOCK_BYTES = 128 * 2**20
"""Windows are shuffled in blocks of about this size; smaller splits as a whole."""

MIN_BLOCK_WINDOWS = 4096

CACHED_BYTES = 2 * BLOCK_BYTES
"""Splits up to this size are read from their files once and stay in memory."""


class Examples:
    """Reader of one `examples/` directory.

    Every batch is the dict that `KDSR` takes: `items` and `target` int32
    `(batch, length)` and per modality `*_present` bool `(batch, length)`,
    `*_scores` float16 and `*_codes` int32 `(batch, length(length-1)/2)`,
    right-padded with 0. `length` is the smallest of `lengths` that holds the
    longest window of the batch: few distinct shapes, whatever the data. No
    window is dropped; the last batch of an epoch may be smaller.

    Args:
        directory: Local path or URI of `examples/`.
        max_length: Longest window, as in `windows.max_length`.
        modalities: Modalities whose pairs are read.
        prefixes: Whether training sees one prefix per example (see
            `kdsr_tf.data.prefixes`) and not whole windows; validation and test
            windows have one target and are prefixes already.
        target_index: Whether batches carry `target_index`, which compiled steps
            need to compute logits at targets only.
        lengths: Padded lengths, ascending and ending in `max_length`; None is
            `padded_lengths(max_length)`, or for prefixes of steps that are not compiled
            every length from 2.
        content: Of all items, where they are computed.

    Raises:
        ValueError: if `lengths` does not ascend to `max_length`.
    """

    def __init__(
        self,
        directory: str,
        max_length: int,
        modalities: Sequence[str] = (),
        prefixes: bool = False,
        target_index: bool = False,
        lengths: Sequence[int] | None = None,
        content: Content | None = None,
    ) -> None:
        if lengths is None:
            # A step that is not compiled takes any shape, and a batch of prefixes then has
            # no padding. Prefixes of one item have no pairs: they join those of two.
            exact = prefixes and not target_index and max_length > 1
            lengths = range(2, max_length + 1) if exact else padded_lengths(max_length)
        if list(lengths) != sorted(set(lengths)) or lengths[-1] != max_length:
            raise ValueError(
                f"`lengths` must ascend to `max_length`. Received: lengths={list(lengths)}, "
                f"max_length={max_length}."
            )
        self._builder = tfds.builder_from_directory(directory)
        self._lengths = tf.constant(lengths, tf.int32)
        self._max_length = max_length
        self._modalities = tuple(modalities)
        self._prefixes = prefixes
        self._target_index = target_index
        self._content = content
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._num_joined: int | None = None

    def num_windows(self, split: str) -> int:
        """Windows of a split."""
        return self._builder.info.splits[split].num_examples

    def steps_per_epoch(self, batch_size: int, splits: Sequence[str] = ("train",)) -> int:
        """Batches of one epoch of training.

        Raises:
            ConfigError: if prefixes are asked for and windows cut them short.
        """
        if self._prefixes:
            return prefixes.num_batches(self._prefix_counts(tuple(splits)), batch_size)
        return math.ceil(self._num_read(splits) / batch_size)

    def batches(self, split: str, batch_size: int) -> tf.data.Dataset:
        """One ordered pass over a split."""
        return self._decoded(self._batched(self._fields, (split,), batch_size))

    def train_batches(
        self,
        batch_size: int,
        epochs: int,
        seed: int,
        first_epoch: int = 0,
        first_step: int = 0,
        splits: Sequence[str] = ("train",),
    ) -> tf.data.Dataset:
        """All epochs in one stream, each in its own order.

        The order of epoch `e` depends on `seed` and `e` and on nothing else, so a
        stream that starts at `(first_epoch, first_step)` equals the tail of the
        whole one. (`Dataset.shuffle` would also depend on the global seed.) Blocks of
        `BLOCK_BYTES` are shuffled as a whole, one ahead of training; windows were
        spread over the files by a hash of their user.

        Args:
            batch_size: Windows, or prefixes, per batch.
            epochs: Epoch at which the stream ends.
            seed: Any int >= 0.
            first_epoch: Epoch of the first batch, from 0.
            first_step: Batches of that epoch to leave out.
            splits: `train`, and `validation` with it: then whoever has one window in both
                adds one to the epoch, with the targets of both (see `kdsr_tf.data.joined`).
        """
        blocks = self._batched(self._fields, splits, self._block_windows(splits)).enumerate()
        key = tf.constant([seed & (2**31 - 1), seed >> 31], tf.int64)
        fold_in = tf.random.experimental.stateless_fold_in

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            def windows(block: tf.Tensor, raw: prefixes.Raw) -> prefixes.Raw:
                order = tf.random.experimental.stateless_shuffle(
                    tf.range(tf.shape(raw[schema.ITEMS])[0]), fold_in(fold_in(key, epoch), block)
                )
                return {name: tf.gather(values, order) for name, values in raw.items()}

            def prefixes_of(block: tf.Tensor, raw: prefixes.Raw) -> tf.data.Dataset:
                return prefixes.prefix_batches(
                    raw,
                    fold_in(fold_in(key, epoch), block),
                    batch_size,
                    self._lengths,
                    *self._value_bytes(),
                )

            if self._prefixes:
                return blocks.prefetch(1).flat_map(prefixes_of)
            return blocks.map(windows).prefetch(1).rebatch(batch_size)

        stream = tf.data.Dataset.range(first_epoch, epochs)
        return self._decoded(stream.flat_map(epoch_batches).skip(first_step))

    def complete(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Add to batches, or to parts of batches, what depends on all of their rows.

        Args:
            batches: Of `batches` or `train_batches`.

        Returns:
            The same batches where items are looked up; with content where they are computed.
        """
        if self._content is None:
            return batches
        return with_content(batches, self._content, round_up=self._target_index)

    @property
    def _fields(self) -> list[str]:
        pairs = [make(modality) for modality in self._modalities for make in _PAIR_KEYS]
        return [schema.ITEMS, schema.TARGET, *pairs]

    def _value_bytes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes of a value of the fields with one per item, and of those with one per pair."""
        features = self._builder.info.features
        sizes = {name: features[name].tf_dtype.size for name in self._fields}
        pairs = {
            make(m) for m in self._modalities for make in (schema.scores_key, schema.codes_key)
        }
        return (
            {name: size for name, size in sizes.items() if name not in pairs},
            {name: size for name, size in sizes.items() if name in pairs},
        )

    def _prefix_counts(self, splits: tuple[str, ...]) -> list[int]:
        """Prefixes per block of windows: one pass over the targets, made once."""
        if splits not in self._counts:
            fields = [schema.TARGET, schema.WINDOW_START]
            blocks = self._raw(fields, splits).batch(self._block_windows(splits)).prefetch(1)
            self._counts[splits] = [
                prefixes.count_prefixes(block, self._max_length) for block in blocks
            ]
        return self._counts[splits]

    def _num_bytes(self, splits: Sequence[str]) -> int:
        return sum(self._builder.info.splits[split].num_bytes for split in splits)

    def _block_windows(self, splits: Sequence[str]) -> int:
        windows = sum(map(self.num_windows, splits))
        return max(MIN_BLOCK_WINDOWS, BLOCK_BYTES * windows // max(self._num_bytes(splits), 1))

    def _num_read(self, splits: Sequence[str]) -> int:
        """Windows of one epoch: those of two splits may be one."""
        if len(splits) == 1:
            return self.num_windows(splits[0])
        if self._num_joined is None:
            windows = self._raw([schema.ITEMS], splits)
            self._num_joined = int(windows.reduce(np.int64(0), lambda count, _: count + 1))
        return self._num_joined

    def _batched(self, fields: Sequence[str], splits: Sequence[str], size: int) -> tf.data.Dataset:
        """Batches of `_raw`. Small splits are kept as batches: a second pass over those costs
        nothing, over single windows several microseconds each."""
        batches = self._raw(fields, splits).batch(size)
        return batches.cache() if self._num_bytes(splits) <= CACHED_BYTES else batches

    def _raw(self, fields: Sequence[str], splits: Sequence[str]) -> tf.data.Dataset:
        """Windows as scalar strings, in file order; those of two splits mixed and joined."""
        if len(splits) == 1:
            return self._raw_of(fields, *splits)
        read = list(dict.fromkeys([*fields, schema.ITEMS, schema.TARGET, schema.WINDOW_START]))
        first, second = (self._raw_of(read, split) for split in splits)
        windows = joined.join(
            first,
            second,
            self._max_length,
            *map(self.num_windows, splits),
        )
        return windows.map(lambda window: {name: window[name] for name in fields})

    def _raw_of(self, fields: Sequence[str], split: str) -> tf.data.Dataset:
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

    def _decoded(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        features = self._builder.info.features

        def decode(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            longest = tf.reduce_max(tf.strings.length(raw[schema.ITEMS])) // 4
            length = self._lengths[tf.searchsorted(self._lengths, longest[tf.newaxis])[0]]
            pairs = length * (length - 1) // 2

            def array(name: str, width: tf.Tensor) -> tf.Tensor:
                dtype = features[name].tf_dtype
                # There is no padded decoder of float16: its bits are read as uint16.
                bits = tf.uint16 if dtype == tf.float16 else dtype
                # At least one value is decoded: windows of one item have no pairs.
                size = tf.maximum(width, 1) * dtype.size
                values = tf.io.decode_raw(raw[name], bits, fixed_length=size)
                return tf.bitcast(values, dtype)[:, :width]

            batch = {name: array(name, length) for name in (schema.ITEMS, schema.TARGET)}
            for modality in self._modalities:
                present, scores, codes = (make(modality) for make in _PAIR_KEYS)
                batch[present] = tf.cast(array(present, length), tf.bool)
                batch[scores] = array(scores, pairs)
                batch[codes] = tf.cast(array(codes, pairs), tf.int32)
            if self._target_index:
                batch[schema.TARGET_INDEX] = _target_index(batch[schema.TARGET])
            return batch

        return batches.map(decode, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _target_index(target: tf.Tensor) -> tf.Tensor:
    """Where in the flattened targets a loss is taken; see `schema.TARGET_INDEX`."""
    at = tf.cast(tf.where(tf.reshape(target, [-1]) > 0)[:, 0], tf.int32)
    slot = -(-tf.size(target) // TARGET_SLOTS)
    missing = -tf.size(at) % slot
    return tf.pad(at, [[0, missing]], constant_values=-1)


_PAIR_KEYS = (schema.present_key, schema.scores_key, schema.codes_key)
