"""From the catalogue to groups of distinct contents to encode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_pipelines.handlers.encoder import Encoder, Unusable
from beam_pipelines.running import NAMESPACE, advance
from beam_pipelines.transforms.declarations import Declaration, Declare, Part
from kdsr_tf.hashing import shard_of
from kdsr_tf.schema import ITEM, ITEM_ID, STATES, VECTOR
from kdsr_tf.sources.batches import Piece, Rejected
from kdsr_tf.sources.catalogue_rows import read_items, row_as_json

CONTENT = "content"
DIGEST_BYTES = 16


class Owner(NamedTuple):
    """An item that has a content.

    Args:
        item: Index of the item.
        item_id: Its id.
        where: File and row of the catalogue.
        declared: What the catalogue holds, for dead letters.
        part: Place of the content among those of the item, from 0.
        parts: Contents of the item: 1, or the number of its pictures.
    """

    item: int
    item_id: str
    where: str
    declared: Any
    part: int = 0
    parts: int = 1

    def rejected(self, reason: str) -> Rejected:
        """The item, or the one picture of several, as a dead letter."""
        row = {ITEM_ID: self.item_id, CONTENT: self.declared}
        return Rejected(reason, self.where, row_as_json(row))


class Key(NamedTuple):
    """Which content a vector belongs to, and whose it is."""

    digest: bytes
    owners: tuple[Owner, ...]


class Known(NamedTuple):
    """In place of a content: what an encoder need not find out.

    Args:
        found: An earlier row of the encoder, or the reason why the content is unusable.
    """

    found: np.ndarray | Unusable


class Earlier(NamedTuple):
    """Files of what an encoder found before.

    Args:
        vectors: Path of a file of vectors.
        states: Path of the file of the states of the same contents, or None.
    """

    vectors: str
    states: str | None


class GroupContents(beam.PTransform):
    """Groups of distinct contents, the same whatever the number of workers.

    Joins the vocabulary with the catalogue, hashes what each item declares and
    merges items with equal content. Every content is in one batch, as itself or as
    `Known`; items that declare none are counted as `without`.

    Args:
        vocabulary: Path of `items.parquet`.
        declare: Row of the catalogue to what it declares.
        encoder: Identifies contents.
        num_groups: Number of groups, from the data size.
        previous: Files of the same encoder, to be used again.

    Returns:
        Lists of `(Key, content or Known)`, ordered by digest.
    """

    def __init__(
        self,
        vocabulary: str,
        declare: Declare,
        encoder: Encoder,
        num_groups: int,
        previous: list[Earlier],
    ):
        super().__init__()
        self._vocabulary = vocabulary
        self._declare = declare
        self._encoder = encoder
        self._num_groups = num_groups
        self._previous = previous

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        num_groups = self._num_groups
        # The vocabulary is one file more to read: a `Flatten` of two collections would be two
        # bundles more, and a copy of the catalogue.
        files = [self._vocabulary, *self._declare.source.item_pieces()]
        found = (
            pipeline
            | "Files" >> beam.Create(files, reshuffle=len(files) > 2)
            | "Read" >> beam.FlatMap(_read, self._declare).with_output_types(tuple[str, Any])
            | "Join" >> beam.GroupByKey()
            | "Identify" >> beam.ParDo(_Identify(self._encoder, num_groups))
        )
        if self._previous:
            previous = (
                pipeline
                | "Previous files" >> beam.Create(self._previous, reshuffle=True)
                | "Read previous" >> beam.FlatMap(_read_earlier, num_groups)
            )
            both = beam.Flatten().with_output_types(tuple[int, Any])
            found = (found, previous) | "Contents and vectors" >> both
        return found | "Group" >> beam.GroupByKey() | "Merge equal" >> beam.FlatMapTuple(_merge)


class _Identify(beam.DoFn):
    def __init__(self, encoder: Encoder, num_groups: int):
        self._encoder = encoder
        self._num_groups = num_groups

    def process(self, element: tuple[str, Iterable[int | Declaration]]) -> Iterator[Any]:
        item_id, values = element[0], list(element[1])
        declarations = [value for value in values if isinstance(value, Declaration)]
        for item in (value for value in values if not isinstance(value, Declaration)):
            first = min(declarations, key=lambda d: d.row, default=None)
            if first is None or not first.parts:
                Metrics.counter(NAMESPACE, "without").inc()
                advance()
                continue
            for number, part in enumerate(first.parts):
                owner = Owner(item, item_id, first.where, part.declared, number, len(first.parts))
                content, digest = self._identify(part, owner)
                yield shard_of(digest, self._num_groups), (digest, owner, content)

    def _identify(self, part: Part, owner: Owner) -> tuple[Any, bytes]:
        try:
            if part.reason is not None:
                raise Unusable(part.reason)
            data = self._encoder.identify(part.content)
        except Unusable as error:
            # Known by whose it is, and equal to no content.
            data = f"{owner.item} {owner.part}".encode()
            digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES, person=b"unusable")
            return Known(Unusable(str(error))), digest.digest()
        return part.content, hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _merge(_: int, entries: Iterable[Any]) -> Iterator[list[tuple[Key, Any]]]:
    """One batch per group; an entry without an owner is an earlier vector."""
    entries = list(entries)
    vectors = {digest: vector for digest, owner, vector in entries if owner is None}
    declared = [entry for entry in entries if entry[1] is not None]
    owners: dict[bytes, list[Owner]] = {}
    contents: dict[bytes, Any] = {}
    for digest, owner, content in sorted(declared, key=lambda c: (c[1].item, c[1].part)):
        owners.setdefault(digest, []).append(owner)
        contents.setdefault(digest, content)
    batch = []
    for digest in sorted(owners):
        key = Key(digest, tuple(owners[digest]))
        Metrics.counter(NAMESPACE, "duplicates").inc(len(key.owners) - 1)
        content = contents[digest]
        if digest in vectors:
            Metrics.counter(NAMESPACE, "reused").inc(len(key.owners))
            content = Known(vectors[digest])
        batch.append((key, content))
    if batch:
        yield batch


def _read(file: str | Piece, declare: Declare) -> Iterator[tuple[str, int | Declaration]]:
    """Ids with their index in the vocabulary, a path, or with what the catalogue declares."""
    if isinstance(file, str):
        yield from _read_vocabulary(file)
        return
    for row in read_items(file, declare.source.image_column):
        # Rows that cannot be read have no id to join by; `prepare` reports them.
        if not isinstance(row, Rejected):
            yield declare(row)


def _read_vocabulary(path: str) -> Iterator[tuple[str, int]]:
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=[ITEM, ITEM_ID]):
            yield from zip(batch[ITEM_ID].to_pylist(), batch[ITEM].to_pylist(), strict=True)


def _read_earlier(
    files: Earlier, num_groups: int
) -> Iterator[tuple[int, tuple[bytes, None, np.ndarray]]]:
    parts = [_read_rows(files.vectors, VECTOR)]
    if files.states is not None:
        parts.append(_read_rows(files.states, STATES))
    for found in zip(*parts, strict=True):
        digest = found[0][0]
        row = np.concatenate([values.astype(np.float32) for _, values in found])
        yield shard_of(digest, num_groups), (digest, None, row)


def _read_rows(path: str, column: str) -> Iterator[tuple[bytes, np.ndarray]]:
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=[CONTENT, column]):
            rows = batch[column].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
            yield from zip(batch[CONTENT].to_pylist(), rows, strict=True)
