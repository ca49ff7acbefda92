"""The `teach` stage: condensed vectors and a codebook per modality, and rows of content.

Features are streamed and the condensed vectors written through memory maps, so
memory grows with the pair sample and the vectors' size, not with the catalogue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config, TeachConfig
from kdsr_tf.console import console, progress
from kdsr_tf.paths import local_folder
from kdsr_tf.schema import MODALITIES
from kdsr_tf.sequences import count_items
from kdsr_tf.stage_frame import StageFrame
from kdsr_tf.teacher import pair_correlations
from kdsr_tf.teacher.autoencoder import Autoencoder, fit_linear, fit_sigmoid
from kdsr_tf.teacher.codebook import learn_codebook
from kdsr_tf.teacher.feature_files import Features
from kdsr_tf.teacher.item_rows import empty_rows, write_item_rows
from kdsr_tf.teacher.quality import (
    collapse_warnings,
    describe_codebook,
    describe_scores,
    quantisation_error,
)
from kdsr_tf.teacher.teacher import spreads

_QUALITY = ("used_share", "perplexity", "quantisation_error", "error_over_kmeans")
"""What the manifest repeats of the codebook's report."""

_PAIRS_PER_CHUNK = 1024
"""Pairs read through one memory map: every touched row maps the 64 KB around it."""


def teach(config: Config) -> list[Manifest]:
    """Fit the teachers, and write the content of computed items, that are not up to date.

    Returns:
        One manifest per artifact of the stage, in their order.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if features and sequences do not belong together.
    """
    taught = [_teach_modality(config, modality) for modality in stages.taught_modalities(config)]
    return [*taught, *(write_item_rows(config, name) for name in stages.content_of(config))]


def _teach_modality(config: Config, modality: str) -> Manifest:
    with StageFrame(config, f"teacher/{modality}") as frame:
        if frame.current is not None:
            return frame.current
        sequences = stages.location(config, "sequences")
        features = Features(
            stages.location(config, f"features/{modality}"),
            frame.inputs[f"features/{modality}"].details["size"],
        )
        with (
            local_folder(frame.new_folder()) as folder,
            progress(f"teach {modality}", total=4) as bar,
        ):
            frame.manifest.counts, frame.manifest.details = _write_teacher(
                config, modality, features, sequences, folder, bar.advance
            )
    for warning in frame.manifest.details["warnings"]:
        console.print(warning, style="yellow", markup=False)
    return frame.manifest


def _write_teacher(
    config: Config,
    modality: str,
    features: Features,
    sequences: str,
    folder: str,
    advance: Callable[[], None],
) -> tuple[dict[str, int], dict[str, Any]]:
    """Fit a teacher and write its files; counts and details of its manifest."""
    teach, num_items = config.teach, count_items(sequences)
    seed = config.seed * len(MODALITIES) + MODALITIES.index(modality)
    autoencoder = _fit_autoencoder(features, config, seed)
    autoencoder.save(os.path.join(folder, "autoencoder.npz"))
    advance()
    condensed = _condense(features, autoencoder, num_items, config, folder)
    advance()
    pairs, scores, profiles = _correlate_sample(sequences, folder, teach)
    score_scale = vector_scale = 1.0
    if teach.scale == "std":
        score_scale, vector_scale = spreads(scores, profiles, teach.correlation)
    scores /= score_scale
    profiles /= vector_scale
    advance()
    codebook = learn_codebook(profiles, teach.num_codes, teach.codebook, seed)
    np.save(os.path.join(folder, "codebook.npy"), codebook)
    described = _describe_codebook(pairs, profiles, codebook, teach, seed)
    advance()
    report = {
        "reconstruction": condensed["reconstruction"],
        "sub_vector_variance": condensed["sub_vector_variance"],
        "scores": describe_scores(scores),
        "codebook": described,
    }
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
    present = condensed["items"]
    counts = {"items": present, "absent": num_items - present, "pairs": len(pairs)}
    return counts, {
        "correlation": teach.correlation,
        "score_scale": score_scale,
        "vector_scale": vector_scale,
        "num_codes": len(codebook),
        "num_domains": teach.num_domains,
        "unexplained_variance": condensed["reconstruction"]["unexplained_share"],
        **{key: described[key] for key in _QUALITY},
        "warnings": collapse_warnings(modality, teach.num_codes, described),
    }


