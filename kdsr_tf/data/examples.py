"""Batches of windows from `examples/`, through TFDS and tf.data.

Fields stay raw bytes until a whole batch is decoded by one operation per field
(`tf.io.decode_raw` pads as it decodes), not window by window.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.data.block_rows import Raw, count_rows, find_rows, take_rows
from kdsr_tf.data.buckets import Buckets, Histogram, exact_lengths, few_lengths
from kdsr_tf.data.window_files import WindowFiles
from kdsr_tf.items.content import Content


def with_content(batches: tf.data.Dataset, content: Content, round_up: bool) -> tf.data.Dataset:
    """Add `Content.of_batch` of its `items` and `target` to every batch.

    The features are read while the step before runs, from wherever `content` has them, so that
    no graph of a step holds Python or a feature matrix.
    """
    features = {schema.content_key(name): spec for name, spec in content.spec.items()}
    shapes = {schema.BATCH_ITEMS: [None]} | {k: [None, *s.shape] for k, s in features.items()}
    dtypes = {schema.BATCH_ITEMS: tf.int32} | {k: s.dtype for k, s in features.items()}

    def read(items: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        found = content.of_batch(items, targets, round_up=round_up)
        return [found[name] for name in shapes]

    def add(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        asked = [batch[schema.ITEMS], batch[schema.TARGET]]
        found = tf.numpy_function(read, asked, [dtypes[name] for name in shapes])
        for values, shape in zip(found, shapes.values(), strict=True):
            values.set_shape(shape)
        return batch | dict(zip(shapes, found, strict=True))

    return batches.map(add, tf.data.AUTOTUNE, deterministic=True)


class Examples:
    """Reader of one `examples/` directory.

    Every batch is the dict that `KDSR` takes: `items` and `target` int32
    `(batch, length)` and per modality `*_present` bool `(batch, length)`,
    `*_scores` float16 and `*_codes` int32 `(batch, length(length-1)/2)`,
    right-padded with 0. A batch has windows of like length and about as many targets as
    every other one (`kdsr_tf.data.buckets`); `length` is the smallest padded length that
    holds the longest of them. No window is dropped; a batch may be smaller where its
    block ends.

    Args:
        directory: Local path or URI of `examples/`.
        max_length: Longest window, as in `windows.max_length`.
        modalities: Modalities whose pairs are read.
        prefixes: Whether training sees one prefix per target and not whole windows (see
            `kdsr_tf.data.block_rows`); validation and test windows have one target and are
            prefixes already.
        few_shapes: Whether batches have few shapes, for steps that are compiled once per
            shape: few lengths, one batch size per length (the rest are empty windows), and
            `target_index`, so that logits are computed at targets only.
        content: Features of all items if vectors are computed; a batch brings those of its items.
    """

    def __init__(
        self,
        directory: str,
        max_length: int,
        modalities: Sequence[str] = (),
        prefixes: bool = False,
        few_shapes: bool = False,
        content: Content | None = None,
    ) -> None:
        self._files = WindowFiles(directory, max_length)
        self._lengths = few_lengths(max_length) if few_shapes else exact_lengths(max_length)
        self._max_length = max_length
        self._modalities = tuple(modalities)
        self._prefixes = prefixes
        self._content = content
        self._few_shapes = few_shapes
        self._histograms: dict[tuple[tuple[str, ...], bool], list[Histogram]] = {}

    def num_windows(self, split: str) -> int:
        """Windows of a split."""
        return self._files.num_windows(split)

    def steps_per_epoch(self, batch_size: int, splits: Sequence[str] = ("train",)) -> int:
        """Batches of one epoch of training.

        Raises:
            ConfigError: if prefixes are asked for and windows cut them short.
        """
        return self._buckets(splits, batch_size, self._prefixes).num_batches

    def num_batches(self, split: str, batch_size: int) -> int:
        """Batches of one pass over a split."""
        return self._buckets((split,), batch_size, prefixes=False).num_batches

    def batches(self, split: str, batch_size: int) -> tf.data.Dataset:
        """One pass over the windows of a split, the same every time, short ones first."""
        batches = self._batches((split,), batch_size, prefixes=False, keys=None)
        # `Model.fit` warns of data that ends unannounced.
        known = tf.data.experimental.assert_cardinality(self.num_batches(split, batch_size))
        return batches.apply(known)

    @tf.autograph.experimental.do_not_convert
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

        The rows of a block are shuffled, sorted by padded length (those of one length keep
        their random order) and cut into batches, which are shuffled again: a batch is random
        but for its length. The order of epoch `e` depends on `seed` and `e` and on nothing
        else, so a stream that starts at `(first_epoch, first_step)` equals the tail of the
        whole one. (`Dataset.shuffle` would also depend on the global seed.) Blocks of
        windows (`WindowFiles.blocks`) are shuffled as a whole, one ahead of training; windows were
        spread over the files by a hash of their user.

        Args:
            batch_size: Windows, or prefixes, of a batch on average.
            epochs: Epoch at which the stream ends.
            seed: Any int >= 0.
            first_epoch: Epoch of the first batch, from 0.
            first_step: Batches of that epoch to leave out.
            splits: `train`, and `validation` with it: then whoever has one window in both
                adds one to the epoch, with the targets of both (see `kdsr_tf.data.window_files`).
        """
        key = tf.constant([seed & (2**31 - 1), seed >> 31], tf.int64)
        epoch_keys = tf.data.Dataset.range(first_epoch, epochs).map(
            lambda epoch: tf.random.experimental.stateless_fold_in(key, epoch)
        )
        return self._batches(splits, batch_size, self._prefixes, epoch_keys, first_step)

    @tf.autograph.experimental.do_not_convert
    def sample(self, count: int, seed: int) -> tf.data.Dataset:
        """One batch of at most `count` random windows, or prefixes, of any length, to train on."""
        block = next(iter(self._files.blocks(self._fields, ("train",), keep=True)))
        rows = find_rows(block, self._max_length, self._prefixes)
        rows = tf.random.experimental.stateless_shuffle(rows, [seed, 0])[:count]
        raw = take_rows(block, rows, self._prefixes, *self._value_bytes())
        batch = self._decoded(raw, capacities=None)
        return self._with_content(tf.data.Dataset.from_tensors(batch))

    @tf.autograph.experimental.do_not_convert
    def _batches(
        self,
        splits: Sequence[str],
        batch_size: int,
        prefixes: bool,
        keys: tf.data.Dataset | None,
        first: int = 0,
    ) -> tf.data.Dataset:
        """One pass over the rows of some splits per key, shuffled by it; one in order without.

        `first` batches are left out.
        """
        buckets = self._buckets(splits, batch_size, prefixes)
        edges = tf.ragged.constant(
            [edges.tolist() for edges in buckets.edges], tf.int32, ragged_rank=1
        )
        blocks = self._files.blocks(self._fields, splits, keep=True).enumerate()
        shuffle = tf.random.experimental.stateless_shuffle

        def of_block(number: tf.Tensor, block: Raw, *, key: tf.Tensor | None) -> tf.data.Dataset:
            rows = find_rows(block, self._max_length, prefixes)
            spans = tf.stack([edges[number][:-1], edges[number][1:]], axis=1)
            if key is not None:
                key = tf.random.experimental.stateless_fold_in(key, number)
                of_rows, of_spans = tf.unstack(tf.random.experimental.stateless_split(key, 2))
                rows, spans = shuffle(rows, of_rows), shuffle(spans, of_spans)
            padded = tf.searchsorted(self._lengths, rows[:, 1])
            rows = tf.gather(rows, tf.argsort(padded, stable=True))
            return tf.data.Dataset.from_tensor_slices(spans).map(
                lambda span: take_rows(
                    block, rows[span[0] : span[1]], prefixes, *self._value_bytes()
                )
            )

        def one_pass(key: tf.Tensor | None) -> tf.data.Dataset:
            return blocks.prefetch(1).flat_map(functools.partial(of_block, key=key))

        raw = one_pass(None) if keys is None else keys.flat_map(one_pass)
        capacities = tf.constant(buckets.capacities, tf.int32) if self._few_shapes else None
        share = {schema.WINDOWS_PER_TARGET: tf.constant(buckets.totals)}
        decoded = raw.skip(first).map(
            lambda batch: self._decoded(batch, capacities) | share,
            tf.data.AUTOTUNE,
            deterministic=True,
        )
        return self._with_content(decoded).prefetch(2)

    def _buckets(self, splits: Sequence[str], batch_size: int, prefixes: bool) -> Buckets:
        """The batches of a pass. Rows are counted once: one pass over items and targets."""
        read = tuple(splits), prefixes
        if read not in self._histograms:
            fields = [schema.ITEMS, schema.TARGET, schema.WINDOW_START]
            blocks = self._files.blocks(fields, splits).prefetch(1)
            self._histograms[read] = [
                count_rows(block, self._max_length, prefixes, self._lengths) for block in blocks
            ]
        return Buckets(self._histograms[read], self._lengths, batch_size)

    def _with_content(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        if self._content is None:
            return batches
        return with_content(batches, self._content, round_up=self._few_shapes)

    @property
    def _fields(self) -> list[str]:
        pairs = [make(modality) for modality in self._modalities for make in _PAIR_KEYS]
        return [schema.ITEMS, schema.TARGET, *pairs]

    def _value_bytes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Bytes of a value of the fields with one per item, and of those with one per pair."""
        sizes = {name: self._files.features[name].tf_dtype.size for name in self._fields}
        pairs = {
            make(m) for m in self._modalities for make in (schema.scores_key, schema.codes_key)
        }
        return (
            {name: size for name, size in sizes.items() if name not in pairs},
            {name: size for name, size in sizes.items() if name in pairs},
        )

    def _decoded(self, raw: Raw, capacities: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """A batch, with as many windows as `capacities` says for its length."""
        features = self._files.features
        longest = tf.reduce_max(tf.strings.length(raw[schema.ITEMS])) // 4
        bucket = tf.searchsorted(self._lengths, longest[tf.newaxis])[0]
        length = tf.gather(self._lengths, bucket)
        pairs = length * (length - 1) // 2
        if capacities is not None:
            empty = tf.fill([capacities[bucket] - tf.size(raw[schema.ITEMS])], "")
            raw = {name: tf.concat([values, empty], axis=0) for name, values in raw.items()}

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
        if self._few_shapes:
            batch[schema.TARGET_INDEX] = self._target_index(batch[schema.TARGET])
        return batch

    def _target_index(self, target: tf.Tensor) -> tf.Tensor:
        """Where in the flattened targets a loss is taken; see `schema.TARGET_INDEX`.

        Their number per window is rounded up to a padded length or to 1.
        """
        at = tf.cast(tf.where(tf.reshape(target, [-1]) > 0)[:, 0], tf.int32)
        windows = tf.shape(target)[0]
        few = [1, *self._lengths]
        each = tf.gather(few, tf.searchsorted(few, [-(-tf.size(at) // windows)])[0])
        return tf.pad(at, [[0, windows * each - tf.size(at)]], constant_values=-1)


_PAIR_KEYS = (schema.present_key, schema.scores_key, schema.codes_key)
