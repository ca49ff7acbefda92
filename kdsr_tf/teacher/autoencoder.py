"""Condensing encoder features to the student's size (m → m̃).

The optimum of a linear autoencoder under MSE is known: its code spans the
leading principal components, up to an invertible map. Here it is solved exactly
from one streamed pass of sums, with this choice of the map: components are
centred, keep their lengths, and are turned by a seeded random rotation. Without
the rotation the first of the D sub-vectors would hold most of the variance; with
it all hold about the same (measured in the teacher's report).

The sigmoid variant, which the authors' published code uses, is fitted with Keras.

Reference:
    - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
    - [Baldi and Hornik, 1989: Neural networks and principal component
      analysis](https://doi.org/10.1016/0893-6080(89)90014-2)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

Batches = Callable[[], Iterable[np.ndarray]]
"""Starts a new pass over the features: float32 batches `(items, size)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """A fitted autoencoder: `code = scale · f(((x − mean) / spread) W_e + b_e)`."""

    mean: np.ndarray  # Float32 `(size,)`, subtracted from the features
    spread: float  # Number the centred features are divided by
    encoder_kernel: np.ndarray  # Float32 `(size, dim)`
    encoder_bias: np.ndarray  # Float32 `(dim,)`
    decoder_kernel: np.ndarray  # Float32 `(dim, size)`
    decoder_bias: np.ndarray  # Float32 `(size,)`
    activation: str  # f: `linear` or `sigmoid`
    scale: float = 1.0  # Makes the mean squared length of a code 1

    def encode(self, features: np.ndarray) -> np.ndarray:
        """Condensed vectors, float32 `(items, dim)`."""
        hidden = (features - self.mean) / self.spread @ self.encoder_kernel + self.encoder_bias
        if self.activation == "sigmoid":
            hidden = 1 / (1 + np.exp(-hidden))
        return np.asarray(self.scale * hidden, np.float32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Reconstructed features, float32 `(items, size)`."""
        hidden = codes / self.scale @ self.decoder_kernel + self.decoder_bias
        return np.asarray(hidden * self.spread + self.mean, np.float32)

    def save(self, file: str | BinaryIO) -> None:
        """Write every field to an `.npz` file."""
        np.savez(file, **dataclasses.asdict(self))

    @classmethod
    def load(cls, file: str | BinaryIO) -> Autoencoder:
        """Read what `save` wrote."""
        with np.load(file) as arrays:
            fields = {name: arrays[name] for name in arrays.files}
        return cls(**{k: v if v.ndim else v.item() for k, v in fields.items()})


def fit_linear(batches: Batches, size: int, dim: int, seed: int) -> Autoencoder:
    """The exact optimum of the linear autoencoder, from sums of one pass.

    Args:
        batches: Starts a pass over the features.
        size: Their dimension; where it is below `dim`, the code has rank `size`.
        dim: Size of the code.
        seed: Seed of the rotation.

    Returns:
        The autoencoder. Memory is `O(size²)` whatever the number of items.
    """
    mean, covariance = moments(batches, size)
    values, components = np.linalg.eigh(covariance)
    rank = min(size, dim)
    order = np.argsort(values)[::-1][:rank]
    directions = np.zeros((size, dim))
    directions[:, :rank] = components[:, order]
    rotation, triangle = np.linalg.qr(np.random.default_rng([seed, 0]).normal(size=(dim, dim)))
    rotation *= np.sign(np.diag(triangle))  # uniform over rotations
    kernel = directions @ rotation
    length = values[order].sum()
    return Autoencoder(
        mean=mean.astype(np.float32),
        spread=1.0,
        encoder_kernel=kernel.astype(np.float32),
        encoder_bias=np.zeros(dim, np.float32),
        decoder_kernel=kernel.T.astype(np.float32),
        decoder_bias=np.zeros(size, np.float32),
        activation="linear",
        # The inverse of still shorter vectors does not fit float32.
        scale=float(1 / np.sqrt(length)) if length > np.finfo(np.float32).tiny else 1.0,
    )


def moments(batches: Batches, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean `(size,)` and covariance `(size, size)` in float64."""
    count, shift = 0, None
    total, products = np.zeros(size), np.zeros((size, size))
    for batch in batches():
        rows = np.asarray(batch, np.float64)
        if not len(rows):
            continue
        if shift is None:  # keeps the sums small where features are far from 0
            shift = rows.mean(0)
        rows = rows - shift
        count += len(rows)
        total += rows.sum(0)
        products += rows.T @ rows
    if shift is None:
        return np.zeros(size), np.zeros((size, size))
    mean = total / count
    return mean + shift, products / count - np.outer(mean, mean)


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
    import keras  # only here: it takes seconds

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
