"""The teacher's packed scores and codes for many windows at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_pipelines.transforms.item_vectors import JoinedVectors, local_copy, map_vectors
from kdsr_tf import schema
from kdsr_tf.artifacts import join
from kdsr_tf.errors import InputError
from kdsr_tf.teacher import arrays

_PAIRS_PER_CHUNK = 65_536


class PairScorer:
    """Scores and codes of one modality, from its committed teacher.

    Args:
        directory: Local path or URI of `teacher/<modality>/`.
        details: `details` of its manifest.
        vectors: Condensed vectors by item index. None maps those of the folder:
            processes on one machine share them and only rows that occur are read.

    Raises:
        InputError: on calling, if a score lies outside float16.
    """

    def __init__(
        self,
        directory: str,
        details: dict[str, Any],
        vectors: np.ndarray | JoinedVectors | None = None,
    ):
        self._directory = directory
        self._vectors = map_vectors(directory) if vectors is None else vectors
        self._present = np.load(local_copy(join(directory, "present.npy")))
        self._codebook = np.load(local_copy(join(directory, "codebook.npy")))
        self._kind = details["correlation"]
        self._num_domains = details["num_domains"]
        self._score_scale = details["score_scale"]
        self._vector_scale = details["vector_scale"]
        self._code_dtype = schema.code_dtype(details["num_codes"])

    def __call__(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Presence, scores, codes and the number of valid pairs of equally long windows.

        Args:
            windows: Item indices, int32 `(windows, length)`.

        Returns:
            uint8 `(windows, length)`, float16 `(windows, pairs)`, unsigned
            `(windows, pairs)` and a number; invalid pairs (an item lacks the modality, or both
            positions hold the same item) are 0.
        """
        count, length = windows.shape
        num_pairs = schema.num_pairs(length)
        scores = np.empty((count, num_pairs), schema.SCORE_DTYPE)
        codes = np.empty((count, num_pairs), self._code_dtype)
        num_valid = 0
        step = max(1, _PAIRS_PER_CHUNK // max(num_pairs, 1))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            scores[rows], codes[rows], valid = self._score(windows[rows])
            num_valid += valid
        return self._present[windows].astype(np.uint8), scores, codes, num_valid

    def none(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Empty presence, scores and codes, for windows that carry no pairs."""
        return (
            np.zeros(0, np.uint8),
            np.zeros(0, schema.SCORE_DTYPE),
            np.zeros(0, self._code_dtype),
        )

    def _score(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        i, j = schema.pair_positions(windows.shape[1])
        present = self._present[windows]
        valid = present[:, i] & present[:, j] & (windows[:, i] != windows[:, j])
        scores, profiles = arrays.window_correlations(
            self._vectors[windows], self._num_domains, self._kind
        )
        if self._score_scale != 1:
            scores = scores / self._score_scale
        if self._vector_scale != 1:
            profiles = profiles / self._vector_scale
        self._check(scores, valid, windows)
        codes = arrays.nearest_codes(profiles, self._codebook)
        return np.where(valid, scores, 0), np.where(valid, codes, 0), int(valid.sum())

    def _check(self, scores: np.ndarray, valid: np.ndarray, windows: np.ndarray) -> None:
        fits = np.abs(scores) <= np.finfo(schema.SCORE_DTYPE).max
        if (fits | ~valid).all():
            return
        window, pair = np.argwhere(valid & ~fits)[0]
        i, j = (positions[pair] for positions in schema.pair_positions(windows.shape[1]))
        raise InputError(
            f"A pair score does not fit {schema.SCORE_DTYPE}: {self._kind} of items "
            f"{windows[window, i]} and {windows[window, j]} in {self._directory} is "
            f"{scores[window, pair]:g}. Set `teach.scale=std` or "
            "`teach.correlation=cosine` and run `kdsr teach` again."
        )
