"""New items in tables, from their texts and pictures alone.

A new item has no interactions, so nothing is known of its id. Its vectors of the frozen
encoders go through the teacher's autoencoder (m̃) and find the catalogue's nearest items.
Its id row points where theirs do on average and is as long as theirs are on average; a
plain mean would be short, and a short row never reaches the top of a ranking (where ids
have a table of their own on the way in, its row there is made likewise). Its
modality rows are what the linear map that best takes m̃ of the known items to their
learnt rows makes of its m̃. `docs/export.md` says how well such items are recommended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import fsspec
import numpy as np

from kdsr_tf import schema, stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.items.item_tables import ItemTables
from kdsr_tf.schema import IDS
from kdsr_tf.teacher.autoencoder import Autoencoder
from kdsr_tf.teacher.feature_files import Features

NUM_NEIGHBOURS = 5

_ITEMS_PER_CHUNK = 1024
_RIDGE = 1e-3


class Condensed(NamedTuple):
    """Condensed vectors m̃ of one modality."""

    known: np.ndarray  # float32 `(N, dim)` of the student's items
    known_present: np.ndarray  # bool `(N,)`
    new: np.ndarray  # float32 `(A, dim)` of the new items
    new_present: np.ndarray  # bool `(A,)`


def with_new_items(
    tables: ItemTables, condensed: Mapping[str, Condensed], boost: float = 1.0
) -> ItemTables:
    """Tables that also know new items.

    Args:
        tables: Trained on the vocabulary that the new items follow.
        condensed: m̃ by modality; every new item has at least one.
        boost: Factor of the length of their scored id rows, and so of their scores where
            these are no cosines, > 0.

    Returns:
        Tables in which the A new items follow the N known ones.
    """
    count = len(next(iter(condensed.values())).new)
    rows = {name: np.asarray(table) for name, table in tables.row_variables().items()}
    new = {name: np.zeros((count, tables.dim), np.float32) for name in tables.id_tables()}
    for chunk, nearest in _neighbours(condensed):
        for name, table in new.items():
            around = rows[name][1:][nearest]
            lengths = np.linalg.norm(around, axis=2, keepdims=True).mean(axis=1)
            table[chunk] = _unit(around.mean(axis=1)) * lengths
    new[IDS] *= boost
    for modality in tables.modalities:
        part = condensed.get(modality)
        present = np.zeros(count, bool) if part is None else part.new_present
        # The row that the known items without this modality have, where there are any.
        table, absent = rows[modality][1:], rows[schema.present_key(modality)][1:] < 0.5
        new[modality] = np.repeat(
            table[absent if absent.any() else slice(None)].mean(axis=0)[None], count, axis=0
        )
        if part is not None and present.any():
            new[modality][present] = _mapped(part, table)
        new[schema.present_key(modality)] = present.astype(np.float32)
    return tables.with_rows({k: np.concatenate([rows[k], new[k]]) for k in rows})


def condense(config: Config, modality: str, num_known: int, num_new: int) -> Condensed:
    """The m̃ of known and new items, through the teacher's autoencoder.

    Args:
        config: The configuration; `new_items/` and `teacher/` are committed.
        modality: One that `new_items/` has vectors of.
        num_known: Items of the vocabulary.
        num_new: Items of `new_items/`.
    """
    teacher = stages.location(config, f"teacher/{modality}")
    known, present, autoencoder = (
        _load(join(teacher, name), read)
        for name, read in (
            ("vectors.npy", np.load),
            ("present.npy", np.load),
            ("autoencoder.npz", Autoencoder.load),
        )
    )
    new = np.zeros((num_new, known.shape[1]), np.float32)
    new_present = np.zeros(num_new, bool)
    folder = join(stages.location(config, stages.NEW_ITEMS), modality)
    for items, vectors in Features(folder, len(autoencoder.mean)).batches():
        new[items - num_known - 1] = autoencoder.encode(vectors)
        new_present[items - num_known - 1] = True
    return Condensed(known[1:], present[1:], new, new_present)


def _neighbours(condensed: Mapping[str, Condensed]) -> Any:
    """Slices of the new items and their nearest known ones, by cosine over all modalities."""
    parts = condensed.values()
    known = _unit(np.concatenate([_unit(p.known * p.known_present[:, None]) for p in parts], 1))
    new = _unit(np.concatenate([_unit(p.new * p.new_present[:, None]) for p in parts], 1))
    count = min(NUM_NEIGHBOURS, len(known))
    for start in range(0, len(new), _ITEMS_PER_CHUNK):
        chunk = slice(start, start + _ITEMS_PER_CHUNK)
        yield chunk, np.argpartition(-(new[chunk] @ known.T), count - 1, axis=1)[:, :count]


def _mapped(part: Condensed, table: np.ndarray) -> np.ndarray:
    """Rows of the new items from the linear map m̃ → row of the known ones (ridge)."""
    inputs, outputs = part.known[part.known_present], table[part.known_present]
    inputs_mean, outputs_mean = inputs.mean(axis=0), outputs.mean(axis=0)
    inputs = inputs - inputs_mean
    products = inputs.T @ inputs
    penalty = _RIDGE * max(float(np.trace(products)), 1e-12) / len(products)
    weights = np.linalg.solve(
        products + penalty * np.eye(len(products)), inputs.T @ (outputs - outputs_mean)
    )
    return (part.new[part.new_present] - inputs_mean) @ weights + outputs_mean


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _load(path: str, read: Any) -> Any:
    with fsspec.open(path, "rb") as file:
        return read(file)
