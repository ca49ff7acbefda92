"""What the training of a method reads beside windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import fsspec
import numpy as np

from kdsr_tf import sequences, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.items.content import Content
from kdsr_tf.methods.feature_content import StateStatistics, read_content, read_statistics
from kdsr_tf.teacher.teacher import Teacher


def read_teachers(config: Config, inputs: Mapping[str, Manifest]) -> dict[str, Teacher]:
    """The teachers of the modalities whose tables the student has."""
    teachers = {}
    for modality in config.needs.teachers:
        artifact = f"teacher/{modality}"
        directory, details = stages.location(config, artifact), inputs[artifact].details
        teachers[modality] = Teacher.read(directory, details, _load)
    return teachers


def _load(path: str) -> np.ndarray:
    with fsspec.open(path, "rb") as file:
        return np.load(file)


class TrainingInputs(NamedTuple):
    """What the training of a method reads beside windows; see `Config.needs`."""

    num_items: int  # Items of the vocabulary
    teachers: Mapping[str, Teacher] = {}  # By modality; none where tables start at random
    # Of all items where they are computed, None where they are looked up
    content: Content | None = None
    states: Mapping[str, StateStatistics] = {}  # By modality, where items are computed from them


def read_training_inputs(config: Config, inputs: Mapping[str, Manifest]) -> TrainingInputs:
    """Read them, with the manifests of `stage_frame.read_inputs` for a student."""
    num_items = sequences.count_items(stages.location(config, "sequences"))
    return TrainingInputs(
        num_items, read_teachers(config, inputs), read_content(config), read_statistics(config)
    )
