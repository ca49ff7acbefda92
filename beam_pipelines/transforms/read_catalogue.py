"""Reading a source's catalogue inside a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from kdsr_tf.sources import Source
from kdsr_tf.sources.batches import Piece, Rejected
from kdsr_tf.sources.catalogue_rows import read_items

ROWS = "rows"
REJECTED = "rejected"


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
    for row in read_items(piece, image_column):
        yield beam.pvalue.TaggedOutput(REJECTED, row) if isinstance(row, Rejected) else row
