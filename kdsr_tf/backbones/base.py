"""The interface of all backbones."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.feature_fusion import FeatureFusion
from kdsr_tf.layers.seeding import derive_seed, seeded_dropout, seeded_part
from kdsr_tf.rules import check_heads
from kdsr_tf.types import Tensor


class Backbone(ConfiguredLayer):
    """Turns the embeddings of a window into one hidden state per position.

    A backbone gets ids and features apart and decides itself how they meet
    (`FeatureFusion` is the plain way). It knows no losses and no prediction head.

    A subclass sets `causal`, builds all its children in `build` (shapes follow from
    the arguments) and keeps padding out: states at real positions must not depend on
    it. States at padding mean nothing. It may bring an objective of its own
    (`make_auxiliary`).

    Attributes:
        causal: Whether the state at a position depends on no later item. Causal
            backbones learn from all positions of a window at once; the others
            see one prefix per example.
        needs_modalities: Whether it is nothing of its own without features.
        uses_heads: Whether it has attention heads, so that `num_heads` must divide
            `dim`.
        folded: Key of the backbone that gives the same states from one table of fused
            vectors (`kdsr_tf.methods.folding`); None where features enter elsewhere too.

    Args:
        dim: Size of embeddings and states, > 0.
        max_length: Longest window, > 0.
        num_layers: Blocks, > 0.
        num_heads: Attention heads, > 0; ignored where there are none.
        dropout: Share of units dropped in training, in [0, 1).
        modalities: Modalities among the inputs.
        seed: Seed of kernels and dropout.

    Call arguments:
        embeddings: Result of `ItemTables`: `items` ints `(batch, length)`, `ids`
            and each modality `(batch, length, dim)`, and `{m}_present` bools
            `(batch, length)`.
        training: Whether to drop.

    Returns:
        Floats `(batch, length, dim)`.

    Raises:
        ValueError: for a size out of range, heads that do not divide `dim`, or
            missing modalities.
    """

    causal = True
    needs_modalities = False
    uses_heads = True
    folded: str | None = None

    def __init__(
        self,
        dim: int,
        max_length: int,
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.2,
        modalities: Sequence[str] = (),
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("dim", dim), ("max_length", max_length), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"`{name}` must be > 0. Received: {name}={value}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout}.")
        if self.uses_heads:
            check_heads(num_heads, dim)
        if self.needs_modalities and not modalities:
            raise ValueError(
                f"{type(self).__name__} needs modalities. Received: modalities=(). Give it "
                "modality tables, or take a backbone of ids."
            )
        self.dim = dim
        self.max_length = max_length
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.dropout = dropout
        self.modalities = tuple(modalities)
        self.seed = seed

    def make_auxiliary(self) -> keras.layers.Layer | None:
        """What the backbone's paper learns beside the next item.

        Returns:
            None, or a layer that exists in training only: no served model holds its
            weights. It is called with `(embeddings, states)`, the input and the
            output of the backbone, and returns a loss per window, floats
            `(batch,)`, by term; its dict `term_weights` holds the default weight of
            every term. Positions of padding must not count.
        """
        return None

    def make_fusion(self) -> FeatureFusion:
        """The plain way in: ids and features as one vector per item."""
        return FeatureFusion(self.dim, self.modalities, **seeded_part(self, "fusion"))

    def fuse(self, embeddings: dict[str, Tensor]) -> Tensor:
        """All that this backbone reads of an item, where `folded` is set: `(batch, length, dim)`.

        The same item has the same vector everywhere.
        """
        return self._fusion(embeddings)

    def make_dropout(self, name: str) -> keras.layers.Dropout:
        """A dropout layer with a seed of its own."""
        return seeded_dropout(self, name)

    def make_positions(self) -> keras.Variable:
        """A learnt vector per position of a window, floats `(max_length, dim)`."""
        seed = derive_seed(self.seed, "positions")
        initializer = keras.initializers.RandomNormal(stddev=0.02, seed=seed)
        return self.add_weight((self.max_length, self.dim), initializer, name="positions")