def _describe_codebook(
    pairs: np.ndarray, profiles: np.ndarray, codebook: np.ndarray, teach: TeachConfig, seed: int
) -> dict[str, Any]:
    codes = pair_correlations.nearest_codes(profiles, codebook)
    described = describe_codebook(profiles, codes, codebook, pairs)
    error = described["quantisation_error"]
    described["error_over_kmeans"] = _error_over_kmeans(error, profiles, teach, seed)
    return described


def _fit_autoencoder(features: Features, config: Config, seed: int) -> Autoencoder:
    teach, count = config.teach, len(features)
    if teach.autoencoder == "linear" or not count:
        return fit_linear(features.vectors, features.size, config.model.dim, seed)
    return fit_sigmoid(
        features.vectors,
        count,
        features.size,
        config.model.dim,
        epochs=teach.epochs,
        batch_size=teach.batch_size,
        learning_rate=teach.learning_rate,
        seed=seed,
    )


def _condense(
    features: Features, autoencoder: Autoencoder, num_items: int, config: Config, folder: str
) -> dict[str, Any]:
    """Write `vectors.npy` and `present.npy`; measure what the code keeps."""
    dim, domains = config.model.dim, config.teach.num_domains
    path = os.path.join(folder, "vectors.npy")
    empty_rows(path, (num_items + 1, dim), "float32")
    present = np.zeros(num_items + 1, bool)
    total, squares = np.zeros(dim), np.zeros(dim)
    error = spread = 0.0
    for items, vectors in features.batches():
        codes = autoencoder.encode(vectors)
        # Mapped anew per batch, so that touched pages do not add up.
        np.load(path, mmap_mode="r+")[items] = codes
        present[items] = True
        total += codes.sum(0, dtype=np.float64)
        squares += np.square(codes, dtype=np.float64).sum(0)
        error += float(np.square(vectors - autoencoder.decode(codes), dtype=np.float64).sum())
        spread += float(np.square(vectors - autoencoder.mean, dtype=np.float64).sum())
    np.save(os.path.join(folder, "present.npy"), present)
    count = int(present.sum())
    variance = squares / max(count, 1) - np.square(total / max(count, 1))
    return {
        "items": count,
        "reconstruction": {
            "mean_squared_error": error / max(count * features.size, 1),
            "unexplained_share": error / spread if spread > 0 else 0.0,
        },
        "sub_vector_variance": variance.reshape(domains, -1).sum(1).tolist(),
    }


def _correlate_sample(
    sequences: str, folder: str, teach: TeachConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of the sample with both items present, their scores and vectors."""
    with fsspec.open(join(sequences, "pairs.parquet"), "rb") as file:
        table = pq.read_table(file, columns=["first", "second"])
    pairs = np.stack([column.to_numpy() for column in table.columns], axis=1)
    present = np.load(os.path.join(folder, "present.npy"))
    pairs = pairs[present[pairs].all(1)]
    scores = np.empty(len(pairs), np.float32)
    profiles = np.empty((len(pairs), teach.num_domains), np.float32)
    for start in range(0, len(pairs), _PAIRS_PER_CHUNK):
        rows = slice(start, start + _PAIRS_PER_CHUNK)
        vectors = np.load(os.path.join(folder, "vectors.npy"), mmap_mode="r")
        first, second = vectors[pairs[rows, 0]], vectors[pairs[rows, 1]]
        scores[rows] = pair_correlations.correlation(first, second, teach.correlation)
        profiles[rows] = pair_correlations.correlation_vectors(
            first, second, teach.num_domains, teach.correlation
        )
    return pairs, scores, profiles


def _error_over_kmeans(error: float, profiles: np.ndarray, teach: TeachConfig, seed: int) -> float:
    """Quantisation error over that of scikit-learn's KMeans on the same sample."""
    if teach.codebook == "kmeans":
        return 1.0
    kmeans = learn_codebook(profiles, teach.num_codes, "kmeans", seed)
    reference = quantisation_error(
        profiles, pair_correlations.nearest_codes(profiles, kmeans), kmeans
    )
    return error / reference if reference > 0 else 1.0
