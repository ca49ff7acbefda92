"""Keys, dtypes and the pair layout shared by every stage.

This module is the one place that names a record field or a serving signature.
It imports NumPy only, so that Beam workers and the serving client stay light.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

PAD = 0
"""Item index of padding. Items are 1..N; string ids exist at the edges only."""

MODALITIES = ("image", "text")
"""Known modalities, in the order of every per-modality collection."""

SPLITS = ("train", "validation", "test")

# Fields of `sequences` records (one per user).
USER_ID = "user_id"
ITEMS = "items"
TIMESTAMPS = "timestamps"
NUM_TRAIN = "num_train"

SEQUENCE_FILES = "sequences-*.parquet"
"""Names of the files of `sequences/` that hold its records."""

IDS = "ids"
"""Source of item vectors that know the item's id only (`kdsr_tf.items`)."""

# Further fields of `examples` records (one per window).
TARGET = "target"
WINDOW_START = "window_start"

TARGET_INDEX = "target_index"
"""Optional key of a batch: int32 `[K]`, where in the flattened `[B*L]` targets a
loss is taken, padded with -1. It gives compiled steps a static number of logits."""

BATCH_ITEMS = "batch_items"
"""Key of a batch for computed items: int32 `[rows]`, its items, each once."""

WINDOWS_PER_TARGET = "windows_per_target"
"""Key of a training batch: int32 `[2]`, the windows and the targets of the whole epoch.

Batches hold windows of like length and about as many targets each. With this, terms that are
means over windows give every window of an epoch the same weight, as random batches would.
"""

# Vocabulary columns (`sequences/items.parquet`, row k holds item k + 1).
ITEM = "item"
ITEM_ID = "item_id"
TITLE = "title"
TRAIN_COUNT = "train_count"

# Feature columns (`features/<modality>/vectors-*.parquet`, and `states-*.parquet` beside them).
VECTOR = "vector"
STATES = "states"

SCORE_DTYPE = "float16"

# First parts of the names of accuracy metrics, such as `hr_20`.
HIT_RATE = "hr"
RECIPROCAL_RANK = "mrr"
DISCOUNTED_GAIN = "ndcg"
ACCURACY = (HIT_RATE, RECIPROCAL_RANK, DISCOUNTED_GAIN)
HEADLINES = (HIT_RATE, RECIPROCAL_RANK)

SelectionMetric = Literal["hr_5", "hr_20", "mrr_5", "mrr_20"]
"""Metrics of every epoch, one of which selects the best (`train.monitor`)."""

# Serving signatures (the public API of a SavedModel).
SIGNATURE_RECOMMEND = "serving_default"
SIGNATURE_RECOMMEND_WITH_SEEN = "recommend_with_seen"
SIGNATURE_SIMILAR_ITEMS = "similar_items"
SIGNATURE_EMBED = "embed"
SIGNATURE_SCORE = "score"
HISTORY = "history"
CANDIDATES = "candidates"
SCORES = "scores"
EMBEDDING = "embedding"

_HISTORY = {HISTORY: ("string", 2)}
_RANKING = {ITEMS: ("string", 2), SCORES: ("float32", 2)}
SERVING_SIGNATURES = {
    SIGNATURE_RECOMMEND: (_HISTORY, _RANKING),
    SIGNATURE_RECOMMEND_WITH_SEEN: (_HISTORY, _RANKING),
    SIGNATURE_SIMILAR_ITEMS: ({ITEM_ID: ("string", 1)}, _RANKING),
    SIGNATURE_EMBED: (_HISTORY, {EMBEDDING: ("float32", 2)}),
    SIGNATURE_SCORE: (_HISTORY | {CANDIDATES: ("string", 2)}, {SCORES: ("float32", 2)}),
}
"""Inputs and outputs of every signature: name to dtype and number of dimensions."""


def present_key(modality: str) -> str:
    """Field with 1 where a position's item has the modality, uint8 `[L]`."""
    return f"{modality}_present"


def states_key(modality: str) -> str:
    """Name of the states of an item's encoder among its content."""
    return f"{modality}_states"


def content_key(name: str) -> str:
    """Key of a batch: a feature of its items, in the order of `batch_items`."""
    return f"content_{name}"


def is_of_whole_batch(key: str) -> bool:
    """Whether an entry of a batch is about the whole of it, and has no row per window."""
    whole = (BATCH_ITEMS, WINDOWS_PER_TARGET)
    return key in whole or key.startswith(content_key(""))


def scores_key(modality: str) -> str:
    """Field with the teacher's packed pair scores, float16 `[L(L-1)/2]`."""
    return f"{modality}_scores"


def codes_key(modality: str) -> str:
    """Field with the teacher's packed pair codes, unsigned `[L(L-1)/2]`."""
    return f"{modality}_codes"


def pair_keys(modality: str) -> tuple[str, str, str]:
    """The fields of a modality: presence, scores and codes."""
    return present_key(modality), scores_key(modality), codes_key(modality)


def code_dtype(num_codes: int) -> str:
    """Smallest unsigned dtype that holds codes `0..num_codes - 1`."""
    if not 1 <= num_codes <= 65536:
        raise ValueError(
            f"`num_codes` must be between 1 and 65536. Received: num_codes={num_codes}."
        )
    return "uint8" if num_codes <= 256 else "uint16"


def num_pairs(length: int) -> int:
    """Number of packed pairs of a window of `length` items."""
    return length * (length - 1) // 2


def pair_index(i: int, j: int) -> int:
    """Packed position of the pair `(i, j)` with `0 <= i < j`."""
    return j * (j - 1) // 2 + i


@functools.lru_cache(maxsize=256)
def pair_positions(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions `(i, j)`, `i < j`, of all packed pairs of a window, read-only int32 `[pairs]` each.

    Pairs are ordered by `j`, then `i`, so the first `p(p-1)/2` entries are exactly the pairs of the
    first `p` items.
    """
    j, i = np.tril_indices(length, k=-1)
    i, j = i.astype(np.int32), j.astype(np.int32)
    i.setflags(write=False)
    j.setflags(write=False)
    return i, j
