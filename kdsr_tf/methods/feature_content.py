"""Vectors of the frozen encoders as content of computed items."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.items.content import Content
from kdsr_tf.schema import present_key
from kdsr_tf.teacher.feature_files import Features


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
