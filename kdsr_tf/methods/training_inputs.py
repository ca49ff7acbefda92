"""What the training of a method reads beside windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kdsr_tf import sequences, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.items.content import Content
from kdsr_tf.methods.feature_content import read_content
from kdsr_tf.teacher.read_teachers import read_teachers
from kdsr_tf.teacher.teacher import Teacher


class TrainingInputs(NamedTuple):
    """What the training of a method reads beside windows; see `Config.needs`.

    Attributes:
        num_items: Items of the vocabulary.
        teachers: By modality; none where tables start at random.
        content: Of all items where they are computed, None where they are looked up.
    """

    num_items: int
    teachers: Mapping[str, Teacher] = {}
    content: Content | None = None


def read_training_inputs(config: Config, inputs: Mapping[str, Manifest]) -> TrainingInputs:
    """Read them, with the manifests of `stage_frame.read_inputs` for a student."""
    num_items = sequences.count_items(stages.location(config, "sequences"))
    return TrainingInputs(
        num_items, read_teachers(config, inputs), read_content(config, inputs, num_items)
    )
