"""What the models of `build_models.py` must answer, in NumPy."""

from __future__ import annotations

import numpy as np

from kdsr_tf.export.gate_sample import ReferenceStudent

MODEL = "shop"
NUM_ITEMS = 400
DIM = 16
K = 20
MAX_EXCLUSIONS = 10
RETRIEVE = K + MAX_EXCLUSIONS
MAX_LENGTH = 8
SCALE = 1e3
"""Of every table row, so that scores reach 1e7."""
TOLERANCE = {"rtol": 1e-5, "atol": 10.0}
"""Of scores: float32 sums of products of 1e7 are off by units, and some sums are near 0."""

ITEM_IDS = [f"item{number:03d}" for number in range(1, NUM_ITEMS + 1)]
POISON = ITEM_IDS[-1]
"""A history whose encoded part holds it has a vector of NaN."""

WEIGHTS = np.arange(1, MAX_LENGTH + 1, dtype=np.float32)
"""Of the positions of a history, first to last."""


def table(seed: int = 0) -> np.ndarray:
    """float32 `(NUM_ITEMS + 1, DIM)`; row 0 is padding."""
    rows = SCALE * np.random.default_rng(seed).normal(size=(NUM_ITEMS + 1, DIM))
    rows[0] = 0
    return rows.astype(np.float32)


def train_counts() -> np.ndarray:
    """Distinct, so that the popularity ranking has no ties; one item was never seen."""
    return np.random.default_rng(2).permutation(NUM_ITEMS)


def popularity() -> np.ndarray:
    counts = np.maximum(train_counts(), 0.5)
    return np.log(counts / counts.sum())


def histories(number: int = 40, longest: int = 30) -> list[list[str]]:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, longest + 1, number)
    return [rng.choice(ITEM_IDS[:-1], length).tolist() for length in lengths]


def indices(history: list[str]) -> np.ndarray:
    """Rows of the table for the known ids of a history."""
    known = {item: row for row, item in enumerate(ITEM_IDS, start=1)}
    return np.array([known[item] for item in history if item in known], int)


def user_vectors(batch: list[list[str]]) -> np.ndarray:
    rows = table()
    vectors = np.zeros((len(batch), DIM))
    for number, history in enumerate(batch):
        last = indices(history)[-MAX_LENGTH:]
        vectors[number] = WEIGHTS[: len(last)] @ rows[last]
    return vectors.astype(np.float32)


def scores(history: list[str]) -> np.ndarray:
    """Of every item, in the order of the ids."""
    if not indices(history).size:
        return popularity()
    return table()[1:] @ user_vectors([history])[0]


def ranking(
    values: np.ndarray, excluded: list[str] = (), k: int = K
) -> tuple[list[str], np.ndarray]:
    """The best k ids and their values; "" and −inf where there are no more."""
    values = np.array(values, np.float64)
    values[indices(excluded) - 1] = -np.inf
    order = np.argsort(-values, kind="stable")[:k]
    found = [ITEM_IDS[row] if np.isfinite(values[row]) else "" for row in order]
    return found, values[order]


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def reference(rows: np.ndarray | None = None) -> ReferenceStudent:
    """The student as the gate sees it; `rows` instead of the table."""
    rows = table() if rows is None else rows
    return ReferenceStudent(
        encode=lambda items: np.einsum("bl,bld->bd", (items != 0) * WEIGHTS, rows[items]),
        table=rows[1:],
        similar=unit_rows(rows[1:]),
        popularity=popularity(),
        item_ids=np.array(ITEM_IDS, object),
        max_length=MAX_LENGTH,
        k=K,
    )
