"""Batches that bring the content of their items."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kdsr_tf import schema
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
