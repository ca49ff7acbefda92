"""The states of a frozen encoder as a side network reads them."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.types import Tensor

NORMALISATIONS = ("level", "none")

_LEAST_SPREAD = 1e-3
"""Deviation of a level over its size below which it is a constant: float16 rounds by half of it."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SideLevels(ConfiguredLayer):
    """Cuts the states of an item into levels, brings them to one scale and to one width.

    With `level`, the mean of the catalogue is taken off every number, and a level is divided by
    one deviation of all its numbers: transformers hand on states that grow from block to block.
    A level that is the same for every item, such as the class token before the first block,
    becomes zeros. Levels of another width than `width` each get a learnt linear map to it, as
    those of a convolutional network need it; the paper has none.

    Args:
        sizes: Width of every level, from the first state to the last.
        width: Width of the result, > 0.
        normalise: `level`, or `none` (the paper).
        seed: Seed of the maps.

    Call arguments:
        states: Floats `(batch, sum of sizes)`, of any precision.

    Returns:
        List of floats `(batch, width)`, one per level.

    Raises:
        ValueError: for another normalisation, or if there is no level.

    Example:
        >>> import numpy as np
        >>> levels = SideLevels(sizes=(2, 3), width=3)
        >>> [tuple(level.shape) for level in levels(np.ones((4, 5), "float16"))]
        [(4, 3), (4, 3)]
    """

    def __init__(
        self, sizes: Sequence[int], width: int, normalise: str = "level", seed: int = 0, **kwargs
    ):
        # Float16 states are cast here: in bfloat16 the mean would take their digits along.
        super().__init__(autocast=False, **kwargs)
        if normalise not in NORMALISATIONS:
            raise ValueError(
                f"`normalise` must be one of {', '.join(NORMALISATIONS)}. "
                f"Received: normalise={normalise!r}."
            )
        if not sizes:
            raise ValueError("`sizes` must have the width of at least one level. Received: ().")
        self.sizes = tuple(sizes)
        self.width = width
        self.normalise = normalise
        self.seed = seed
        self._maps = {
            k: seeded_dense(self, f"map_{k}", width)
            for k, size in enumerate(self.sizes)
            if size != width
        }

    def build(self, states_shape=None) -> None:
        if self.normalise == "level":
            self.mean, self.scale = (
                self.add_weight(
                    shape=(size,),
                    dtype="float32",
                    initializer=start,
                    trainable=False,
                    autocast=False,
                    name=name,
                )
                for name, size, start in (
                    ("mean", sum(self.sizes), "zeros"),
                    ("scale", len(self.sizes), "ones"),
                )
            )
        for k, mapped in self._maps.items():
            mapped.build((None, self.sizes[k]))
        self.built = True

    def set_statistics(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Say what the states of the catalogue are like; without it they are not changed.

        Args:
            mean: Mean of every number over the items, floats `(sum of sizes,)`.
            deviation: Root of the mean squared distance from it, of all numbers of a level,
                floats `(levels,)`.

        Raises:
            ValueError: for another shape, or a value that is not finite.
        """
        mean, deviation = np.asarray(mean, "float64"), np.asarray(deviation, "float64")
        shapes = (sum(self.sizes),), (len(self.sizes),)
        if (mean.shape, deviation.shape) != shapes:
            raise ValueError(
                f"`mean` and `deviation` must have the shapes {shapes[0]} and {shapes[1]}. "
                f"Received: {mean.shape} and {deviation.shape}."
            )
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError("The statistics of states must be finite.")
        if self.normalise == "none":
            return
        levels = np.split(mean, np.cumsum(self.sizes)[:-1])
        size = np.sqrt([np.square(level).mean() for level in levels] + np.square(deviation))
        varies = deviation > _LEAST_SPREAD * size
        self.mean.assign(mean)
        self.scale.assign(np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0))

    def call(self, states: Tensor) -> list[Tensor]:
        states = ops.cast(states, "float32")
        if self.normalise == "level":
            states = states - ops.convert_to_tensor(self.mean)
        levels, start = [], 0
        for k, size in enumerate(self.sizes):
            level = states[:, start : start + size]
            if self.normalise == "level":
                level = level * self.scale[k]
            level = ops.cast(level, self.compute_dtype)
            levels.append(self._maps[k](level) if k in self._maps else level)
            start += size
        return levels

    def compute_output_shape(self, states_shape) -> list[tuple]:
        return [(states_shape[0], self.width)] * len(self.sizes)
