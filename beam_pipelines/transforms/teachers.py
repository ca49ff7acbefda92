"""Committed teachers on a worker."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from beam_pipelines.transforms.item_vectors import JoinedVectors, local_copy, map_vectors
from kdsr_tf.artifacts import join
from kdsr_tf.teacher.teacher import Teacher


def read_teacher(
    directory: str, details: dict[str, Any], vectors: JoinedVectors | None = None
) -> Teacher:
    """The teacher of one modality.

    Args:
        directory: Local path or URI of `teacher/<modality>/`.
        details: `details` of its manifest.
        vectors: Condensed vectors by item index. None maps those of the folder:
            processes on one machine share them and only rows that occur are read.
    """
    return Teacher(
        # They give rows by number, as an array does.
        map_vectors(directory) if vectors is None else cast(np.ndarray, vectors),
        np.load(local_copy(join(directory, "present.npy"))),
        np.load(local_copy(join(directory, "codebook.npy"))),
        details["correlation"],
        details["score_scale"],
        details["vector_scale"],
    )
