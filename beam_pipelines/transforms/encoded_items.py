"""From the vectors of distinct contents to files of one vector per item, and of dead letters."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_pipelines.handlers.encoder import Encoder, ImageEncoder, Unusable
from beam_pipelines.handlers.hidden_states import States
from beam_pipelines.running import NAMESPACE
from beam_pipelines.transforms import rejected
from beam_pipelines.transforms.contents import CONTENT, DIGEST_BYTES, Key
from beam_pipelines.transforms.shards import Files, WriteShards, write_table
from kdsr_tf.errors import InputError
from kdsr_tf.schema import ITEM, STATES, VECTOR

VECTORS = "vectors"
PICTURES = "pictures"
PICTURE_STATES = "picture_states"

_NOT_FINITE = "the encoder's vector holds NaN or infinity"
_TOO_LONG = "the vector is too long: its squared length does not fit float32"
_STATES_NOT_FINITE = "the encoder's states hold NaN or infinity"


EncodedPart = tuple[int, int, bytes, bytes | None]
"""What an item has of one of its contents: the item's index, the content's place among those of
the item, its digest and its vector or states, or None if it is unusable.
Plain values that Beam codes fast."""


class WriteItems(beam.PTransform):
    """Write `vectors-*.parquet` and `rejected-*.parquet` from `(Key, vector or Unusable)`.

    A row of vectors is `(item, vector, digest)`; an item with several pictures gets
    `Encoder.merge` of their vectors. An unusable content is a dead letter of its own. Its
    item is rejected unless another of its contents is usable. Encoders of pictures also
    write `pictures-*.parquet`: `(digest, vector)` of each picture of an item with several.

    With states, a row that was encoded is the vector and the states side by side. The states go
    to `states-*.parquet` and `picture_states-*.parquet`: the same rows in the same order, with
    states in place of vectors. Those of an item with several pictures are the mean of theirs,
    as they are rounded to the files' dtype: the same whether a picture is encoded now or was
    encoded before.

    Memory: the vectors or the states of one file, of all pictures of its items.

    Args:
        directory: Existing local folder or URI.
        encoder: Merges vectors.
        size: Length every vector must have.
        states: States beside every vector, or None.
        num_shards: Number of files of vectors, and of pictures.
    """

    def __init__(
        self, directory: str, encoder: Encoder, size: int, states: States | None, num_shards: int
    ):
        super().__init__()
        self._directory = directory
        key = encoder.chosen.key if encoder.chosen is not None else ""
        self._share = _Share(size, states, key)
        several = isinstance(encoder, ImageEncoder)
        self._files: dict[str, Files] = {rejected.DEAD_LETTERS: rejected.rejected_files()}
        vectors = _Rows(VECTOR, size, "float32")
        self._add(VECTORS, _ItemWriter(vectors, encoder.merge, counts=True), num_shards)
        if several:
            self._add(PICTURES, _PictureWriter(vectors), num_shards)
        if states is not None:
            rows = _Rows(STATES, states.size, states.dtype)
            self._add(STATES, _ItemWriter(rows, _mean, counts=False), num_shards)
            if several:
                self._add(PICTURE_STATES, _PictureWriter(rows), num_shards)

    def _add(self, stem: str, writer: _ItemWriter | _PictureWriter, num_shards: int) -> None:
        of_items = isinstance(writer, _ItemWriter)
        key = _item_as_text if of_items else operator.itemgetter(0)
        order = operator.itemgetter(0, 1) if of_items else operator.itemgetter(0)
        self._files[stem] = Files(num_shards, key, order, writer)

    def expand(self, encoded: beam.PCollection) -> beam.PCollection:
        return (
            encoded
            | "Records" >> beam.ParDo(self._share)
            | "Write" >> WriteShards(self._directory, self._files)
        )


class _Share(beam.DoFn):
    """Gives what was found of a content to its owners, after a last check."""

    def __init__(self, size: int, states: States | None, config_key: str):
        self._size = size
        self._states = states
        self._config_key = config_key
        self._width = size + (states.size if states is not None else 0)

    def process(self, element: tuple[Key, np.ndarray | Unusable]) -> Iterator[tuple[str, Any]]:
        key, row = element
        reason = str(row) if isinstance(row, Unusable) else self._problem(row)
        data = dict.fromkeys((VECTORS, STATES) if self._states else (VECTORS,))
        if reason is None:
            data = self._split(np.asarray(row, np.float32), key)
        for owner in key.owners:
            if reason is not None:
                yield rejected.dead_letter(owner.rejected(reason))
            for stem, values in data.items():
                yield stem, (owner.item, owner.part, key.digest, values)
        if reason is None and any(owner.parts > 1 for owner in key.owners):
            for stem, values in data.items():
                yield _OF_PICTURES[stem], (key.digest, values)

    def _problem(self, row: np.ndarray) -> str | None:
        """Why a row cannot be used: of a vector too long, correlations would not be finite."""
        _check_shape(row, self._width)
        vector, states = row[: self._size], row[self._size :]
        if not np.all(np.isfinite(vector)):
            return _NOT_FINITE
        squared_length = np.square(vector, dtype=np.float64).sum()
        if squared_length > np.finfo(np.float32).max:
            return _TOO_LONG
        return None if np.all(np.isfinite(states)) else _STATES_NOT_FINITE

    def _split(self, row: np.ndarray, key: Key) -> dict[str, bytes | None]:
        """The bytes of a vector, and those of its states."""
        data: dict[str, bytes | None] = {VECTORS: row[: self._size].tobytes()}
        if self._states is not None:
            values = row[self._size :]
            largest = float(np.abs(values).max(initial=0.0))
            if largest > float(np.finfo(self._states.dtype).max):
                raise InputError(
                    f"A state of {key.owners[0].item_id} ({key.owners[0].where}) holds a value of "
                    f"{largest:.6g}, which is outside {self._states.dtype}. Set "
                    f"{self._config_key}.dtype: float32."
                )
            data[STATES] = values.astype(self._states.dtype).tobytes()
        return data


_OF_PICTURES = {VECTORS: PICTURES, STATES: PICTURE_STATES}
"""Files of single pictures, by those of items."""


@dataclasses.dataclass(frozen=True)
class _Rows:
    """A column of rows of numbers.

    Args:
        name: Its name.
        size: Length of every row.
        dtype: `float32` or `float16`.
    """

    name: str
    size: int
    dtype: str

    def column(self, rows: list[bytes]) -> pa.Array:
        values = np.frombuffer(b"".join(rows), self.dtype)
        return pa.FixedSizeListArray.from_arrays(values, self.size)


@dataclasses.dataclass(frozen=True)
class _ItemWriter:
    """Writes the items of sorted `EncodedPart`s as a Parquet file.

    Args:
        rows: What the file holds of each item.
        merge: Merges those of several pictures.
        counts: Whether this file's items are counted.
    """

    rows: _Rows
    merge: Callable[[np.ndarray], np.ndarray]
    counts: bool
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[EncodedPart]) -> None:
        rows = []
        for item, group in itertools.groupby(records, operator.itemgetter(0)):
            parts = list(group)
            usable = [(digest, data) for _, _, digest, data in parts if data is not None]
            if not usable:
                self._count("rejected")
                continue
            self._count("rejected_pictures", len(parts) - len(usable))
            rows.append((item, *(usable[0] if len(parts) == 1 else self._merge(usable))))
        self._count("encoded", len(rows))
        columns = {
            ITEM: pa.array([item for item, _, _ in rows], pa.int32()),
            self.rows.name: self.rows.column([data for _, _, data in rows]),
            CONTENT: pa.array([digest for _, digest, _ in rows], pa.binary()),
        }
        write_table(path, pa.table(columns))

    def _merge(self, usable: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """Digest and row of an item with several pictures."""
        digest = hashlib.blake2b(b"".join(d for d, _ in usable), digest_size=DIGEST_BYTES)
        rows = np.stack([np.frombuffer(data, self.rows.dtype) for _, data in usable])
        merged = np.asarray(self.merge(rows), self.rows.dtype)
        _check_shape(merged, self.rows.size)
        return digest.digest(), merged.tobytes()

    def _count(self, name: str, amount: int = 1) -> None:
        if self.counts:
            Metrics.counter(NAMESPACE, name).inc(amount)


@dataclasses.dataclass(frozen=True)
class _PictureWriter:
    """Writes what is known of each picture of items with several, as `(digest, row)`.

    Args:
        rows: What the file holds of each picture.
    """

    rows: _Rows
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        records = list(records)
        columns = {
            CONTENT: pa.array([digest for digest, _ in records], pa.binary()),
            self.rows.name: self.rows.column([data for _, data in records]),
        }
        write_table(path, pa.table(columns))


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows.mean(axis=0, dtype=np.float64)


def _check_shape(row: np.ndarray, size: int) -> None:
    if row.shape != (size,):
        raise ValueError(f"An encoder must give vectors of shape ({size},). Received: {row.shape}.")


def _item_as_text(part: EncodedPart) -> str:
    return str(part[0])
