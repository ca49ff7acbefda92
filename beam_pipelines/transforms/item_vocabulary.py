"""The catalogue: one row per item, the vocabulary, `items.parquet`.

Memory: one worker holds the ids of the catalogue, and the titles and picture
paths of the numbered items.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_pipelines.transforms.kept_interactions import Core, hashes_of
from beam_pipelines.transforms.rejected import REJECTED, ROWS
from beam_pipelines.transforms.shards import write_table
from kdsr_tf import schema
from kdsr_tf.artifacts import join
from kdsr_tf.errors import InputError
from kdsr_tf.hashing import stable_hash
from kdsr_tf.sequences import ITEMS_FILE, read_items
from kdsr_tf.sources import Source, catalogue_rows
from kdsr_tf.sources.batches import Piece, Rejected
from kdsr_tf.sources.catalogue_rows import ID_TWICE, CatalogueRow, as_text, row_as_json
from kdsr_tf.sources.image_values import pictures

IMAGE = "image"
ITEMS_SCHEMA = pa.schema(
    [
        (schema.ITEM, pa.int32()),
        (schema.ITEM_ID, pa.string()),
        (schema.TITLE, pa.string()),
        (IMAGE, pa.string()),
        (schema.TRAIN_COUNT, pa.int64()),
    ]
)

_SAME_CATALOGUE = 0.5


class Entry(NamedTuple):
    """What `items.parquet` says of an item."""

    item_id: str  # Its id
    title: str  # Name shown to people; the id if it has no title
    image: str | None  # Path or URI of the first picture that has one, or None
    has_picture: bool  # Whether a picture can be used; one within the catalogue has no path
    columns: tuple[str, ...]  # Other columns of the catalogue that have a value
    has_text: bool  # Whether one of them holds text


class Vocabulary(NamedTuple):
    """All items of the catalogue that have an index."""

    item_ids: list[str]  # Id of items 1..N, in order
    num_previous: int  # How many of them an earlier run had numbered


class ItemIndex(NamedTuple):
    """The lean side of the vocabulary, for workers."""

    hashes: np.ndarray  # Hashes of all ids, sorted, uint64 `[N]`
    indices: np.ndarray  # Item index of each, int32 `[N]`

    def indices_of(self, hashes: np.ndarray) -> np.ndarray:
        """Item indices, int32, of hashes that are in the vocabulary."""
        return self.indices[np.searchsorted(self.hashes, hashes)]


def read_catalogue(pipeline: beam.Pipeline, source: Source) -> Any:
    """Two collections: `rows` of `CatalogueRow` and `rejected` of `Rejected`.

    An id that occurs twice is in `rows` twice.
    """
    pieces = source.item_pieces()
    read = beam.FlatMap(_read, source.image_column).with_outputs(REJECTED, main=ROWS)
    return (
        pipeline
        | "Catalogue" >> beam.Create(pieces, reshuffle=len(pieces) > 1)
        | "Read catalogue" >> read
    )


def _read(piece: Piece, image_column: str) -> Iterator[Any]:
    for row in catalogue_rows.read_items(piece, image_column):
        yield beam.pvalue.TaggedOutput(REJECTED, row) if isinstance(row, Rejected) else row


def unique_items(rows: beam.PCollection, source: Source) -> Any:
    """`CatalogueRow`s to `rows` of `Entry` and `rejected`: the first row of an id is taken."""
    return (
        rows
        | "By id" >> beam.Map(lambda row: (row.item_id, row))
        | "Group ids" >> beam.GroupByKey()
        | "First" >> beam.FlatMap(_keep_first, source).with_outputs(REJECTED, main=ROWS)
    )


def _keep_first(element: tuple[str, Iterable[CatalogueRow]], source: Source) -> Iterator[Any]:
    item_id, rows = element
    first, *again = sorted(rows, key=lambda row: row.row)
    for row in again:
        yield _rejected(ID_TWICE, row)
    title = as_text(first.values.get(source.title_column)) or item_id
    found = pictures(first.values.get(source.image_column), source.image_path)
    usable = [picture.content for picture in found if picture.reason is None]
    image = next((content for content in usable if isinstance(content, str)), None)
    reasons = [picture.reason for picture in found if picture.reason is not None]
    if reasons and not usable:
        yield _rejected(reasons[0], first)
    without = (schema.ITEM_ID, source.image_column)
    others = {name: value for name, value in first.values.items() if name not in without}
    columns = (*others, source.image_column) if usable else tuple(others)
    has_text = any(map(_is_text, others.values()))
    yield Entry(item_id, title, image, bool(usable), columns, has_text)


def sorted_hashes(entries: beam.PCollection) -> beam.PCollection:
    """One array: the sorted hashes of all ids of the catalogue, uint64."""
    return (
        entries
        | "Hash" >> beam.Map(lambda entry: stable_hash(entry.item_id))
        | "Collect" >> beam.combiners.ToList()
        | "Sort" >> beam.Map(lambda hashes: np.unique(np.array(hashes, np.uint64)))
    )


def number_items(_: None, entries: Iterable[Entry], core: Core, previous: str | None) -> Vocabulary:
    """The vocabulary: earlier items keep their index, new ones of the core follow, sorted.

    An earlier `sequences/` in the folder `previous` is not continued if less than half of its
    items are in the catalogue: that is another catalogue.
    """
    known = {entry.item_id for entry in entries}
    kept = set(core.items.tolist())
    item_ids = [] if previous is None else read_items(previous)[schema.ITEM_ID].to_pylist()
    if sum(item_id in known for item_id in item_ids) < _SAME_CATALOGUE * len(item_ids):
        item_ids = []
    num_previous = len(item_ids)
    numbered = set(item_ids)
    item_ids += sorted(
        item_id for item_id in known if item_id not in numbered and stable_hash(item_id) in kept
    )
    return Vocabulary(item_ids, num_previous)


def index_items(vocabulary: Vocabulary) -> ItemIndex:
    """The index by hash of a vocabulary."""
    hashes = hashes_of(pa.array(vocabulary.item_ids, pa.string()))
    order = np.argsort(hashes)
    if np.any(hashes[order][1:] == hashes[order][:-1]):
        raise InputError("Two item ids have the same 64-bit hash. Rename one of them.")
    return ItemIndex(hashes[order], (order + 1).astype(np.int32))


def write_items(
    _: None,
    vocabulary: Vocabulary,
    entries: Iterable[Entry],
    train_counts: np.ndarray,
    directory: str,
    previous: str | None,
) -> dict[str, dict[str, float]]:
    """Write `items.parquet`; an item gone from the catalogue keeps its old title.

    Returns:
        Share of items that have a value, by catalogue column, and of those that
        have a picture or a text, by modality.
    """
    size = len(vocabulary.item_ids)
    place = {item_id: position for position, item_id in enumerate(vocabulary.item_ids)}
    titles: list[str] = list(vocabulary.item_ids)
    images: list[str | None] = [None] * size
    if previous is not None and vocabulary.num_previous:
        old = read_items(previous)
        titles[: old.num_rows] = old[schema.TITLE].to_pylist()
        images[: old.num_rows] = old[IMAGE].to_pylist()
    columns: collections.Counter[str] = collections.Counter()
    modalities = dict.fromkeys(schema.MODALITIES, 0)
    for entry in entries:
        position = place.get(entry.item_id)
        if position is None:
            continue
        titles[position], images[position] = entry.title, entry.image
        columns.update(entry.columns)
        modalities["image"] += entry.has_picture
        modalities["text"] += entry.has_text
    values = [np.arange(1, size + 1), vocabulary.item_ids, titles, images, train_counts[1:]]
    arrays = [
        pa.array(column, field.type) for column, field in zip(values, ITEMS_SCHEMA, strict=True)
    ]
    write_table(join(directory, ITEMS_FILE), pa.table(arrays, schema=ITEMS_SCHEMA))
    return {
        "columns": {name: columns[name] / size for name in sorted(columns)},
        "modalities": {name: count / max(size, 1) for name, count in modalities.items()},
    }


def _is_text(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return any(isinstance(part, str) and part.strip() for part in parts)


def _rejected(reason: str, row: CatalogueRow) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(REJECTED, Rejected(reason, row.where, row_as_json(row.values)))
