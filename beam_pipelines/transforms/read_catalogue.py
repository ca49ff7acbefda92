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


class ReadItems(beam.PTransform):
    """The catalogue's rows.

    Args:
        source: The user's data.

    Returns:
        Two collections: `rows` of `CatalogueRow` and `rejected` of `Rejected`.
        An id that occurs twice is in `rows` twice.

    Example:
        >>> catalogue = pipeline | ReadItems(source)  # doctest: +SKIP
        >>> catalogue.rows, catalogue.rejected  # doctest: +SKIP
    """

    def __init__(self, source: Source):
        super().__init__()
        self._pieces = source.item_pieces()
        self._image_column = source.image_column

    def expand(self, pipeline: beam.Pipeline) -> Any:
        return (
            pipeline
            | "Pieces" >> beam.Create(self._pieces, reshuffle=len(self._pieces) > 1)
            | "Read" >> beam.ParDo(_ReadItems(self._image_column)).with_outputs(REJECTED, main=ROWS)
        )


class _ReadItems(beam.DoFn):
    def __init__(self, image_column: str):
        self._image_column = image_column

    def process(self, piece: Piece) -> Iterator[Any]:
        for row in read_items(piece, self._image_column):
            yield beam.pvalue.TaggedOutput(REJECTED, row) if isinstance(row, Rejected) else row
