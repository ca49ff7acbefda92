"""What an import wrote, counted again from its files."""

from __future__ import annotations

from collections.abc import Sequence

import fsspec
import pyarrow.parquet as pq

from kdsr_tf.artifacts import join
from kdsr_tf.errors import InputError
from kdsr_tf.sources.line_counts import LineCounter, count_all

INTERACTIONS_FILE = "interactions.parquet"
ITEMS_FILE = "items.jsonl"
REJECTED_FILE = "rejected.jsonl"


def check_written(folder: str, rows: int, dropped: int, lost: int, inputs: Sequence[str]) -> None:
    """Every row that was read the first time must be in one of the files, once.

    Args:
        folder: The folder written.
        rows: Rows of both inputs that the first reading found.
        dropped: Repeated interactions that were left out.
        lost: Pictures in the file of rejected rows, whose items stay.
        inputs: Paths of the inputs, for the error.

    Raises:
        InputError: if the numbers do not add up, as when an input changed meanwhile.
    """
    with fsspec.open(join(folder, INTERACTIONS_FILE), "rb") as file:
        interactions = pq.read_metadata(file).num_rows
    items, rejected = (_lines(join(folder, name)) for name in (ITEMS_FILE, REJECTED_FILE))
    written = interactions + items + (rejected - lost) + dropped
    if written != rows:
        raise InputError(
            f"{' and '.join(inputs)} had {rows:,} rows when they were checked, but {written:,} "
            f"were written: {interactions:,} interactions, {items:,} items, {rejected - lost:,} "
            f"rejected rows, {dropped:,} repeated ones left out. A file changed meanwhile: import "
            "again."
        )


def _lines(path: str) -> int:
    with fsspec.open(path, "rb") as file:
        return count_all(file, LineCounter.of_records())
