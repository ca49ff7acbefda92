"""Towers of side adapters: within a modality, and between two."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.layers.side_adapter import SideAdapter
from kdsr_tf.types import Tensor

FIRST = ("gated", "plain")


class _Tower(ConfiguredLayer):
    """An adapter and a gate per level; see the subclasses."""

    def __init__(
        self,
        hidden: int = 64,
        activation: str = "relu",
        gate_temperature: float = 0.1,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if gate_temperature <= 0:
            raise ValueError(
                f"`gate_temperature` must be > 0. Received: gate_temperature={gate_temperature}."
            )
        self.hidden = hidden
        self.activation = activation
        self.gate_temperature = gate_temperature
        self.seed = seed

    def add_levels(self, levels: int, gates: int, width: int) -> None:
        """Add the weights of a number of levels, some of which have a gate."""
        self.adapters = [
            SideAdapter(
                self.hidden,
                self.activation,
                derive_seed(self.seed, f"adapter_{k}"),
                dtype=self.dtype_policy,
                name=f"adapter_{k}",
            )
            for k in range(levels)
        ]
        for adapter in self.adapters:
            adapter.build((None, width))
        self._theta = self.add_weight(shape=(gates,), initializer="zeros", name="theta")

    def gates(self) -> Tensor:
        """g = σ(θ / temperature), floats `(gates,)`; a half at first."""
        return ops.sigmoid(self._theta / self.gate_temperature)


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SideTower(_Tower):
    """B_k = A_k(g_k s_k + (1 - g_k) B_{k-1}) over the levels s_k of one encoder (intra-modal).

    A_k is a `SideAdapter`, g_k = σ(θ_k / temperature), and B before the first level is 0.

    Args:
        levels: Number of levels, > 0.
        width: Width of a level, > 0.
        first: `gated`, as in the authors' code, where the first level is halved at the start,
            or `plain`, as in the figure of the paper: A_0(s_0).
        **kwargs: `hidden` and `activation` of the adapters, `gate_temperature`, > 0, and `seed`.

    Call arguments:
        states: List of floats `(batch, width)`, one per level.

    Returns:
        B of the last level, floats `(batch, width)`.

    Raises:
        ValueError: for another `first`.

    Example:
        >>> import numpy as np
        >>> tower = SideTower(levels=2, width=4)
        >>> tuple(tower([np.ones((3, 4), "float32")] * 2).shape)
        (3, 4)

    Reference:
        - [IISAN, arXiv 2404.02059](https://arxiv.org/abs/2404.02059).
    """

    def __init__(self, levels: int, width: int, first: str = "gated", **kwargs):
        super().__init__(**kwargs)
        if first not in FIRST:
            raise ValueError(f"`first` must be one of {', '.join(FIRST)}. Received: {first!r}.")
        self.levels = levels
        self.width = width
        self.first = first

    def build(self, states_shape=None) -> None:
        self.add_levels(self.levels, self.levels - (self.first == "plain"), self.width)
        self.built = True

    def call(self, states: Sequence[Tensor]) -> Tensor:
        gates, plain = self.gates(), self.first == "plain"
        below = states[0] if plain else gates[0] * states[0]
        below = self.adapters[0](below)
        for k in range(1, self.levels):
            gate = gates[k - plain]
            below = self.adapters[k](gate * states[k] + (1.0 - gate) * below)
        return below

    def compute_output_shape(self, states_shape) -> tuple:
        return states_shape[0]


@keras.saving.register_keras_serializable(package="kdsr_tf")
class JointSideTower(_Tower):
    """J_k = A_k(J_{k-1} + g_k a_k + (1 - g_k) b_k) over two encoders (inter-modal).

    J before the first level is 0, and the running sum has no gate. Each pair of levels is
    brought to the smaller of the two widths: a level of the wider encoder has a linear map of its
    own (dimension transformation). Of the encoder with more levels only the last ones are read:
    the surplus early ones go through its own `SideTower` alone.

    An item without one of the two has the other at full weight, in place of g or 1 - g; one
    with neither has zeros in place of both. The paper has no such items.

    Args:
        levels: Number of levels of a and of b.
        widths: Width of a and of b.
        rank: Inner width r of a map of r (d + D) + d numbers; None makes it one matrix of D d
            numbers and its bias.
        **kwargs: `hidden` and `activation` of the adapters, `gate_temperature`, > 0, and `seed`.

    Call arguments:
        first: a: list of floats `(batch, width of a)`, one per level.
        second: b: the same of b.
        has_first: Which items have a, bools `(batch,)`.
        has_second: Which items have b, bools `(batch,)`.

    Returns:
        J of the last level, floats `(batch, smaller width)`.

    Example:
        >>> import numpy as np
        >>> tower = JointSideTower(levels=(1, 2), widths=(4, 6))
        >>> a, b, has = np.ones((3, 4), "float32"), np.ones((3, 6), "float32"), np.ones(3, bool)
        >>> tuple(tower([a], [b, b], has, has).shape)
        (3, 4)

    Reference:
        - [IISAN-Versa, arXiv 2411.02992](https://arxiv.org/abs/2411.02992).
    """

    def __init__(
        self, levels: Sequence[int], widths: Sequence[int], rank: int | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        self.levels = tuple(levels)
        self.widths = tuple(widths)
        self.rank = rank
        self.width = min(self.widths)

    def build(self, *shapes) -> None:
        self.add_levels(min(self.levels), min(self.levels), self.width)
        self._wider = None
        if len(set(self.widths)) > 1:
            self._wider = self.widths.index(max(self.widths))
        self._maps = []
        for k in range(min(self.levels) if self._wider is not None else 0):
            layers = [seeded_dense(self, f"map_{k}", self.width)]
            if self.rank is not None:
                layers.insert(0, seeded_dense(self, f"map_{k}_in", self.rank, use_bias=False))
            size = max(self.widths)
            for layer in layers:
                layer.build((None, size))
                size = layer.units
            self._maps.append(layers)
        self.built = True

    def call(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        has_first: Tensor,
        has_second: Tensor,
    ) -> Tensor:
        gates, both = self.gates(), ops.logical_and(has_first, has_second)
        a_has, b_has = (ops.cast(has, self.compute_dtype) for has in (has_first, has_second))
        common, joint = min(self.levels), None
        pairs = zip(first[-common:], second[-common:], strict=True)
        for k, (a, b) in enumerate(pairs):
            a, b = self._aligned(k, 0, a), self._aligned(k, 1, b)
            share_a = ops.where(both, gates[k], a_has)[:, None]
            share_b = ops.where(both, 1.0 - gates[k], b_has)[:, None]
            level = share_a * a + share_b * b
            joint = self.adapters[k](level if joint is None else joint + level)
        return joint

    def compute_output_shape(self, first_shape, *shapes) -> tuple:
        return first_shape[0][0], self.width

    def _aligned(self, level: int, side: int, states: Tensor) -> Tensor:
        if side == self._wider:
            for layer in self._maps[level]:
                states = layer(states)
        return states
