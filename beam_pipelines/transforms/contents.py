"""From the catalogue to groups of distinct contents to encode."""

from __future__ import annotations

import dataclasses
import hashlib
import string
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_pipelines.handlers.encoder import Encoder, Unusable
from beam_pipelines.running import NAMESPACE, advance
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError, InputError
from kdsr_tf.hashing import shard_of
from kdsr_tf.schema import ITEM, ITEM_ID, VECTOR
from kdsr_tf.sources import Source
from kdsr_tf.sources.batches import Piece, Rejected, ending
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.items import (
    CatalogueRow,
    as_text,
    is_missing,
    pictures,
    read_items,
    row_as_json,
)

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
        found: An earlier vector, or why there is none.
    """

    found: np.ndarray | Unusable


class Part(NamedTuple):
    """One content of an item: its text, its vector or one of its pictures.

    Args:
        declared: As it stands in the catalogue.
        content: What the encoder reads; None if it is unusable.
        reason: Why it is unusable.
    """

    declared: Any
    content: Any = None
    reason: str | None = None


class Declaration(NamedTuple):
    """What one row of the catalogue says about a modality.

    Args:
        row: Row number; of rows with the same id the first one counts.
        where: File and row, for error messages.
        parts: The contents; empty if the item lacks the modality.
    """

    row: int
    where: str
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True)
class Declare:
    """Callable from a catalogue row to `(item_id, Declaration)`.

    Args:
        source: The user's data.
        modality: `image` or `text`.
        column: Column with the vector, for precomputed vectors.
        template: Text template.
    """

    source: Source
    modality: str
    column: str | None
    template: str | None

    @property
    def wanted(self) -> str:
        """What an item must have, for the error when none has it."""
        if self.column is not None:
            return f"a vector in the column {self.column!r}"
        if self.modality == "text":
            return f"a text for the template {self.template!r}"
        return f"an image in the column {self.source.image_column!r}"

    def __call__(self, row: CatalogueRow) -> tuple[str, Declaration]:
        return row.item_id, Declaration(row.row, row.where, tuple(self._parts(row)))

    def _parts(self, row: CatalogueRow) -> Iterator[Part]:
        if self.column is not None:
            value = row.values.get(self.column)
            if value is not None:
                yield Part(value, value)
        elif self.modality == "text":
            text = render(self.template, row.values)
            if text:
                yield Part(text, text)
        else:
            for path in pictures(row.values.get(self.source.image_column)):
                yield self._picture(path)

    def _picture(self, path: Any) -> Part:
        if not isinstance(path, str):
            return Part(path, reason="image path is not text")
        try:
            return Part(path, self.source.image_path(path))
        except InputError:
            return Part(path, reason="image path leads outside the source folder")


def declare(config: Config, modality: str, source: Source) -> Declare:
    """The `Declare` of a configuration.

    Raises:
        ConfigError: if the text template is malformed.
        InputError: if the catalogue lacks a column of the template, or of the pictures.
    """
    section = getattr(config.encode, modality)
    if section.encoder == "precomputed":
        # `choose_encoder` looks for its vectors.
        return Declare(source, modality, section.column, None)
    if modality == "image":
        _check_columns(source, "source.image_column", [source.image_column], modality)
        return Declare(source, modality, None, None)
    columns = template_columns(section.template)
    _check_columns(source, "encode.text.template", columns, modality)
    return Declare(source, modality, None, section.template)


def _check_columns(source: Source, key: str, columns: list[str], modality: str) -> None:
    missing = [name for name in columns if name not in source.item_columns]
    if missing and ending(source.items) == "jsonl":
        # Of JSON lines only the first hundred have been looked at so far.
        missing = [name for name in missing if not _occurs(source, name)]
    if missing:
        raise InputError(
            f"`{key}` names {', '.join(missing)}: {source.items} has no such column. "
            f"Columns found: {', '.join(source.item_columns)}. "
            f"Name another column, or do without it: --set encode.{modality}=null."
        )


def _occurs(source: Source, column: str) -> bool:
    return any(
        not is_missing(value)
        for piece in source.item_pieces()
        for batch in read_batches(piece, [column])
        for value in batch.columns.get(column, [])
    )


def template_columns(template: str) -> list[str]:
    """Columns that a text template names.

    Raises:
        ConfigError: if the template is malformed or names no column.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"`encode.text.template` is malformed: {error}. Received: {template!r}."
        ) from None
    fields = [(name, spec or conversion) for _, name, spec, conversion in parts if name is not None]
    names = [name for name, _ in fields]
    if not names or not all(names) or any(extra for _, extra in fields):
        raise ConfigError(
            "`encode.text.template` must name columns in braces, such as '{title}. {genres}'. "
            f"Received: {template!r}."
        )
    return names


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template from a row; `""` if the row has none of its columns.

    Example:
        >>> render("{title}. {genres}", {"title": "Heat", "genres": ["Action", "Crime"]})
        'Heat. Action, Crime'
        >>> render("{title}. {genres}", {"price": 3})
        ''
    """
    text, found = [], False
    for literal, name, _, _ in string.Formatter().parse(template):
        text.append(literal)
        if name is not None:
            value = as_text(values.get(name))
            found = found or bool(value.strip())
            text.append(value)
    return "".join(text).strip() if found else ""


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
        previous: Files of vectors of the same encoder, to be used again.

    Returns:
        Lists of `(Key, content or Known)`, ordered by digest.
    """

    def __init__(
        self,
        vocabulary: str,
        declare: Declare,
        encoder: Encoder,
        num_groups: int,
        previous: list[str],
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
                | "Read previous" >> beam.FlatMap(_read_vectors, num_groups)
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
    for row in read_items(file):
        # Rows that cannot be read have no id to join by; `prepare` reports them.
        if not isinstance(row, Rejected):
            yield declare(row)


def _read_vocabulary(path: str) -> Iterator[tuple[str, int]]:
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=[ITEM, ITEM_ID]):
            yield from zip(batch[ITEM_ID].to_pylist(), batch[ITEM].to_pylist(), strict=True)


def _read_vectors(
    path: str, num_groups: int
) -> Iterator[tuple[int, tuple[bytes, None, np.ndarray]]]:
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=[CONTENT, VECTOR]):
            vectors = batch[VECTOR].flatten().to_numpy().reshape(len(batch), -1)
            for digest, vector in zip(batch[CONTENT].to_pylist(), vectors, strict=True):
                yield shard_of(digest, num_groups), (digest, None, vector)
