"""The teacher's records of a batch: which pairs of a window count, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.ops import pairs
from kdsr_tf.ops.kernels import chunks_fit
from kdsr_tf.schema import pair_keys, pair_positions
from kdsr_tf.types import Tensor


class PairRecords:
    """The pairs of a batch that are compared, all or drawn, for every modality.

    One drawing serves all modalities; which of its pairs count differs. Pairs that do not
    count have weight 0.

    Args:
        items: Ints `(batch, length)`, right-padded with 0.
        max_length: Largest possible `length`.
        count: Pairs drawn per window, > 0; None takes all.
        seed: Seed of the drawing.
    """

    def __init__(
        self, items: Tensor, max_length: int, count: int | None, seed: keras.random.SeedGenerator
    ) -> None:
        self._items = items
        self._drawn = None
        if count is None:
            self._positions = pairs.packed_positions(ops.shape(items)[1], max_length)
        else:
            self._drawn = pairs.draw_pairs(items, count, seed)
            index = self._drawn.index
            self._positions = tuple(ops.take(p, index, axis=0) for p in pair_positions(max_length))

    def compare(
        self,
        modality: str,
        inputs: Mapping[str, Tensor],
        embeddings: Tensor,
        head: CorrelationHead,
        sums_codes: bool = False,
    ) -> dict[str, Tensor | None]:
        """What the teacher says of the pairs of one modality, and what the student says.

        Args:
            modality: Its name.
            inputs: The batch; see `KDSR`.
            embeddings: Of all windows, floats `(batch, length, dim)`.
            head: Of the modality.
            sums_codes: Whether the loss of codes is wanted in place of their logits, if
                embeddings have float32.

        Returns:
            - `scores`, `predicted` and `weights` (1 where a pair counts) `(batch, pairs)`,
              and `share` `(batch,)`: the factor that turns the mean over the drawn pairs
              into an unbiased estimate of the mean over all; None where all are taken;
            - `codes` and `code_logits` `(batch, pairs, num_codes)`; or `code_loss`, a scalar.

        Raises:
            ValueError: if the batch lacks a field.
        """
        present, scores, codes = _fields(modality, inputs)
        valid = pairs.valid_pairs(self._items, present, self._positions)
        share = None
        if self._drawn is not None:
            valid = ops.logical_and(valid, self._drawn.real)
            drawn = ops.sum(ops.cast(valid, "float32"), axis=1) * self._drawn.stands_for
            share = drawn / ops.maximum(pairs.count_valid_pairs(self._items, present), 1.0)
            scores = ops.take_along_axis(scores, self._drawn.index, axis=1)
            codes = ops.take_along_axis(ops.cast(codes, "int32"), self._drawn.index, axis=1)
        weights, codes = ops.cast(valid, "float32"), ops.cast(codes, "int32")
        found = {"scores": ops.cast(scores, "float32"), "weights": weights, "share": share}
        if chunks_fit(sums_codes, embeddings):
            of_window = (1.0 if share is None else share) / ops.maximum(ops.sum(weights, 1), 1.0)
            return found | {
                "predicted": head.scores(embeddings, *self._positions),
                "code_loss": head.summed_code_loss(
                    embeddings, *self._positions, codes, weights * of_window[:, None]
                ),
            }
        predicted, logits = head(embeddings, *self._positions)
        return found | {"predicted": predicted, "codes": codes, "code_logits": logits}


def _fields(modality: str, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    for key in pair_keys(modality):
        if key not in inputs:
            raise ValueError(
                f"The batch has no `{key}`. Give it, or leave `{modality}` out of "
                f"`modalities`. Received: {', '.join(sorted(inputs))}."
            )
    return [inputs[key] for key in pair_keys(modality)]
