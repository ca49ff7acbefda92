"""KDSR and its student from a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdsr_tf import sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.objectives.objective import Weight, annealed
from kdsr_tf.schema import TRAIN_COUNT
from kdsr_tf.teacher.teacher import Teacher


def build_student(config: Config, num_items: int) -> Student:
    """The student of a configuration, its modality tables at random.

    Raises:
        ValueError: if the layers refuse a value of the configuration.
    """
    model = config.model
    return Student(
        num_items=num_items,
        dim=model.dim,
        max_length=config.windows.max_length,
        backbone=model.backbone,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        dropout=model.dropout,
        modalities=config.modalities,
        modality_tables=model.modality_tables,
        pooling=model.pooling,
        short_term=model.short_term,
        tied=model.tied,
        output=model.output,
        logit_scale=model.logit_scale,
        last_item=model.last_item,
        seed=config.training_seed,
        backbone_options=model.options,
        dtype=config.train.precision,
    )


def build_kdsr(config: Config, read: TrainingInputs, steps_per_epoch: int) -> KDSR:
    """The student of a configuration inside its model; see `registry.build_model`."""
    num_items, teachers = read.num_items, read.teachers
    if (config.train.negatives or 0) > num_items:
        raise ConfigError(
            f"`train.negatives` must be at most {num_items}, the number of items. Received: "
            f"train.negatives={config.train.negatives}. null compares a target with all items."
        )
    student = build_student(config, num_items)
    for modality, teacher in teachers.items():
        student.set_modality_vectors(
            modality, teacher.vectors, teacher.present, initial_std=config.model.initial_std
        )
    built = KDSR(
        student,
        **distillation_arguments(config, teachers),
        weights=distillation_weights(config, steps_per_epoch),
        negatives=config.train.negatives,
        negative_distribution=config.train.negative_distribution,
        label_smoothing=config.train.label_smoothing,
        dtype=config.train.precision,
    )
    if config.train.negatives and config.train.negative_distribution == "popularity":
        built.set_popularity(train_counts(config))
    return built


def distillation_arguments(config: Config, teachers: Mapping[str, Teacher]) -> dict[str, Any]:
    """What `KDSR` and `distillation_of` take of the section `distillation`.

    Args:
        config: The configuration; its `needs.pairs` names the modalities that are taught.
        teachers: By modality.
    """
    distillation = config.distillation
    taught = {modality: teachers[modality] for modality in config.needs.pairs}
    return {
        "num_codes": max((teacher.num_codes for teacher in taught.values()), default=1),
        "modalities": tuple(taught),
        "correlation": config.teach.correlation,
        "score_scales": {m: teacher.score_scale for m, teacher in taught.items()},
        "score_loss": distillation.score_loss,
        "match": distillation.match,
        "temperature": distillation.temperature,
        "pairs_per_window": distillation.pairs_per_window,
        "seed": config.training_seed,
    }


def distillation_weights(config: Config, steps_per_epoch: int) -> dict[str, Weight]:
    """Weight of every term of distillation, by name; none if nothing is distilled.

    Args:
        config: The configuration.
        steps_per_epoch: Training steps of an epoch, by which weights are annealed.
    """
    distillation, taught = config.distillation, config.needs.pairs
    weights = {f"{m}_score": distillation.score_weight for m in taught}
    weights |= {f"{m}_code": distillation.code_weight for m in taught}
    weights |= distillation.weights if taught else {}
    if distillation.anneal is None:
        return dict(weights)
    steps, final = distillation.anneal.epochs * steps_per_epoch, distillation.anneal.final
    return {term: annealed(weight, final, steps) for term, weight in weights.items()}


def train_counts(config: Config) -> np.ndarray:
    """Train interactions of each item; row 0 is padding."""
    items = sequences.read_items(stages.location(config, "sequences"), TRAIN_COUNT)
    return np.concatenate([[0], items[TRAIN_COUNT].to_numpy()])
