"""One step of a gated graph network."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class GatedGraphStep(ConfiguredLayer):
    """Nodes hear their neighbours and update through gates (SR-GNN, Eq. 1 to 5).

    a = [A_in v H_in; A_out v H_out] + b, then z = σ(W_z a + U_z v),
    r = σ(W_r a + U_r v), ṽ = tanh(W_o a + U_o (r ⊙ v)), and v becomes
    (1 - z) ⊙ v + z ⊙ ṽ. As in the authors' code, the gates have a bias. A node
    whose row of an adjacency is 0 hears nothing that way.

    Args:
        dim: Size of states, > 0.
        seed: Seed of the kernels.

    Call arguments:
        states: Floats `(batch, length, dim)`.
        incoming: Weights A_in of the nodes that precede each node, floats
            `(batch, length, length)`.
        outgoing: Weights A_out of the nodes that follow, as `incoming`.

    Returns:
        Floats `(batch, length, dim)`.

    Example:
        >>> import numpy as np
        >>> states, edges = np.ones((1, 3, 4), "float32"), np.eye(3, dtype="float32")[None]
        >>> tuple(GatedGraphStep(dim=4)(states, edges, edges).shape)
        (1, 3, 4)

    Reference:
        - [SR-GNN, arXiv 1811.00855](https://arxiv.org/abs/1811.00855), section "Learning
          item embeddings on session graphs".
    """

    def __init__(self, dim: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.seed = seed
        # Kernels stand side by side: the bound must not depend on the number of outputs.
        lecun = keras.initializers.LecunUniform
        self._connect = seeded_dense(self, "connect", 2 * dim, lecun, use_bias=False)
        self._hear = seeded_dense(self, "hear", 3 * dim, lecun)
        self._keep = seeded_dense(self, "keep", 2 * dim, lecun, use_bias=False)
        self._propose = seeded_dense(self, "propose", dim, lecun, use_bias=False)

    def build(self, states_shape=None, incoming_shape=None, outgoing_shape=None) -> None:
        for layer in (self._connect, self._keep, self._propose):
            layer.build((None, None, self.dim))
        self._hear.build((None, None, 2 * self.dim))
        self.bias = self.add_weight(shape=(2 * self.dim,), initializer="zeros", name="bias")
        self.built = True

    def call(self, states: Tensor, incoming: Tensor, outgoing: Tensor) -> Tensor:
        before, after = ops.split(self._connect(states), 2, axis=-1)
        incoming, outgoing = ops.cast(incoming, before.dtype), ops.cast(outgoing, before.dtype)
        heard = ops.concatenate(
            [ops.matmul(incoming, before), ops.matmul(outgoing, after)], axis=-1
        )
        update, reset, proposal = ops.split(
            self._hear(heard + ops.cast(self.bias, heard.dtype)), 3, axis=-1
        )
        own_update, own_reset = ops.split(self._keep(states), 2, axis=-1)
        update, reset = ops.sigmoid(update + own_update), ops.sigmoid(reset + own_reset)
        proposal = ops.tanh(proposal + self._propose(reset * states))
        return states + update * (proposal - states)
