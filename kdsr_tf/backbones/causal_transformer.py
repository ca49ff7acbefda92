"""What the backbones with causal self-attention share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.layers.row_norm import RowNorm
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.layers.transformer_block import TransformerBlock
from kdsr_tf.schema import IDS
from kdsr_tf.types import Tensor


class CausalTransformer(Backbone):
    """Blocks of causal attention with learnt positions, and a last normalisation.

    A subclass says what enters the blocks (`enter`), and may change their attention
    (`make_attention`). What enters is layer-normalised, because tuned features and ids
    differ in scale. Positions count from the oldest item of the window.
    """

    def build(self, input_shape=None) -> None:
        self.positions = self.make_positions()
        self._input_norm = self.make_norm("input_norm")
        self._drop = self.make_dropout("drop_input")
        self._blocks: list[Any] = [self._make_block(k) for k in range(self.num_layers)]
        self._output_norm = self.make_norm("output_norm")
        for layer in (self._input_norm, *self._blocks, self._output_norm):
            layer.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: dict[str, Tensor], training: bool | None = None) -> Tensor:
        positions = self.positions[: ops.shape(embeddings[IDS])[1]][None]
        states, sources = self.enter(embeddings, positions)
        states = self._drop(self._input_norm(states), training=training)
        for block in self._blocks:
            states = block(states, sources, training=training)
        return self._output_norm(states)

    def enter(
        self, embeddings: dict[str, Tensor], positions: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The way in.

        Args:
            embeddings: As in `call`.
            positions: Floats `(1, length, dim)`.

        Returns:
            The states that the blocks start from, `(batch, length, dim)`, and further
            sources of every attention, `(batch or 1, length, dim)` each.
        """
        raise NotImplementedError

    def make_attention(self, seed: int) -> CausalAttention:
        """The attention of one block."""
        return self.make_attention_of(CausalAttention, seed)

    def make_attention_of(
        self, kind: type[CausalAttention], seed: int, *arguments: Any
    ) -> CausalAttention:
        """An attention of some class; `arguments` are those that only this class has."""
        sizes = (self.dim, self.num_heads, self.dropout, seed)
        return kind(*sizes, *arguments, dtype=self.dtype_policy, name="attention")

    def make_norm(self, name: str) -> RowNorm:
        """A layer normalisation, not yet built."""
        return RowNorm(dtype=self.dtype_policy, name=name)

    def _make_block(self, number: int) -> TransformerBlock:
        seed = derive_seed(self.seed, f"block_{number}")
        return TransformerBlock(
            self.dim,
            self.num_heads,
            self.dropout,
            seed,
            self.make_attention(derive_seed(seed, "attention")),
            dtype=self.dtype_policy,
            name=f"block_{number}",
        )


class SteeredTransformer(CausalTransformer):
    """States made of ids alone; positions and features decide where attention looks.

    The same sources serve every block, each layer-normalised once. A subclass gives the
    attention that reads them (`make_attention`).

    Attributes:
        num_sources: Positions and modalities.
    """

    @property
    def num_sources(self) -> int:
        return 1 + len(self.modalities)

    def build(self, input_shape=None) -> None:
        names = ("positions", *self.modalities)
        self._source_norms = [self.make_norm(f"{name}_norm") for name in names]
        for norm in self._source_norms:
            norm.build((None, None, self.dim))
        super().build()

    def enter(
        self, embeddings: dict[str, Tensor], positions: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        sources = (positions, *(embeddings[modality] for modality in self.modalities))
        normed = zip(self._source_norms, sources, strict=True)
        return embeddings[IDS], [norm(source) for norm, source in normed]
