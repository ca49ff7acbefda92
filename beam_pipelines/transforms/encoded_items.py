"""From the vectors of distinct contents to files of one vector per item, and of dead letters."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_pipelines.handlers.encoder import Encoder, ImageEncoder, Unusable
from beam_pipelines.running import NAMESPACE
from beam_pipelines.transforms import rejected
from beam_pipelines.transforms.contents import CONTENT, DIGEST_BYTES, Key
from beam_pipelines.transforms.shards import Files, WriteShards, write_table
from kdsr_tf.schema import ITEM, VECTOR

VECTORS = "vectors"
PICTURES = "pictures"

_NOT_FINITE = "the encoder's vector holds NaN or infinity"
_TOO_LONG = "the vector is too long: its squared length does not fit float32"


EncodedPart = tuple[int, int, bytes, bytes | None]
"""What an item has of one of its contents: the item's index, the content's place among those of
the item, its digest and its float32 vector, or None if it is unusable.
Plain values that Beam codes fast."""


class WriteItems(beam.PTransform):
    """Write `vectors-*.parquet` and `rejected-*.parquet` from `(Key, vector or Unusable)`.

    A row of vectors is `(item, vector, digest)`; an item with several pictures gets
    `Encoder.merge` of their vectors. An unusable content is a dead letter of its own. Its
    item is rejected unless another of its contents is usable. Encoders of pictures also
    write `pictures-*.parquet`: `(digest, vector)` of each picture of an item with several.

    Memory: the vectors of one file, of all pictures of its items.

    Args:
        directory: Existing local folder or URI.
        encoder: Merges vectors.
        size: Length every vector must have.
        num_shards: Number of files of vectors, and of pictures.
    """

    def __init__(self, directory: str, encoder: Encoder, size: int, num_shards: int):
        super().__init__()
        self._directory = directory
        self._size = size
        self._files: dict[str, Files] = {
            VECTORS: Files(
                num_shards, _item_as_text, operator.itemgetter(0, 1), _VectorWriter(encoder, size)
            ),
            rejected.DEAD_LETTERS: rejected.rejected_files(),
        }
        if isinstance(encoder, ImageEncoder):
            first = operator.itemgetter(0)
            self._files[PICTURES] = Files(num_shards, first, first, _PictureWriter(size))

    def expand(self, encoded: beam.PCollection) -> beam.PCollection:
        return (
            encoded
            | "Records" >> beam.ParDo(_Share(self._size))
            | "Write" >> WriteShards(self._directory, self._files)
        )


class _Share(beam.DoFn):
    """Gives what was found of a content to its owners, after a last check."""

    def __init__(self, size: int):
        self._size = size

    def process(self, element: tuple[Key, np.ndarray | Unusable]) -> Iterator[tuple[str, Any]]:
        key, vector = element
        reason = str(vector) if isinstance(vector, Unusable) else self._problem(vector)
        data = np.asarray(vector, np.float32).tobytes() if reason is None else None
        for owner in key.owners:
            if reason is not None:
                yield rejected.dead_letter(owner.rejected(reason))
            yield VECTORS, (owner.item, owner.part, key.digest, data)
        if reason is None and any(owner.parts > 1 for owner in key.owners):
            yield PICTURES, (key.digest, data)

    def _problem(self, vector: np.ndarray) -> str | None:
        """Why a vector cannot be used: of one too long, correlations would be infinite or NaN."""
        _check_shape(vector, self._size)
        if not np.all(np.isfinite(vector)):
            return _NOT_FINITE
        squared_length = np.square(vector, dtype=np.float64).sum()
        return None if squared_length <= np.finfo(np.float32).max else _TOO_LONG


@dataclasses.dataclass(frozen=True)
class _VectorWriter:
    """Writes the items of sorted `EncodedPart`s as a Parquet file, and counts them.

    Args:
        encoder: Merges the vectors of several pictures.
        size: Length of every vector.
    """

    encoder: Encoder
    size: int
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[EncodedPart]) -> None:
        rows = []
        for item, group in itertools.groupby(records, operator.itemgetter(0)):
            parts = list(group)
            usable = [(digest, data) for _, _, digest, data in parts if data is not None]
            if not usable:
                _count("rejected")
                continue
            _count("rejected_pictures", len(parts) - len(usable))
            rows.append((item, *(usable[0] if len(parts) == 1 else self._merge(usable))))
        _count("encoded", len(rows))
        columns = {
            ITEM: pa.array([item for item, _, _ in rows], pa.int32()),
            VECTOR: _column([data for _, _, data in rows], self.size),
            CONTENT: pa.array([digest for _, digest, _ in rows], pa.binary()),
        }
        write_table(path, pa.table(columns))

    def _merge(self, usable: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """Digest and vector of an item with several pictures."""
        digest = hashlib.blake2b(b"".join(d for d, _ in usable), digest_size=DIGEST_BYTES)
        vectors = np.stack([np.frombuffer(data, np.float32) for _, data in usable])
        merged = np.asarray(self.encoder.merge(vectors), np.float32)
        _check_shape(merged, self.size)
        return digest.digest(), merged.tobytes()


@dataclasses.dataclass(frozen=True)
class _PictureWriter:
    """Writes `(digest, vector)` of each picture of items with several.

    Args:
        size: Length of every vector.
    """

    size: int
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        records = list(records)
        columns = {
            CONTENT: pa.array([digest for digest, _ in records], pa.binary()),
            VECTOR: _column([data for _, data in records], self.size),
        }
        write_table(path, pa.table(columns))


def _check_shape(vector: np.ndarray, size: int) -> None:
    if vector.shape != (size,):
        raise ValueError(
            f"An encoder must give vectors of shape ({size},). Received: {vector.shape}."
        )


def _column(vectors: list[bytes], size: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(np.frombuffer(b"".join(vectors), np.float32), size)


def _item_as_text(part: EncodedPart) -> str:
    return str(part[0])


def _count(name: str, amount: int = 1) -> None:
    Metrics.counter(NAMESPACE, name).inc(amount)
