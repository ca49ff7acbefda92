"""The autoencoder with a sigmoid code layer, as in the authors' published code."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from kdsr_tf.teacher.autoencoder import Autoencoder, moments, slices


def fit_sigmoid(
    features: np.ndarray,
    dim: int,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Autoencoder:
    """An autoencoder with a sigmoid code layer, fitted with Keras (Adam, MSE).

    Args:
        features: Float32 `(items, size)`; may be memory-mapped, batches are read
            as they are needed.
        dim: Size of the code.
        epochs: Passes over the features.
        batch_size: Items per step.
        learning_rate: Of Adam.
        seed: Of the weights and of the order of items.
    """
    size = features.shape[1]
    mean, covariance = moments(lambda: slices(features), size)
    spread = float(np.sqrt(np.trace(covariance) / size)) or 1.0
    data = _ShuffledBatches(features, mean, spread, batch_size, seed)
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
    model.fit(data, epochs=epochs, shuffle=False, verbose=0)
    (encoder_kernel, encoder_bias), (decoder_kernel, decoder_bias) = (
        layer.get_weights() for layer in model.layers
    )
    unscaled = Autoencoder(
        mean=mean.astype(np.float32),
        spread=spread,
        encoder_kernel=encoder_kernel,
        encoder_bias=encoder_bias,
        decoder_kernel=decoder_kernel,
        decoder_bias=decoder_bias,
        activation="sigmoid",
    )
    squares = sum(float(np.square(unscaled.encode(part)).sum()) for part in slices(features))
    return dataclasses.replace(unscaled, scale=float(np.sqrt(len(features) / squares)))


class _ShuffledBatches(keras.utils.PyDataset):
    """Batches of standardised features in an order drawn per epoch."""

    def __init__(
        self, features: np.ndarray, mean: np.ndarray, spread: float, batch_size: int, seed: int
    ):
        super().__init__()
        self._features, self._batch_size, self._seed = features, batch_size, seed
        self._mean, self._spread = mean.astype(np.float32), np.float32(spread)
        self._epoch = 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self._features) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = (self._features[np.sort(rows)] - self._mean) / self._spread
        return batch, batch

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        rng = np.random.default_rng([self._seed, 1, self._epoch])
        self._order = rng.permutation(len(self._features))
