"""Condensing encoder features to the student's size (m → m̃).

The optimum of a linear autoencoder under MSE is known: its code spans the
leading principal components, up to an invertible map. Here it is solved exactly
from one streamed pass of sums, with this choice of the map: components are
centred, keep their lengths, and are turned by a seeded random rotation. Without
the rotation the first of the D sub-vectors would hold most of the variance; with
it all hold about the same (measured in the teacher's report).

The sigmoid variant, which the authors' published code uses, is in
`kdsr_tf.teacher.sigmoid`.

Reference:
    - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
    - [Baldi and Hornik, 1989: Neural networks and principal component
      analysis](https://doi.org/10.1016/0893-6080(89)90014-2)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import BinaryIO

import numpy as np

Batches = Callable[[], Iterable[np.ndarray]]
"""Starts a new pass over the features: float32 batches `(items, size)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """A fitted autoencoder: `code = scale · f(((x − mean) / spread) W_e + b_e)`.

    Args:
        mean: Float32 `(size,)`, subtracted from the features.
        spread: Number the centred features are divided by.
        encoder_kernel: Float32 `(size, dim)`.
        encoder_bias: Float32 `(dim,)`.
        decoder_kernel: Float32 `(dim, size)`.
        decoder_bias: Float32 `(size,)`.
        activation: f: `linear` or `sigmoid`.
        scale: Makes the mean squared length of a code 1.
    """

    mean: np.ndarray
    spread: float
    encoder_kernel: np.ndarray
    encoder_bias: np.ndarray
    decoder_kernel: np.ndarray
    decoder_bias: np.ndarray
    activation: str
    scale: float = 1.0

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
