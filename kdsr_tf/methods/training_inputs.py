"""What training reads beside windows: teachers, and vectors of frozen encoders as content."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import fsspec
import numpy as np

from kdsr_tf import sequences, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.items.content import Content
from kdsr_tf.schema import present_key
from kdsr_tf.teacher.feature_files import Features
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


def read_content(
    config: Config, inputs: Mapping[str, Manifest], num_items: int, new_items: bool = False
) -> Content | None:
    """The content of all items that the method computes vectors from.

    Args:
        config: The configuration; its `needs.content` names the modalities.
        inputs: Manifests of `features/<modality>`.
        num_items: Items, those of `new_items/` included if they are wanted.
        new_items: Whether `new_items/` is read too.

    Returns:
        Per modality m: m float32 `(num_items + 1, size)`, memory-mapped, zeros for items
        without it, and `{m}_present` bool `(num_items + 1,)`; None if no content is needed.
    """
    arrays: dict[str, np.ndarray] = {}
    for modality in config.needs.content:
        folders = [stages.location(config, f"features/{modality}")]
        if new_items:
            folders.append(join(stages.location(config, stages.NEW_ITEMS), modality))
        size = int(inputs[f"features/{modality}"].details["size"])
        arrays[modality], arrays[present_key(modality)] = _rows(folders, num_items, size)
    return Content(arrays) if arrays else None


def _rows(folders: Sequence[str], num_items: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    # The file has no name: it ends with the process, however that ends.
    with tempfile.TemporaryFile() as file:
        rows = np.memmap(file, np.float32, "w+", shape=(num_items + 1, size))
        if hasattr(os, "posix_fallocate"):
            # A page that finds no room on the disk later would kill the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, rows.nbytes)
    present = np.zeros(num_items + 1, bool)
    for folder in folders:
        for items, vectors in Features(folder, size).batches():
            rows[items], present[items] = vectors, True
    return rows, present


class TrainingInputs(NamedTuple):
    """What the training of a method reads beside windows; see `Config.needs`."""

    num_items: int  # Items of the vocabulary
    teachers: Mapping[str, Teacher] = {}  # By modality; none where tables start at random
    # Of all items where they are computed, None where they are looked up
    content: Content | None = None


def read_training_inputs(config: Config, inputs: Mapping[str, Manifest]) -> TrainingInputs:
    """Read them, with the manifests of `stage_frame.read_inputs` for a student."""
    num_items = sequences.count_items(stages.location(config, "sequences"))
    return TrainingInputs(
        num_items, read_teachers(config, inputs), read_content(config, inputs, num_items)
    )
