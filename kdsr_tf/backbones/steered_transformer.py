"""What the backbones share whose side information steers attention only."""

from __future__ import annotations

from collections.abc import Sequence

from kdsr_tf.backbones.causal_transformer import CausalTransformer
from kdsr_tf.schema import IDS
from kdsr_tf.types import Tensor


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
