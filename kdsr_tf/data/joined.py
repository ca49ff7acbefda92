"""Train and validation windows as if nothing had been held out.

Whoever has a validation target and at most `max_length` items before it has one train window
and one validation window: the train window, its last target as one more item, and the
held-out target alone. Learning from both would take two windows where one with all targets
says the same. Longer sequences keep their windows apart: each has other items.
"""

from __future__ import annotations

import tensorflow as tf

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
