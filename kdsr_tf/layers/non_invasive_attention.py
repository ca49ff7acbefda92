"""Attention that compares fused sources and returns ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.types import Tensor

FUSIONS = ("add", "concat", "gating")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class NonInvasiveAttention(CausalAttention):
    """Causal attention with Q = F W_Q, K = F W_K and V = R W_V.

    R are the states, which know ids only; F fuses them with the sources f_k (f_0 = R):
    `add` Σ f_k, `concat` W [f_0; f_1; ...] + b, or `gating` Σ σ(f_k · w) f_k. Side
    information makes better attention, and stays out of the item space.

    Args:
        dim: Size of states, sources and outputs; a multiple of `num_heads`.
        num_heads: Attention heads, > 0.
        dropout: Share of attention weights dropped in training, in [0, 1).
        seed: Seed of kernels and dropout.
        num_sources: Sources beside the states, >= 0.
        fusion: `add`, `concat` or `gating`.

    Call arguments:
        states, sources, training: As in `CausalAttention`.

    Returns:
        Floats of the shape of the states.

    Raises:
        ValueError: for another fusion.

    Example:
        >>> import numpy as np
        >>> attention = NonInvasiveAttention(dim=4, num_heads=2, num_sources=1)
        >>> states, source = np.ones((2, 3, 4), "float32"), np.ones((1, 3, 4), "float32")
        >>> tuple(attention(states, [source]).shape)
        (2, 3, 4)

    Reference:
        - [NOVA, arXiv 2103.03578](https://arxiv.org/abs/2103.03578), sections 3.4 and 3.5.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int = 0,
        num_sources: int = 0,
        fusion: str = "gating",
        **kwargs,
    ):
        super().__init__(dim, num_heads, dropout, seed, num_sources, **kwargs)
        if fusion not in FUSIONS:
            raise ValueError(
                f"`fusion` must be one of {', '.join(FUSIONS)}. Received: fusion={fusion!r}."
            )
        self.fusion = fusion
        self._fuse: Any = None
        if fusion != "add":
            self._fuse = seeded_dense(
                self,
                "fuse",
                dim if fusion == "concat" else 1,
                activation="sigmoid" if fusion == "gating" else None,
                use_bias=fusion == "concat",
            )

    def build(self, states_shape=None, sources_shape=None) -> None:
        if self._fuse is not None:
            sources = 1 + self.num_sources if self.fusion == "concat" else 1
            self._fuse.build((None, None, sources * self.dim))
        super().build()

    def _projected(self, states: Tensor, sources: Sequence[Tensor]) -> list[Tensor]:
        return [self._project(states), self._compare[0](self._fused([states, *sources]))]

    def _attend(self, projected: Tensor, *sources: Tensor, training: bool | None) -> Tensor:
        (value,), (compared,) = self._heads(projected, 1), sources
        return self._collect(self._products(*self._heads(compared, 2)), value, training)

    def _make_projections(self) -> None:
        self._project = self._dense("project", 1)
        self._compare = [self._dense("compare", 2)]

    def _fused(self, sources: list[Tensor]) -> Tensor:
        if self.fusion == "concat":
            shape = ops.shape(sources[0])
            same = [ops.broadcast_to(source, shape) for source in sources]
            return self._fuse(ops.concatenate(same, axis=-1))
        if self.fusion == "gating":
            sources = [self._fuse(source) * source for source in sources]
        return sum(sources[1:], sources[0])
