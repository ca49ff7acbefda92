"""The autoencoder with a sigmoid code layer, as in the authors' published code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from kdsr_tf.teacher.autoencoder import Autoencoder, Batches, moments

_BLOCK_BYTES = 64 * 2**20
"""Features are shuffled in blocks of about this size; smaller catalogues as a whole."""


def fit_sigmoid(
    batches: Batches,
    count: int,
    size: int,
    dim: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Autoencoder:
    """An autoencoder with a sigmoid code layer, fitted with Keras (Adam, MSE).

    Args:
        batches: Starts a pass over the features.
        count: Features of a pass, > 0.
        size: Their dimension.
        dim: Size of the code.
        epochs: Passes over the features.
        batch_size: Items per step.
        learning_rate: Learning rate of Adam.
        seed: Seed of the weights and of the order of items.

    Returns:
        The autoencoder. Memory is a block of features and `O(size²)`, whatever
        the number of items.
    """
    mean, covariance = moments(batches, size)
    spread = float(np.sqrt(np.trace(covariance) / size)) or 1.0
    seeds = keras.random.SeedGenerator(seed)
    model = keras.Sequential(
        [
            keras.Input((size,)),
            keras.layers.Dense(
                dim,
                activation="sigmoid",
                kernel_initializer=keras.initializers.GlorotUniform(seeds),
            ),
            keras.layers.Dense(size, kernel_initializer=keras.initializers.GlorotUniform(seeds)),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss="mse")
    mean = mean.astype(np.float32)
    steps = _shuffled_epochs(batches, size, epochs, batch_size, seed)
    model.fit(
        ((rows, rows) for rows in ((step - mean) / np.float32(spread) for step in steps)),
        epochs=epochs,
        steps_per_epoch=-(-count // batch_size),
        shuffle=False,
        verbose=0,
    )
    (encoder_kernel, encoder_bias), (decoder_kernel, decoder_bias) = (
        layer.get_weights() for layer in model.layers
    )
    unscaled = Autoencoder(
        mean=mean,
        spread=spread,
        encoder_kernel=encoder_kernel,
        encoder_bias=encoder_bias,
        decoder_kernel=decoder_kernel,
        decoder_bias=decoder_bias,
        activation="sigmoid",
    )
    squares = sum(float(np.square(unscaled.encode(part)).sum()) for part in batches())
    return dataclasses.replace(unscaled, scale=float(np.sqrt(count / squares)))


def _shuffled_epochs(
    batches: Batches, size: int, epochs: int, batch_size: int, seed: int
) -> Iterator[np.ndarray]:
    """Steps of all epochs, each epoch in an order of its own; its last step may be smaller."""
    block_rows = max(1, _BLOCK_BYTES // (4 * size))
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, 1, epoch])
        left = np.zeros((0, size), np.float32)
        for block in _blocks(batches(), block_rows):
            rows = np.concatenate([left, block[rng.permutation(len(block))]])
            whole = len(rows) - len(rows) % batch_size
            yield from (rows[start : start + batch_size] for start in range(0, whole, batch_size))
            left = rows[whole:]
        if len(left):
            yield left


def _blocks(batches: Iterable[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """Consecutive batches joined until a block has at least `rows` rows."""
    parts: list[np.ndarray] = []
    for batch in batches:
        parts.append(batch)
        if sum(map(len, parts)) >= rows:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)
