"""One line per user: the user, then the items in the order in which they were taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources import json_records
from kdsr_tf.sources.batches import BATCH_ROWS, Batch, Piece, Rejected, rejected_line

TIMESTAMP = "timestamp"
COLUMNS = (USER_ID, ITEM_ID, TIMESTAMP)


def split(line: bytes, delimiter: str | None) -> list[bytes]:
    """A user and the items of a line that is not blank.

    Without a delimiter the line tells: a tab after the user, and commas, tabs or spaces between
    the items.
    """
    line = line.strip()
    if delimiter is not None:
        return [part.strip() for part in line.split(delimiter.encode()) if part.strip()]
    user, tab, items = line.partition(b"\t")
    if tab and b"," in items and b"\t" not in items:
        return [user, *(part.strip() for part in items.split(b",") if part.strip())]
    return [user, *items.split()] if tab else line.replace(b",", b" ").split()


def read(piece: Piece, file: Any, delimiter: str | None, skip: int) -> Iterator[Batch]:
    """Batches with one row per item; timestamps are positions, growing over the file.

    `piece` names the rows, which are lines; `skip` are those of a header.
    """
    rows: list[int] = []
    users: list[bytes] = []
    items: list[bytes] = []
    rejected: list[Rejected] = []
    lines = position = 0

    def batch() -> Batch:
        times = np.arange(position - len(rows), position)
        columns = pa.array(users, pa.binary()), pa.array(items, pa.binary()), pa.array(times)
        values = dict(zip(COLUMNS, columns, strict=True))
        return Batch(np.asarray(rows, np.int64), values, list(rejected), lines)

    for row, line in enumerate(json_records.read_lines(file), -skip):
        if row < 0 or (line is not None and not line.strip()):
            continue
        lines += 1
        parts = [] if line is None else split(line, delimiter)
        if len(parts) < 2:
            reason = "a line without items" if parts else "a line that is too long"
            rejected.append(Rejected(reason, piece.where(row), rejected_line(line or b"")))
        rows += [row] * (len(parts) - 1)
        users += parts[:1] * (len(parts) - 1)
        items += parts[1:]
        position += max(len(parts) - 1, 0)
        if len(rows) + len(rejected) >= BATCH_ROWS:
            yield batch()
            lines = 0
            for values in (rows, users, items, rejected):
                values.clear()
    if lines:
        yield batch()
