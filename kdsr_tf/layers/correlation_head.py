"""What the student must predict about pairs of items."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.ops.correlation import CORRELATIONS
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.kernels.pair_codes import summed_code_loss
from kdsr_tf.ops.pairs import Positions, pair_correlation, pair_differences
from kdsr_tf.types import Tensor


@keras.saving.register_keras_serializable(package="kdsr_tf")
class CorrelationHead(ConfiguredLayer):
    """Predicts correlation scores and codes from the embeddings of one modality.

    Holistic (Eq. 2): r̂_ij = ξ(g_φ(e_i), g_φ(e_j)) with g_φ linear. Dissected
    (Eq. 5): p_ij = W_out ReLU(W_c |e_i - e_j|), on e itself, not on g_φ(e). Used
    in training only: no served model holds its weights. All pairs are computed,
    padding included; the losses mask them.

    Args:
        dim: Size of the embeddings, > 0.
        num_codes: Codewords x, > 0.
        correlation: The function ξ, a key of `kdsr_tf.ops.correlation.CORRELATIONS`.
        score_scale: Divisor of r̂, > 0; the teacher's.
        seed: Seed of g_φ, W_c and W_out.

    Call arguments:
        embeddings: Floats `(batch, length, dim)`.
        first: Positions i, ints `(pairs,)` or `(batch, pairs)`.
        second: Positions j, likewise.

    Returns:
        Scores `(batch, pairs)` and code logits `(batch, pairs, num_codes)`.

    Raises:
        ValueError: for another correlation, or a scale that is not > 0.

    Example:
        >>> import numpy as np
        >>> head = CorrelationHead(dim=4, num_codes=3)
        >>> first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
        >>> scores, logits = head(np.ones((2, 3, 4), "float32"), first, second)
        >>> tuple(scores.shape), tuple(logits.shape)
        ((2, 3), (2, 3, 3))

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 2 and 5.
    """

    def __init__(
        self,
        dim: int,
        num_codes: int,
        correlation: str = "cosine",
        score_scale: float = 1.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if correlation not in CORRELATIONS:
            raise ValueError(
                f"`correlation` must be one of {', '.join(CORRELATIONS)}. "
                f"Received: correlation={correlation!r}."
            )
        if not score_scale > 0:
            raise ValueError(f"`score_scale` must be > 0. Received: score_scale={score_scale}.")
        self.dim = dim
        self.num_codes = num_codes
        self.correlation = correlation
        self.score_scale = score_scale
        self.seed = seed
        self._project = seeded_dense(self, "g_phi", dim)
        self._compare = seeded_dense(self, "W_c", dim, activation="relu", use_bias=False)
        self._classify = seeded_dense(self, "W_out", num_codes, use_bias=False)

    def build(self, embeddings_shape=None, first_shape=None, second_shape=None) -> None:
        for dense in (self._project, self._compare, self._classify):
            dense.build((None, None, self.dim))
        self.built = True

    def call(self, embeddings: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        distances = ops.abs(pair_differences(embeddings, (first, second)))
        scores = self.scores(embeddings, first, second)
        return scores, self._classify(self._compare(distances))

    def scores(self, embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """The scores only; see the call."""
        positions: Positions = (first, second)
        scores = pair_correlation(self._project(embeddings), positions, self.correlation)
        return scores / self.score_scale

    def summed_code_loss(
        self, embeddings: Tensor, first: Tensor, second: Tensor, codes: Tensor, weights: Tensor
    ) -> Tensor:
        """The weighted sum of the losses of codes, a chunk of pairs at a time, in float32.

        Args:
            embeddings: As in the call.
            first: As in the call.
            second: As in the call.
            codes: The teacher's, ints `(batch, pairs)`.
            weights: Weights of the pairs, floats `(batch, pairs)`; weight 0 costs nothing.

        Returns:
            A scalar; see `kdsr_tf.ops.kernels.pair_codes`.
        """
        inner, outer = (ops.convert_to_tensor(d.kernel) for d in (self._compare, self._classify))
        batch, length = ops.shape(embeddings)[:2]
        start = ops.arange(batch, dtype="int32")[:, None] * length
        weights = ops.reshape(weights, (-1,))
        taken = ops.nonzero(weights > 0)[0]
        first, second, codes, weights = (
            gather(ops.reshape(values, (-1,)), taken)
            for values in (start + first, start + second, codes, weights)
        )
        rows = ops.reshape(embeddings, (-1, self.dim))
        return summed_code_loss(rows, inner, outer, first, second, codes, weights)
