"""The teacher's records of a batch: which pairs of a window count, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.ops import pairs
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.schema import pair_keys, pair_positions
from kdsr_tf.types import Tensor


class PairRecords:
    """The pairs of a batch that are compared, all or drawn, for every modality.

    One drawing serves all modalities; which of its pairs count differs. Packed, only
    pairs that count are computed. Their number is known at run time only; without that,
    all pairs are computed and those that do not count have weight 0.

    Args:
        items: Ints `(batch, length)`, right-padded with 0.
        max_length: Largest possible `length`.
        count: Pairs drawn per window, > 0; None takes all.
        seed: Of the drawing.
        groups: Of the windows.
        packs: Whether to pack the pairs.
        sums: Whether the loss of codes is wanted in place of their logits, where pairs are
            packed and embeddings have float32.
    """

    def __init__(
        self,
        items: Tensor,
        max_length: int,
        count: int | None,
        seed: keras.random.SeedGenerator,
        groups: WindowGroups,
        packs: bool,
        sums: bool = False,
    ) -> None:
        self._items = items
        self._groups = groups
        self._packs, self._sums = packs, sums
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
        whole_windows: bool,
    ) -> dict[str, Tensor | None]:
        """What the teacher says of the pairs of one modality, and what the student says.

        Args:
            modality: Its name.
            inputs: The batch; see `KDSR`.
            embeddings: Of all groups, rows `(rows, dim)`.
            head: Of the modality.
            whole_windows: Whether the scores of a window are to stay together, packed
                or not.

        Returns:
            - `scores`, `predicted` and `weights` (1 where a pair counts) `(batch, pairs)`,
              and `share` `(batch,)`: the factor that turns the mean over the drawn pairs
              into an unbiased estimate of the mean over all; None where all are taken;
            - `codes`, `code_logits` `(batch, pairs, num_codes)`, `code_weights` and
              `code_share`: the same of the codes; or `code_loss`, a scalar, see `sums`.

            Packed, every row is one pair, `(count, 1)`, `(count, 1, num_codes)` and
            `(count,)`, and the share holds the mean over its window.

        Raises:
            ValueError: if the batch lacks a field.
        """
        present, scores, codes = _fields(modality, inputs)
        if self._packs and self._drawn is None and not whole_windows:
            at = pairs.packed_valid_pairs(self._items, present, self._positions)
            counts = ops.segment_sum(
                ops.ones_like(at[0], "float32"), at[0], ops.shape(self._items)[0]
            )
            return self._packed(*at, counts, None, scores, codes, embeddings, head)[0]
        valid = pairs.valid_pairs(self._items, present, self._positions)
        share = None
        if self._drawn is not None:
            valid = ops.logical_and(valid, self._drawn.real)
            drawn = ops.sum(ops.cast(valid, "float32"), axis=1) * self._drawn.stands_for
            share = drawn / ops.maximum(pairs.count_valid_pairs(self._items, present), 1.0)
            scores = ops.take_along_axis(scores, self._drawn.index, axis=1)
            codes = ops.take_along_axis(ops.cast(codes, "int32"), self._drawn.index, axis=1)
        if self._packs:
            window, pair = (ops.cast(index, "int32") for index in ops.nonzero(valid))
            counts = ops.sum(ops.cast(valid, "float32"), axis=1)
            taken, at = self._packed(window, pair, counts, share, scores, codes, embeddings, head)
            return self._unpacked(taken, at, valid, scores, share) if whole_windows else taken
        (states,) = self._groups.split(embeddings)
        predicted, logits = head(states, *self._positions)
        return _comparison((scores, predicted, ops.cast(valid, "float32"), share), (codes, logits))

    def _packed(
        self, window, pair, counts, share, scores, codes, embeddings, head
    ) -> tuple[dict, Tensor]:
        """The comparison of packed pairs, and where they are among all."""
        at = window * ops.shape(scores)[1] + pair
        start, square, length = (
            ops.take(part, window)
            for part in (self._groups.starts, self._groups.squares, self._groups.lengths)
        )
        first, second = (self._place(p, at, pair) for p in self._positions)
        entries = square + first * length + second
        rows = (embeddings, start + first, start + second)
        one_over = ops.take((1.0 if share is None else share) / ops.maximum(counts, 1.0), window)
        theirs = ops.take(codes, at)

        def products(states: Tensor) -> Tensor:
            return self._groups.products(states, entries)

        if self._sums and embeddings.dtype == "float32":
            predicted, logits = head.scores(*rows, products), None
            code_loss = head.summed_code_loss(*rows, theirs, one_over)
        else:
            predicted, logits = head(*rows, products=products)
        one = ops.ones_like(at, "float32")[:, None]
        taken = _comparison(
            (ops.take(scores, at)[:, None], predicted[:, None], one, one_over),
            None if logits is None else (theirs[:, None], logits[:, None]),
        )
        if logits is None:
            taken["code_loss"] = code_loss
        return taken, at

    def _unpacked(self, taken, at, valid, scores, share) -> dict:
        """The same with the scores of a window together."""
        predicted = ops.scatter(at[:, None], taken["predicted"][:, 0], (ops.size(valid),))
        return taken | {
            "scores": ops.cast(scores, "float32"),
            "predicted": ops.reshape(predicted, ops.shape(valid)),
            "weights": ops.cast(valid, "float32"),
            "share": share,
        }

    def _place(self, positions: Tensor, at: Tensor, pair: Tensor) -> Tensor:
        """Positions of the packed pairs in their windows."""
        return ops.take(positions, pair if self._drawn is None else at)


def _comparison(scores: tuple, codes: tuple | None) -> dict[str, Tensor | None]:
    theirs, predicted, weights, share = scores
    compared = {
        "scores": ops.cast(theirs, "float32"),
        "predicted": predicted,
        "weights": weights,
        "share": share,
    }
    if codes is None:
        return compared
    codes, logits = codes
    return compared | {
        "codes": ops.cast(codes, "int32"),
        "code_logits": logits,
        "code_weights": weights,
        "code_share": share,
    }


def _fields(modality: str, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    for key in pair_keys(modality):
        if key not in inputs:
            raise ValueError(
                f"The batch has no `{key}`. Give it, or leave `{modality}` out of "
                f"`modalities`. Received: {', '.join(sorted(inputs))}."
            )
    return [inputs[key] for key in pair_keys(modality)]
