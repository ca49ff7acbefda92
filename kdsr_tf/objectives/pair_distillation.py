"""Predicting what the teacher says of pairs of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.losses.code_loss import CodeLoss
from kdsr_tf.losses.score_loss import ScoreLoss
from kdsr_tf.metrics.pearson import Pearson
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.objectives.objective import Objective, Step, Term
from kdsr_tf.ops import pairs
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.kernels import chunks_fit
from kdsr_tf.rules import check_drawn_pairs
from kdsr_tf.schema import ITEMS, pair_keys, pair_positions
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
            self._positions = tuple(gather(p, index) for p in pair_positions(max_length))

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
            embeddings: Embeddings of all windows, floats `(batch, length, dim)`.
            head: Head of the modality.
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


SCORE_WEIGHT, CODE_WEIGHT = 1.0, 0.5
"""λ1 and λ2 of the paper."""


@keras.saving.register_keras_serializable(package="kdsr_tf")
class PairDistillation(Objective):
    """Terms `{m}_score` (L_S) and `{m}_code` (L_C) per modality m, means over windows.

    They are means over the distinct pairs i < j of two different items of a window that both
    have the modality; a window without such pairs adds 0. The paper's 1/N² averages over both
    orders and the diagonal, whose distance is 0, so that its values are smaller by the share
    of such pairs. One drawing of pairs serves all modalities. Tests add the agreement with
    the teacher over all pairs: `{m}_score_agreement` (Pearson) and `{m}_code_accuracy`.

    Args:
        heads: By modality, what predicts scores and codes from its vectors.
        loss: Loss of scores.
        pairs_per_window: Pairs drawn per window and training step, > 0, an unbiased
            estimate; see `ops.pairs.draw_pairs`. None takes all.
        seed: Seed of the drawing.

    Raises:
        ValueError: for drawn pairs with the `frobenius` loss.

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), Eq. 2 to 7.
    """

    def __init__(
        self,
        heads: Mapping[str, CorrelationHead],
        loss: ScoreLoss,
        pairs_per_window: int | None = None,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_drawn_pairs(pairs_per_window, loss.form)
        self._heads = dict(heads)
        self._score_loss = loss
        self.pairs_per_window = pairs_per_window
        self.seed = seed
        self.default_weights = {}
        for modality in self._heads:
            self.default_weights[f"{modality}_score"] = SCORE_WEIGHT
            self.default_weights[f"{modality}_code"] = CODE_WEIGHT
        self._draws = keras.random.SeedGenerator(derive_seed(seed, "pairs"))
        self._code_loss = CodeLoss(reduction="none")
        self._agreement = {m: Pearson(name=f"{m}_score_agreement") for m in self._heads}
        self._accuracy = {
            m: keras.metrics.SparseCategoricalAccuracy(name=f"{m}_code_accuracy")
            for m in self._heads
        }

    def build(self, input_shape=None) -> None:
        for head in self._heads.values():
            head.build()
        self.built = True

    def terms(
        self, step: Step, recommender: Recommender
    ) -> tuple[dict[str, Term], dict[str, Tensor]]:
        items = step.inputs[ITEMS]
        records = PairRecords(
            items,
            recommender.max_length,
            self.pairs_per_window if step.training else None,
            self._draws,
        )
        sums_codes = step.training and step.dynamic
        terms: dict[str, Term] = {}
        found: dict[str, Tensor | None] = {}
        for modality, head in self._heads.items():
            vectors = step.vectors[modality]
            pairs = records.compare(modality, step.inputs, vectors, head, sums_codes)
            for kind, loss in (("score", self._score_term), ("code", self._code_term)):
                terms[f"{modality}_{kind}"] = Term(ops.sum(loss(pairs)), step.windows)
            if not step.training:
                found |= {f"{modality}_{name}": value for name, value in pairs.items()}
        return terms, {name: value for name, value in found.items() if value is not None}

    def metrics_of_tests(self) -> Sequence[keras.metrics.Metric]:
        return [*self._agreement.values(), *self._accuracy.values()]

    def measure(self, found: Mapping[str, Tensor]) -> None:
        for modality, head in self._heads.items():
            scores, predicted, weights = (
                found[f"{modality}_{name}"] for name in ("scores", "predicted", "weights")
            )
            self._agreement[modality].update_state(scores, predicted, weights)
            # Flat: of a matrix Keras takes row means, so that pairs of short batches
            # would count more than those of long ones.
            self._accuracy[modality].update_state(
                ops.reshape(found[f"{modality}_codes"], (-1,)),
                ops.reshape(found[f"{modality}_code_logits"], (-1, head.num_codes)),
                ops.reshape(weights, (-1,)),
            )

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "heads": {modality: serialize(head) for modality, head in self._heads.items()},
            "loss": serialize(self._score_loss),
            "pairs_per_window": self.pairs_per_window,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> PairDistillation:
        deserialize = keras.saving.deserialize_keras_object
        heads = {modality: deserialize(head) for modality, head in config["heads"].items()}
        return cls(**{**config, "heads": heads, "loss": deserialize(config["loss"])})

    def _score_term(self, pairs: Mapping[str, Tensor]) -> Tensor:
        return self._score_loss(
            (pairs["scores"], pairs["weights"]), pairs["predicted"], sample_weight=pairs["share"]
        )

    def _code_term(self, pairs: Mapping[str, Tensor]) -> Tensor:
        if "code_loss" in pairs:
            return pairs["code_loss"]
        return self._code_loss(
            (pairs["codes"], pairs["weights"]), pairs["code_logits"], sample_weight=pairs["share"]
        )
