"""The rows of a block of windows: the windows themselves, or one prefix per target.

Prefixes are for backbones whose states see later items of a window. A window with targets at
positions p1..pk becomes k rows: the items up to p and the target at p alone. Pairs are ordered
by their second position, so the pairs of a prefix are the first ones of its window: nothing is
computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.data.buckets import Histogram, histogram
from kdsr_tf.errors import ConfigError

Raw = dict[str, tf.Tensor]
"""Fields of some windows, each a vector of byte strings."""

_ITEM_BYTES = 4


def find_rows(block: Raw, max_length: int, prefixes: bool) -> tf.Tensor:
    """Window and size of each row, ints `(rows, 2)`, in the order of the windows.

    Args:
        block: `items` and `target` of some windows.
        max_length: Longest window.
        prefixes: Whether every target makes a row.
    """
    if prefixes:
        return tf.cast(tf.where(_targets(block, max_length) > 0), tf.int32) + tf.constant([0, 1])
    sizes = tf.strings.length(block[schema.ITEMS]) // _ITEM_BYTES
    return tf.stack([tf.range(tf.size(sizes)), sizes], axis=1)


def take_rows(
    block: Raw,
    rows: tf.Tensor,
    prefixes: bool,
    bytes_per_item: Mapping[str, int],
    bytes_per_pair: Mapping[str, int],
) -> Raw:
    """Some rows in the layout of raw windows.

    Args:
        block: The windows.
        rows: Some of `find_rows`.
        prefixes: As in `find_rows`: a row keeps its last target only.
        bytes_per_item: Bytes per position of the fields that have one value per item.
        bytes_per_pair: Bytes per pair of the fields that have one value per pair.
    """
    windows, sizes = tf.unstack(rows, axis=1)
    batch = {name: tf.gather(block[name], windows) for name in (*bytes_per_item, *bytes_per_pair)}
    if not prefixes:
        return batch
    for width, counts in ((bytes_per_item, sizes), (bytes_per_pair, sizes * (sizes - 1) // 2)):
        for name, size in width.items():
            batch[name] = tf.strings.substr(batch[name], tf.zeros_like(counts), counts * size)
    batch[schema.TARGET] = _only_last(batch[schema.TARGET], sizes - 1)
    return batch


def count_rows(block: Raw, max_length: int, prefixes: bool, lengths: Sequence[int]) -> Histogram:
    """Rows of a block by padded length.

    Args:
        block: `items`, `target` and `window_start` of the windows.
        max_length: Longest window.
        prefixes: As in `find_rows`.
        lengths: Padded lengths, ascending.

    Raises:
        ConfigError: if a prefix has fewer items than a history of `max_length` would show,
            because its window starts too late.
    """
    targets = _targets(block, max_length).numpy() > 0
    sizes = find_rows(block, max_length, prefixes)[:, 1].numpy()
    if not prefixes:
        return histogram(sizes, targets.sum(axis=1), lengths)
    late = block[schema.WINDOW_START].numpy() > 0
    short = late & targets[:, : max_length - 1].any(axis=1)
    if short.any():
        raise ConfigError(
            "A backbone that sees one prefix per example needs exactly the last "
            f"`windows.max_length`={max_length} items before every target, but "
            f"{int(short.sum())} windows of a longer sequence start too late. Set "
            "windows.stride=1 and run `kdsr distill` again, or choose a causal backbone."
        )
    return histogram(sizes, np.ones_like(sizes), lengths)


def _targets(block: Raw, max_length: int) -> tf.Tensor:
    return tf.io.decode_raw(block[schema.TARGET], tf.int32, fixed_length=max_length * _ITEM_BYTES)


def _only_last(targets: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Targets whose every value but the last is 0."""
    before = positions * _ITEM_BYTES
    zeros = tf.strings.reduce_join(tf.fill([tf.reduce_max(before)], "\0"))
    blank = tf.strings.substr(tf.fill(tf.shape(positions), zeros), tf.zeros_like(before), before)
    last = tf.strings.substr(targets, before, tf.fill(tf.shape(before), _ITEM_BYTES))
    return tf.strings.join([blank, last])
