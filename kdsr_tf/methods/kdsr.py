"""KDSR: a student that learns the next item and its teacher's correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kdsr_tf.layers.configured_layer import arguments_of
from kdsr_tf.layers.correlation_head import CorrelationHead
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.losses.score_loss import ScoreLoss
from kdsr_tf.methods.student import Student
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.backbone_auxiliary import BackboneAuxiliary
from kdsr_tf.objectives.next_item import NextItem, next_item
from kdsr_tf.objectives.objective import Objective, Weight
from kdsr_tf.objectives.pair_distillation import PairDistillation


@keras.saving.register_keras_serializable(package="kdsr_tf")
class KDSR(TrainingModel):
    """Trains a student to recommend while it predicts its teacher's correlations.

    L = L_RS + λ1 Σ_m L_S + λ2 Σ_m L_C (Eq. 7), with one named term per part: `next_item`
    (`NextItem`), and `{m}_score` and `{m}_code` per modality m (`PairDistillation`); a
    backbone may add terms of its own (`Backbone.make_auxiliary`). Weights carry the same
    names. `TrainingModel` says how a step is computed and what is logged.

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
        seed: Seed of the heads and of the drawing of pairs and negatives.

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
        arguments = arguments_of(locals())
        taught = student.modalities if modalities is None else tuple(modalities)
        for modality in taught:
            if modality not in student.modalities:
                raise ValueError(
                    f"The student has no `{modality}` table to distil into. Its tables: "
                    f"{', '.join(student.modalities) or 'none'}."
                )
        arguments |= {
            "modalities": list(taught),
            "score_scales": dict(score_scales or {}),
            "weights": dict(weights or {}),
        }
        del arguments["student"]
        policy = keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        objectives: list[Objective] = [
            next_item(
                student.num_items, negatives, negative_distribution, label_smoothing, seed, policy
            )
        ]
        auxiliary = student.backbone.make_auxiliary()
        if auxiliary is not None:
            objectives.append(BackboneAuxiliary(auxiliary, dtype=policy, name="auxiliary"))
        if taught:
            objectives.append(distillation_of(student.dim, arguments, policy))
        super().__init__(student, objectives, weights, **kwargs)
        self._arguments = arguments
        self.modalities = taught

    @property
    def student(self) -> Student:
        """The recommender."""
        return self.recommender

    def set_popularity(self, counts) -> None:
        """Rank the items that negatives are drawn from; see `SampledLogits`."""
        for objective in self.objectives:
            if isinstance(objective, NextItem):
                objective.set_popularity(counts)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **keras.Model.get_config(self),
            "student": serialize(self.recommender),
            **self._arguments,
            "weights": serialize(self._arguments["weights"]),
        }

    @classmethod
    def from_config(cls, config: dict) -> KDSR:
        deserialize = keras.saving.deserialize_keras_object
        made = {name: deserialize(config[name]) for name in ("student", "weights")}
        return cls(**{**config, **made})


def distillation_of(
    dim: int, arguments: Mapping[str, Any], policy: keras.DTypePolicy | str
) -> PairDistillation:
    """A head per modality, and the losses of the pairs.

    Args:
        dim: Size of the vectors that learn.
        arguments: Those of `KDSR`; `modalities` are the ones that are taught.
        policy: Dtype policy.
    """
    seed = arguments["seed"]
    heads = {
        modality: CorrelationHead(
            dim,
            arguments["num_codes"],
            arguments["correlation"],
            arguments["score_scales"].get(modality, 1.0),
            derive_seed(seed, modality),
            dtype=policy,
            name=f"{modality}_head",
        )
        for modality in arguments["modalities"]
    }
    loss = ScoreLoss(
        arguments["score_loss"], arguments["match"], arguments["temperature"], reduction="none"
    )
    return PairDistillation(
        heads, loss, arguments["pairs_per_window"], seed, dtype=policy, name="distillation"
    )
