"""The teachers that a configuration's training reads."""

from __future__ import annotations

from collections.abc import Mapping

import fsspec
import numpy as np

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
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
