"""A fitted teacher: what it says about the pairs of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kdsr_tf import schema
from kdsr_tf.artifacts import join
from kdsr_tf.errors import InputError
from kdsr_tf.rules import check_correlation
from kdsr_tf.teacher import pair_correlations

_PAIRS_PER_CHUNK = 65_536


class Teacher:
    """Condensed vectors and a codebook, which give every pair of items a score and a code.

    r_ij = ξ(m̃_i, m̃_j), and c_ij is the nearest codeword of the correlation vector, ξ per
    sub-vector. The jobs make one of their artifacts; `fit` makes one of vectors in memory.

    Args:
        vectors: Condensed vectors m̃, float32 `(num_items + 1, dim)`; row 0 is padding.
            Anything indexed by arrays of items will do.
        present: Which items have the modality, bools `(num_items + 1,)`.
        codebook: Codewords, float32 `(num_codes, num_domains)`.
        correlation: The function ξ.
        score_scale: Divisor of scores.
        vector_scale: Divisor of correlation vectors.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(21, 12))
        >>> windows = np.array([[3, 7, 5, 0], [8, 2, 0, 0]])
        >>> teacher = Teacher.fit(features, windows, dim=8, num_codes=3, num_domains=4)
        >>> records = teacher.annotate(windows, "text")
        >>> {name: value.shape for name, value in records.items()}
        {'text_present': (2, 4), 'text_scores': (2, 6), 'text_codes': (2, 6)}

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.2.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        present: np.ndarray,
        codebook: np.ndarray,
        correlation: str = "cosine",
        score_scale: float = 1.0,
        vector_scale: float = 1.0,
    ):
        check_correlation(correlation)
        self.vectors = vectors
        self.present = present
        self.codebook = codebook
        self.correlation = correlation
        self.score_scale = score_scale
        self.vector_scale = vector_scale

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        windows: np.ndarray,
        present: np.ndarray | None = None,
        dim: int = 128,
        num_codes: int = 100,
        num_domains: int = 8,
        correlation: str = "cosine",
        codebook: str = "kmeans",
        pair_sample_size: int = 200_000,
        seed: int = 0,
    ) -> Teacher:
        """A teacher of features and windows that fit in memory.

        The linear autoencoder is solved exactly. The codebook is learnt from distinct
        pairs of the windows. Scores of unbounded ξ are divided by their standard
        deviation over these pairs.

        Args:
            features: Output of a frozen encoder, floats `(num_items + 1, size)`; row 0
                is padding.
            windows: Item indices of train sequences, ints `(windows, length)`,
                right-padded with 0.
            present: Which items have the modality, bools `(num_items + 1,)`; None is all.
            dim: Size d of the student's embeddings; a multiple of `num_domains`.
            num_codes: Codewords x, > 0.
            num_domains: Sub-vectors D.
            correlation: The function ξ.
            codebook: `kmeans` or `vq`.
            pair_sample_size: Most pairs to learn from.
            seed: Seed of the rotation, the sample and the codebook.

        Raises:
            ValueError: for another correlation, or shapes that do not fit.
        """
        # Imported here: scikit-learn is not needed to read a teacher.
        from kdsr_tf.teacher.autoencoder import fit_linear
        from kdsr_tf.teacher.codebook import learn_codebook

        features = np.asarray(features, np.float32)
        present = np.ones(len(features), bool) if present is None else np.array(present, bool)
        present[schema.PAD] = False
        if present.shape != features.shape[:1] or windows.max(initial=0) >= len(features):
            raise ValueError(
                "`features` must have a row per item, `present` one entry per row. Received: "
                f"features.shape={features.shape}, present.shape={present.shape}, largest item "
                f"{windows.max(initial=0)}."
            )
        autoencoder = fit_linear(lambda: [features[present]], features.shape[1], dim, seed)
        vectors = np.where(present[:, None], autoencoder.encode(features), np.float32(0))
        pairs = _sample_pairs(windows, present, pair_sample_size, seed)
        first, second = vectors[pairs[:, 0]], vectors[pairs[:, 1]]
        scores = pair_correlations.correlation(first, second, correlation)
        profiles = pair_correlations.correlation_vectors(first, second, num_domains, correlation)
        score_scale, vector_scale = spreads(scores, profiles, correlation)
        codewords = learn_codebook(profiles / vector_scale, num_codes, codebook, seed)
        return cls(vectors, present, codewords, correlation, score_scale, vector_scale)

    @classmethod
    def read(
        cls,
        directory: str,
        details: Mapping[str, Any],
        load: Callable[[str], np.ndarray],
        vectors: np.ndarray | None = None,
    ) -> Teacher:
        """A committed teacher.

        Args:
            directory: Local path or URI of `teacher/<modality>/`.
            details: `details` of its manifest.
            load: Function from the path of a file to its array.
            vectors: Condensed vectors; None loads those of the folder.
        """
        return cls(
            load(join(directory, "vectors.npy")) if vectors is None else vectors,
            load(join(directory, "present.npy")),
            load(join(directory, "codebook.npy")),
            details["correlation"],
            details["score_scale"],
            details["vector_scale"],
        )

    @property
    def num_codes(self) -> int:
        """Codewords."""
        return len(self.codebook)

    def annotate(self, windows: np.ndarray, modality: str) -> dict[str, np.ndarray]:
        """The fields of a modality that `KDSR` learns from, as `correlate` gives them.

        `{m}_present`, `{m}_scores` and `{m}_codes`.
        """
        *fields, _ = self.correlate(windows)
        return dict(zip(schema.pair_keys(modality), fields, strict=True))

    def correlate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Scores and codes of all pairs of equally long windows.

        Args:
            windows: Item indices, ints `(windows, length)`, right-padded with 0.

        Returns:
            Presence uint8 `(windows, length)`; scores float16 and codes unsigned
            `(windows, length * (length - 1) / 2)`, packed as in
            `kdsr_tf.schema.pair_positions`; and the number of valid pairs. Invalid pairs (an
            item lacks the modality, or both positions hold the same item) are 0.

        Raises:
            InputError: if a score lies outside float16.
        """
        count, length = windows.shape
        num_pairs = schema.num_pairs(length)
        scores = np.empty((count, num_pairs), schema.SCORE_DTYPE)
        codes = np.empty((count, num_pairs), schema.code_dtype(self.num_codes))
        num_valid = 0
        step = max(1, _PAIRS_PER_CHUNK // max(num_pairs, 1))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            scores[rows], codes[rows], valid = self._correlate(windows[rows])
            num_valid += valid
        return self.present[windows].astype(np.uint8), scores, codes, num_valid

    def _correlate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        i, j = schema.pair_positions(windows.shape[1])
        present = self.present[windows]
        valid = present[:, i] & present[:, j] & (windows[:, i] != windows[:, j])
        scores, profiles = pair_correlations.window_correlations(
            self.vectors[windows], self.codebook.shape[1], self.correlation
        )
        if self.score_scale != 1:
            scores = scores / self.score_scale
        if self.vector_scale != 1:
            profiles = profiles / self.vector_scale
        self._check(scores, valid, windows)
        codes = pair_correlations.nearest_codes(profiles, self.codebook)
        return np.where(valid, scores, 0), np.where(valid, codes, 0), int(valid.sum())

    def _check(self, scores: np.ndarray, valid: np.ndarray, windows: np.ndarray) -> None:
        fits = np.abs(scores) <= np.finfo(schema.SCORE_DTYPE).max
        if (fits | ~valid).all():
            return
        window, pair = np.argwhere(valid & ~fits)[0]
        i, j = (positions[pair] for positions in schema.pair_positions(windows.shape[1]))
        raise InputError(
            f"A pair score does not fit {schema.SCORE_DTYPE}: {self.correlation} of items "
            f"{windows[window, i]} and {windows[window, j]} is {scores[window, pair]:g}. "
            "Use `teach.scale=std` or `teach.correlation=cosine`, and run `kdsr teach` again."
        )


def spreads(scores: np.ndarray, profiles: np.ndarray, correlation: str) -> tuple[float, float]:
    """Divisors of scores `(pairs,)` and correlation vectors: their standard deviations.

    Cosine is bounded and keeps its scale.
    """
    if correlation == "cosine" or not len(scores):
        return 1.0, 1.0
    return float(scores.std()) or 1.0, float(profiles.std()) or 1.0


def _sample_pairs(windows: np.ndarray, present: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Distinct pairs of items with the modality within a window, ints `(pairs, 2)`."""
    i, j = schema.pair_positions(windows.shape[1])
    low, high = np.minimum(windows[:, i], windows[:, j]), np.maximum(windows[:, i], windows[:, j])
    valid = present[low] & present[high] & (low != high)
    pairs = np.unique(np.stack([low[valid], high[valid]], axis=1), axis=0)
    if len(pairs) > size:
        pairs = pairs[np.random.default_rng([seed, 1]).choice(len(pairs), size, replace=False)]
    return pairs
