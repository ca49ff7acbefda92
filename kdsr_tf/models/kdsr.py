"""The student, its teacher's records and the losses between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.layers.sampled_logits import SampledLogits
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.losses.code_loss import CodeLoss
from kdsr_tf.losses.next_item_loss import NextItemLoss
from kdsr_tf.losses.score_loss import ScoreLoss
from kdsr_tf.metrics.hit_rate import HitRate
from kdsr_tf.metrics.mean_reciprocal_rank import MeanReciprocalRank
from kdsr_tf.metrics.pearson import Pearson
from kdsr_tf.metrics.ranking import pessimistic_ranks
from kdsr_tf.models.pair_records import PairRecords, check_drawing
from kdsr_tf.models.student import Student
from kdsr_tf.models.targets import predictions
from kdsr_tf.models.term_weights import NEXT_ITEM, Weight, complete_weights
from kdsr_tf.models.weighted_terms import WeightedTerms
from kdsr_tf.ops.cross_entropy import summed_cross_entropy
from kdsr_tf.ops.window_groups import WindowGroups
from kdsr_tf.schema import ITEMS, TARGET, TARGET_INDEX
from kdsr_tf.types import Tensor

CUTOFFS = (5, 20)


@keras.saving.register_keras_serializable(package="kdsr_tf")
class KDSR(WeightedTerms):
    """Trains a student to recommend while it predicts its teacher's correlations.

    L = L_RS + λ1 Σ_m L_S + λ2 Σ_m L_C (Eq. 7), with one named term per part:
    `next_item`, and `{m}_score` and `{m}_code` per modality m; a backbone may add
    terms of its own (`Backbone.make_auxiliary`). Weights carry the same names. Losses
    are sums divided by counts of the global batch: `next_item` by its targets, every
    other term by its windows, of which one without pairs adds 0. `loss` is the weighted
    total; every term is logged under its name as it is, and weighted under
    `{term}_weighted`. The pair terms are means over the distinct pairs i < j of two
    different items that both have the modality; the paper's 1/N² averages over both
    orders and the diagonal, whose distance is 0, so that its values are smaller by
    the share of such pairs.

    Tests add `hr_5`, `hr_20`, `mrr_5` and `mrr_20` (fractions; ties rank last, all
    items compete) over all targets, and the agreement with the teacher over all
    valid pairs: `{m}_score_agreement` (Pearson) and `{m}_code_accuracy`.

    A total that is no number makes all gradients NaN, whatever its derivatives are, so
    that an optimizer that refuses such gradients (`training.rates.grouped_adam`)
    leaves the weights as they were; `finite_report` names the terms. The norms that
    such an optimizer keeps are logged as `gradient_norm_{group}`.

    Only what counts is computed where the shapes of a step may depend on the data, that
    is on TensorFlow without XLA: logits at targets, in float32 a chunk of them at a time
    (`ops.cross_entropy`); valid pairs; and windows of causal backbones in groups of like
    length. Compiled steps compute logits at `target_index` if the batch has it, else at
    all positions, and all pairs; the losses are the same.

    Args:
        student: The model to train.
        num_codes: Codewords x of the teacher, > 0.
        modalities: Modalities with a teacher; None is all of the student's, `()`
            trains without distillation.
        correlation: The function ξ, a key of `kdsr_tf.ops.correlation.CORRELATIONS`.
        score_scales: Divisor of student scores per modality, the teacher's; 1 where
            absent.
        score_loss: `paper` or `frobenius`; see `ScoreLoss`.
        match: `soft` or `hard`; see `ScoreLoss`.
        temperature: τ, > 0.
        weights: Weights per term, numbers or learning-rate schedules over training
            steps; by default 1 for `next_item` and scores, 0.5 for codes. A term of
            weight 0 is still logged.
        pairs_per_window: Pairs drawn per window and training step, > 0, an unbiased
            estimate; see `ops.pairs.draw_pairs`. None takes all.
        negatives: Sampled negatives per training step that `next_item` compares the
            target with, in `1..num_items`; see `SampledLogits`. None compares it with
            all items, as tests always do.
        negative_distribution: `uniform` or `popularity`; for the latter
            `set_popularity` ranks the items.
        label_smoothing: Probability, in [0, 1), that `next_item` spreads over all items; not
            together with `negatives`.
        seed: Of the heads and of the drawing of pairs and negatives.

    Call arguments:
        inputs: Dict of `items` and `target` int32 `(batch, length)`, right-padded with
            0, and per modality m `{m}_present` `(batch, length)`, `{m}_scores` and
            `{m}_codes` `(batch, length * (length - 1) / 2)`; optionally `target_index`.
        training: Whether to drop units and draw pairs.

    Returns:
        Dict of what the losses and metrics compare. Use `student` to recommend.

    Raises:
        ValueError: for a modality without a table, a weight of an unknown term, drawn
            pairs with the `frobenius` loss, label smoothing with negatives, or windows
            longer than the student's `max_length`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> student = Student(num_items=30, dim=8, max_length=4, modalities=("text",))
        >>> student.set_modality_vectors("text", rng.normal(size=(31, 8)), np.ones(31, bool))
        >>> model = KDSR(student, num_codes=5)
        >>> items = rng.integers(1, 31, (16, 5)).astype("int32")
        >>> batch = {
        ...     "items": items[:, :-1],
        ...     "target": items[:, 1:],
        ...     "text_present": np.ones((16, 4), "uint8"),
        ...     "text_scores": rng.uniform(-1, 1, (16, 6)).astype("float16"),
        ...     "text_codes": rng.integers(0, 5, (16, 6)).astype("uint8"),
        ... }
        >>> model.compile(optimizer=keras.optimizers.Adam(1e-3))
        >>> history = model.fit(batch, batch_size=8, epochs=2, verbose=0)
        >>> sorted(history.history)
        ['loss', 'next_item', 'next_item_weighted', 'text_code', 'text_code_weighted', \
'text_score', 'text_score_weighted']
        >>> tuple(student.scores(items[:2, :-1]).shape)
        (2, 31)

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.
    """

    def __init__(
        self,
        student: Student,
        num_codes: int = 100,
        modalities: Sequence[str] | None = None,
        correlation: str = "cosine",
        score_scales: Mapping[str, float] | None = None,
        score_loss: str = "paper",
        match: str = "soft",
        temperature: float = 1.5,
        weights: Mapping[str, Weight] | None = None,
        pairs_per_window: int | None = None,
        negatives: int | None = None,
        negative_distribution: str = "uniform",
        label_smoothing: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.student = student
        # With negatives no loss reads a whole table.
        student.tables.gradients_of_rows = bool(negatives)
        self.modalities = student.modalities if modalities is None else tuple(modalities)
        for modality in self.modalities:
            if modality not in student.modalities:
                raise ValueError(
                    f"The student has no `{modality}` table to distil into. Its tables: "
                    f"{', '.join(student.modalities) or 'none'}."
                )
        if label_smoothing and negatives:
            raise ValueError(
                "`label_smoothing` spreads over all items, which `negatives` does not compute. "
                f"Received: label_smoothing={label_smoothing}, negatives={negatives}."
            )
        check_drawing(pairs_per_window, score_loss if self.modalities else None)
        self._config = {
            "num_codes": num_codes,
            "modalities": list(self.modalities),
            "correlation": correlation,
            "score_scales": dict(score_scales or {}),
            "score_loss": score_loss,
            "match": match,
            "temperature": temperature,
            "weights": dict(weights or {}),
            "pairs_per_window": pairs_per_window,
            "negatives": negatives,
            "negative_distribution": negative_distribution,
            "label_smoothing": label_smoothing,
            "seed": seed,
        }
        self.pairs_per_window = pairs_per_window
        self._auxiliary = student.backbone.make_auxiliary()
        own = {} if self._auxiliary is None else self._auxiliary.term_weights
        self.weigh(complete_weights(weights or {}, self.modalities, own))
        self._heads = {modality: self._make_head(modality) for modality in self.modalities}
        self._sampled_logits = negatives and SampledLogits(
            student.num_items,
            negatives,
            negative_distribution,
            derive_seed(seed, "negatives"),
            dtype=self.dtype_policy,
            name="sampled_logits",
        )
        self._draw = keras.random.SeedGenerator(derive_seed(seed, "pairs"))
        self._next_item_loss = NextItemLoss(label_smoothing, reduction="none")
        self._score_loss = ScoreLoss(score_loss, match, temperature, reduction="none")
        self._code_loss = CodeLoss(reduction="none")
        self._make_metrics()
        self.build()

    def build(self, input_shape=None) -> None:
        for head in self._heads.values():
            head.build()
        for layer in (self._auxiliary, self._sampled_logits):
            if layer is not None:
                layer.build()
        super().build()

    def set_popularity(self, counts) -> None:
        """Rank the items that negatives are drawn from; see `SampledLogits`.

        Args:
            counts: Occurrences of each item, `(num_items + 1,)`.
        """
        if self._sampled_logits is not None:
            self._sampled_logits.set_popularity(counts)

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> dict:
        for key in (ITEMS, TARGET):
            if key not in inputs:
                raise ValueError(
                    f"The batch has no `{key}`. The input is one dict and there is no `y`. "
                    f"Received: {', '.join(sorted(inputs))}."
                )
        self.student.check_length(inputs[ITEMS])
        packs = self._packs(inputs)
        split = packs and self._auxiliary is None and self.student.backbone.causal
        groups = WindowGroups(inputs[ITEMS], self.student.max_length, split)
        embeddings = self.student.tables(groups.rows(inputs[ITEMS]))
        if split:
            part, windows = embeddings, groups
        else:
            (part,), windows = groups.split_each(embeddings), None
        index, targets = inputs.get(TARGET_INDEX), groups.rows(inputs[TARGET])
        states, targets, representations = predictions(
            self.student, part, targets, index, packs, windows, training
        )
        outputs = {"targets": targets}
        outputs |= self._next_item(representations, targets, training, packs)
        if self._auxiliary is not None:
            outputs["auxiliary"] = self._auxiliary(part, states)
        if self.modalities:
            drawn = self.pairs_per_window if training else None
            length = self.student.max_length
            records = PairRecords(
                inputs[ITEMS], length, drawn, self._draw, groups, packs, sums=bool(training)
            )
            for modality, head in self._heads.items():
                whole = self._config["score_loss"] == "frobenius"
                outputs[modality] = records.compare(
                    modality, inputs, embeddings[modality], head, whole
                )
        return outputs

    def loss_terms(self, x: dict[str, Tensor], y_pred: dict) -> dict[str, tuple[Tensor, Tensor]]:
        windows = ops.cast(ops.shape(x[ITEMS])[0], "float32")
        values = {NEXT_ITEM: y_pred[NEXT_ITEM]}
        values |= y_pred.get("auxiliary", {})
        for modality in self.modalities:
            pair = y_pred[modality]
            values[f"{modality}_score"] = self._score_loss(
                (pair["scores"], pair["weights"]), pair["predicted"], sample_weight=pair["share"]
            )
            if "code_loss" in pair:
                values[f"{modality}_code"] = pair["code_loss"]
                continue
            values[f"{modality}_code"] = self._code_loss(
                (pair["codes"], pair["code_weights"]),
                pair["code_logits"],
                sample_weight=pair["code_share"],
            )
        counts = dict.fromkeys(values, windows)
        counts[NEXT_ITEM] = ops.sum(ops.cast(y_pred["targets"] > 0, "float32"))
        return {name: (ops.sum(value), counts[name]) for name, value in values.items()}

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict:
        """Loss terms; in tests also ranking and agreement."""
        if "ranks" not in y_pred:
            return self.term_logs()
        for metric in self._ranking:
            metric.update_ranks(y_pred["targets"], y_pred["ranks"])
        for modality in self.modalities:
            pair = y_pred[modality]
            self._agreement[modality].update_state(
                pair["scores"], pair["predicted"], pair["weights"]
            )
            # Flat: of a matrix Keras takes row means, so that pairs of short batches
            # would count more than those of long ones.
            self._accuracy[modality].update_state(
                ops.reshape(pair["codes"], (-1,)),
                ops.reshape(pair["code_logits"], (-1, self._config["num_codes"])),
                ops.reshape(pair["code_weights"], (-1,)),
            )
        return self.get_metrics_result()

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "student": keras.saving.serialize_keras_object(self.student),
            **self._config,
            "weights": keras.saving.serialize_keras_object(self._config["weights"]),
        }

    @classmethod
    def from_config(cls, config: dict) -> KDSR:
        config = dict(config)
        config["weights"] = keras.saving.deserialize_keras_object(config["weights"])
        return cls(keras.saving.deserialize_keras_object(config.pop("student")), **config)

    def _next_item(
        self, representations: Tensor, targets: Tensor, training: bool | None, packs: bool
    ) -> dict[str, Tensor]:
        """The loss `next_item`, by position or in one sum; in tests also `ranks`."""
        student = self.student
        if training and self._sampled_logits is not None:
            logits = self._sampled_logits(representations, targets, vectors_of=student.output_rows)
            return {NEXT_ITEM: self._next_item_loss(ops.cast(targets > 0, "int32"), logits)}
        if training and packs and representations.dtype == "float32":
            smoothing = self._next_item_loss.label_smoothing
            table = student.output_table()
            loss = summed_cross_entropy(representations, table, targets, smoothing)
            return {NEXT_ITEM: loss}
        logits = student.logits(representations)
        losses = {NEXT_ITEM: self._next_item_loss(targets, logits)}
        return losses if training else losses | {"ranks": pessimistic_ranks(targets, logits)}

    def _make_head(self, modality: str) -> CorrelationHead:
        config = self._config
        return CorrelationHead(
            self.student.dim,
            config["num_codes"],
            config["correlation"],
            config["score_scales"].get(modality, 1.0),
            derive_seed(config["seed"], modality),
            dtype=self.dtype_policy,
            name=f"{modality}_head",
        )

    def _make_metrics(self) -> None:
        self._ranking = [kind(k) for kind in (HitRate, MeanReciprocalRank) for k in CUTOFFS]
        self._agreement = {m: Pearson(name=f"{m}_score_agreement") for m in self.modalities}
        self._accuracy = {
            m: keras.metrics.SparseCategoricalAccuracy(name=f"{m}_code_accuracy")
            for m in self.modalities
        }

    def _packs(self, inputs: dict) -> bool:
        """Whether a step may take what counts alone, as many as there are at run time."""
        known = TARGET_INDEX in inputs or self.jit_compile
        return keras.backend.backend() == "tensorflow" and not known
