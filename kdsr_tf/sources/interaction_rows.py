"""Validated interactions, a column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources.batches import Batch, Piece, Rejected
from kdsr_tf.sources.catalogue_rows import row_as_json
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.ids import read_ids
from kdsr_tf.sources.times import FRACTION, TIMESTAMP, read_times
from kdsr_tf.sources.values import Reasons, reject, value_at

COLUMNS = [USER_ID, ITEM_ID, TIMESTAMP]

UNKNOWN_ITEM = "item_id is not in the catalogue"
"""Why a valid row is rejected once the catalogue is known."""


class Interactions(NamedTuple):
    """Valid rows of a batch.

    Args:
        user_ids: String array `[n]`.
        item_ids: String array `[n]`.
        timestamps: int64 `[n]`, not negative.
        are_moments: Whether a timestamp is a moment in microseconds since 1970, not a number
            of the file, bool `[n]`.
        millionths: What a timestamp has beyond its whole number, int64 `[n]`.
        rows: Row numbers in the file, int64 `[n]`.
        rejected: The other rows.
    """

    user_ids: pa.StringArray
    item_ids: pa.StringArray
    timestamps: np.ndarray
    are_moments: np.ndarray
    millionths: np.ndarray
    rows: np.ndarray
    rejected: list[Rejected]

    def chosen(self, kept: np.ndarray, rejected: list[Rejected]) -> Interactions:
        """Some of the rows, bool `[n]`, with the rejected rows given."""
        keep = np.flatnonzero(kept)
        columns = {name: getattr(self, name).take(keep) for name in self._fields[:-1]}
        return Interactions(**columns, rejected=rejected)

    def unknown(self, piece: Piece, known: np.ndarray) -> list[Rejected]:
        """Dead letters of the rows whose item is not in the catalogue (`known`, bool `[n]`)."""
        return [
            Rejected(UNKNOWN_ITEM, piece.where(int(self.rows[k])), row_as_json(self.row(k)))
            for k in np.flatnonzero(~known).tolist()
        ]

    def row(self, position: int) -> dict[str, Any]:
        """One row, for a dead letter."""
        time: float = int(self.timestamps[position])
        if millionths := int(self.millionths[position]):
            time += millionths / 1_000_000
        return {
            USER_ID: self.user_ids[position].as_py(),
            ITEM_ID: self.item_ids[position].as_py(),
            TIMESTAMP: time,
        }


def read_interactions(piece: Piece, *, with_fractions: bool = False) -> Iterator[Interactions]:
    """Valid and rejected rows of a piece of the interactions.

    Ids are read by `ids.read_ids`, timestamps by `times.read_times`: a number of the file
    is kept, and a moment becomes microseconds since 1970. Rows whose times have `millionths` are
    rejected unless they may have them (`with_fractions`).
    """
    for batch in read_batches(piece, COLUMNS):
        yield _checked(piece, batch, with_fractions)


def _checked(piece: Piece, batch: Batch, with_fractions: bool) -> Interactions:
    size = len(batch.rows)
    values = [batch.columns.get(name, [None] * size) for name in COLUMNS]
    reasons: Reasons = {}
    user_ids = read_ids(values[0], USER_ID, reasons)
    item_ids = read_ids(values[1], ITEM_ID, reasons)
    times = read_times(values[2], reasons)
    if not with_fractions:
        reject(reasons, times.millionths, FRACTION)
    rejected = list(batch.rejected)
    for position in sorted(reasons):
        row = {
            name: value_at(column, position) for name, column in zip(COLUMNS, values, strict=True)
        }
        where = piece.where(int(batch.rows[position]))
        rejected.append(Rejected(reasons[position], where, row_as_json(row)))
    good = np.ones(size, bool)
    good[list(reasons)] = False
    return Interactions(user_ids, item_ids, *times, batch.rows, []).chosen(good, rejected)
