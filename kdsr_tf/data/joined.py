"""Train and validation windows as if nothing had been held out.

Whoever has a validation target and at most `max_length` items before it has one train window
and one validation window: the train window, its last target as one more item, and the
held-out target alone. Learning from both would take two windows where one with all targets
says the same. Longer sequences keep their windows apart: each has other items.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.splits import MIN_TRAIN_FOR_VALIDATION

Raw = dict[str, tf.Tensor]
"""Fields of one window: `items` and `target` byte strings, `window_start` a number."""

_ITEM_BYTES = 4


def join(
    train: tf.data.Dataset,
    validation: tf.data.Dataset,
    max_length: int,
    shares: Sequence[int],
) -> tf.data.Dataset:
    """All targets of both splits, each once.

    Args:
        train: Windows of the train split.
        validation: Windows of the validation split.
        max_length: Most items of a window.
        shares: Windows of both; the two are mixed in this proportion, always alike.

    Returns:
        Windows in the layout of the splits.
    """

    def stays(window: Raw) -> tf.Tensor:
        size = tf.strings.length(window[schema.ITEMS]) // _ITEM_BYTES
        # With fewer train interactions there is no validation window that has these items.
        surely_held_out = size >= MIN_TRAIN_FOR_VALIDATION - 1
        return (window[schema.WINDOW_START] > 0) | (size >= max_length) | ~surely_held_out

    def complete(window: Raw) -> Raw:
        items, target = window[schema.ITEMS], window[schema.TARGET]
        size = tf.strings.length(items)
        whole = (window[schema.WINDOW_START] == 0) & (
            size >= MIN_TRAIN_FOR_VALIDATION * _ITEM_BYTES
        )
        last = tf.strings.substr(target, size - _ITEM_BYTES, _ITEM_BYTES)
        following = tf.strings.substr(items, tf.minimum(_ITEM_BYTES, size), size - _ITEM_BYTES)
        return window | {schema.TARGET: tf.where(whole, following + last, target)}

    return tf.data.Dataset.sample_from_datasets(
        [train.filter(stays), validation.map(complete)],
        weights=[max(share, 1) / sum(max(share, 1) for share in shares) for share in shares],
        seed=0,
        rerandomize_each_iteration=False,
    )
