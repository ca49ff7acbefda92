"""One's own files into a folder in the source format, checked first.

Everything is read twice, a batch at a time: once to count what is there and what is
wrong, once to write. Between the two the user sees what would happen. Memory: the
ids of the users and of the catalogue, and about 60 bytes per interaction.
"""

from __future__ import annotations

import collections
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf.artifacts import join
from kdsr_tf.datasets.catalogue_pictures import LostPicture, Pictures
from kdsr_tf.datasets.import_findings import Findings
from kdsr_tf.errors import InputError
from kdsr_tf.hashing import hash_pairs
from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources import Source
from kdsr_tf.sources.batches import Piece, Rejected, label
from kdsr_tf.sources.catalogue_rows import ID_TWICE, CatalogueRow, row_as_json
from kdsr_tf.sources.files import count_lines
from kdsr_tf.sources.forms import LINES, Form
from kdsr_tf.sources.html_text import in_texts, unescaped
from kdsr_tf.sources.interaction_rows import Interactions, read_interactions
from kdsr_tf.sources.time_units import to_microseconds
from kdsr_tf.sources.times import TIMESTAMP

INTERACTIONS_FILE = "interactions.parquet"
ITEMS_FILE = "items.jsonl"
REJECTED_FILE = "rejected.jsonl"

_SAMPLES = 3
_SCHEMA = pa.schema([(USER_ID, pa.string()), (ITEM_ID, pa.string()), (TIMESTAMP, pa.int64())])

Advance = Callable[[int], None]


