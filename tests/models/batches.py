"""Small batches in the layout of `examples/`."""

from __future__ import annotations

import numpy as np

from kdsr_tf import schema

NUM_ITEMS, DIM, LENGTH, NUM_CODES = 12, 8, 6, 5


def make_batch(windows: int = 8, length: int = LENGTH, modalities=("image", "text"), seed: int = 0):
    """Windows of random lengths (the last one empty), random records and targets."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length + 1, windows)
    lengths[0], lengths[-1] = length, 0
    real = np.arange(length) < lengths[:, None]
    items = np.where(real, rng.integers(1, NUM_ITEMS + 1, real.shape), 0)
    target = np.where(real, items % NUM_ITEMS + 1, 0)
    batch = {schema.ITEMS: items.astype("int32"), schema.TARGET: target.astype("int32")}
    pairs = (windows, schema.num_pairs(length))
    for modality in modalities:
        batch[schema.present_key(modality)] = (rng.random(real.shape) < 0.8).astype("uint8")
        batch[schema.scores_key(modality)] = rng.uniform(-1, 1, pairs).astype("float16")
        batch[schema.codes_key(modality)] = rng.integers(0, NUM_CODES, pairs).astype("uint8")
    return batch


def make_student(seed: int = 0, modalities=("image", "text"), **arguments):
    """A student of two modalities, one of which half the items lack."""
    from kdsr_tf.methods.student import Student

    student = Student(
        NUM_ITEMS, DIM, LENGTH, num_layers=1, modalities=modalities, seed=seed, **arguments
    )
    rng = np.random.default_rng(seed)
    for modality in student.modalities:
        present = rng.random(NUM_ITEMS + 1) < (0.5 if modality == "image" else 0.9)
        vectors = rng.normal(size=(NUM_ITEMS + 1, DIM))
        student.set_modality_vectors(modality, vectors, present)
    return student


def repeated(batch, steps: int):
    """One epoch of `steps` equal batches: far quicker than so many calls of `fit`."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat(steps)