class Import:
    """Reads a source, says what is there, and writes it as a folder."""

    def __init__(self, source: Source, pictures: Pictures, unescape_html: bool = False):
        self._source = source
        self._pictures = pictures
        self._unescape_html = unescape_html

    def check_items(self, advance: Advance) -> Findings:
        """Read the catalogue once; `advance` is told how many rows were read."""
        found = Findings()
        for row in self._items(found.pictures):
            if isinstance(row, LostPicture):
                found.lose(row)
                continue
            advance(1)
            if isinstance(row, Rejected):
                found.reject(row)
                continue
            found.numbers[row.item_id] = len(found.numbers)
            found.columns.update(row.values.keys())
            found.notice_entities(self._texts(row.values))
            if len(found.samples[1]) < _SAMPLES:
                found.samples[1].append(row.values)
        return found

    def check_interactions(self, found: Findings, advance: Advance) -> None:
        """Read the interactions once, and complete what `check_items` found."""
        users: dict[str, int] = {}
        parts = [(found.users, found.items, np.zeros(0, np.uint64))]
        for piece, batch, items in self._interactions(found.numbers):
            advance(len(batch.rows) + len(batch.rejected))
            for row in batch.rejected:
                found.reject(row)
            if not len(batch.rows):
                continue
            room = range(_SAMPLES - len(found.samples[0]))
            found.samples[0].extend(batch.row(k) for k in room[: len(batch.rows)])
            of_rows = _numbered(batch.user_ids, lambda user: users.setdefault(user, len(users)))
            keys = hash_pairs(hash_pairs(of_rows, items, 0), batch.timestamps, 1)
            keys = hash_pairs(keys, batch.millionths, 2)
            parts.append((of_rows.astype(np.int32), items.astype(np.int32), keys))
            found.times.add(
                batch.timestamps,
                batch.are_moments,
                functools.partial(_where, piece, batch.rows),
                batch.millionths,
            )
        found.users, found.items, keys = map(np.concatenate, zip(*parts, strict=True))
        found.is_repeat = np.ones(len(keys), bool)
        found.is_repeat[np.unique(keys, return_index=True)[1]] = False

    def write(
        self,
        folder: str,
        found: Findings,
        *,
        unit: str | None,
        drop_repeats: bool,
        advance: Advance,
    ) -> int:
        """Read everything again and write it; gives the number of interactions written.

        Args:
            folder: Existing folder or URI.
            found: What was found when everything was checked.
            unit: What `settle_unit` gives: timestamps become microseconds since 1970, and
                positions stay as they are.
            drop_repeats: Leave out rows whose user, item and time occurred before.
            advance: Told how many rows were read.

        Raises:
            InputError: if what was written is not what was checked.
        """
        dropped = found.is_repeat & drop_repeats
        with fsspec.open(join(folder, REJECTED_FILE), "w", encoding="utf-8") as rejected:
            with fsspec.open(join(folder, ITEMS_FILE), "w", encoding="utf-8") as file:
                for row in self._items(collections.Counter(), folder):
                    advance(not isinstance(row, LostPicture))
                    if isinstance(row, CatalogueRow):
                        _write_line(file, row.values)
                    else:
                        _write_line(rejected, row._asdict())
            with (
                fsspec.open(join(folder, INTERACTIONS_FILE), "wb") as file,
                pq.ParquetWriter(file, _SCHEMA) as writer,
            ):
                start = 0
                for _, batch, _ in self._interactions(found.numbers):
                    advance(len(batch.rows) + len(batch.rejected))
                    for row in batch.rejected:
                        _write_line(rejected, row._asdict())
                    kept = ~dropped[start : start + len(batch.rows)]
                    # A file that grew has more rows; `_check_written` refuses it then.
                    kept = pa.array(np.resize(np.append(kept, True), len(batch.rows)))
                    start += len(batch.rows)
                    times = to_microseconds(
                        batch.timestamps, unit, batch.are_moments, batch.millionths
                    )
                    columns = [batch.user_ids, batch.item_ids, pa.array(times)]
                    writer.write_table(pa.table(columns, schema=_SCHEMA).filter(kept))
        num_dropped = int(dropped.sum())
        lost = sum(count for count, _, _ in found.lost_pictures.values())
        self._check_written(folder, found.rows, num_dropped, lost)
        return len(dropped) - num_dropped

    def _check_written(self, folder: str, rows: int, dropped: int, lost: int) -> None:
        """Every row that was read the first time must be in one of the files, once.

        Lost pictures are in the file of rejected rows, but their items stay.
        """
        with fsspec.open(join(folder, INTERACTIONS_FILE), "rb") as file:
            interactions = pq.read_metadata(file).num_rows
        lines = Form(kind=LINES, columns=())
        items = count_lines(join(folder, ITEMS_FILE), lines)
        rejected = count_lines(join(folder, REJECTED_FILE), lines) - lost
        written = interactions + items + rejected + dropped
        if written != rows:
            raise InputError(
                f"{self._source.interactions} and {self._source.items} had {rows:,} rows when they "
                f"were checked, but {written:,} were written: {interactions:,} interactions, "
                f"{items:,} items, {rejected:,} rejected rows, {dropped:,} repeated ones left out. "
                "A file changed meanwhile: import again."
            )

    def _items(
        self, outcomes: collections.Counter[str], folder: str | None = None
    ) -> Iterator[CatalogueRow | Rejected | LostPicture]:
        """The catalogue without repeated ids; pictures are copied where a folder is given."""
        seen: set[str] = set()
        for row in self._source.read_items():
            if isinstance(row, Rejected):
                yield row
                continue
            if row.item_id in seen:
                yield Rejected(ID_TWICE, row.where, row_as_json(row.values))
                continue
            seen.add(row.item_id)
            if self._unescape_html:
                decoded = in_texts(self._texts(row.values), unescaped)
                row = row._replace(values=row.values | decoded)
            values, lost = self._pictures.placed(row, outcomes, folder)
            yield from lost
            yield row._replace(values=values)

    def _texts(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values that may hold text for people: neither the id nor paths of pictures."""
        without = (ITEM_ID, self._source.image_column)
        return {name: value for name, value in values.items() if name not in without}

    def _interactions(
        self, known: dict[str, int]
    ) -> Iterator[tuple[Piece, Interactions, np.ndarray]]:
        """Batches without unknown items, their pieces and the numbers of their items."""
        for piece in self._source.interaction_pieces():
            for batch in read_interactions(piece, with_fractions=True):
                items = _numbered(batch.item_ids, lambda item_id: known.get(item_id, -1))
                rejected = batch.rejected + batch.unknown(piece, items >= 0)
                yield piece, batch.chosen(items >= 0, rejected), items[items >= 0]


def refuse(found: Findings, source: Source, max_rejected_fraction: float) -> None:
    """Raise where no row of a file can be used, or too large a share of it is rejected."""
    kept = {source.items: found.catalogue, source.interactions: found.interactions}
    for path, rows in kept.items():
        rejected = found.num_rejected(path)
        if rejected > max_rejected_fraction * (rows + rejected):
            (_, reason), (count, first) = max(
                (item for item in found.rejected.items() if item[0][0] == label(path)),
                key=lambda item: (item[1][0], item[0]),
            )
            raise InputError(
                f"{rejected:,} rows of {path} would be rejected, and {rows:,} kept: more than "
                f"--max-rejected-fraction={max_rejected_fraction} allows. Most frequent reason: "
                f"{reason} ({count:,} rows, first: {first}). Correct the file, or raise the limit."
            )
        if not rows:
            raise InputError(f"{path} has no row that can be used. There is nothing to import.")


def _numbered(ids: pa.StringArray, number: Callable[[str], int]) -> np.ndarray:
    """Numbers of ids, int64; each distinct id of the batch is looked up once."""
    distinct = ids.dictionary_encode()
    numbers = np.array(list(map(number, distinct.dictionary.to_pylist())), np.int64)
    return numbers[distinct.indices.to_numpy()]


def _where(piece: Piece, rows: np.ndarray, position: int) -> str:
    return piece.where(int(rows[position]))


def _write_line(file: Any, values: dict[str, Any]) -> None:
    file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")
