"""Streaming the encoder's vectors and states out of `features/<modality>/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import schema
from kdsr_tf.artifacts import find_files

_ROWS_PER_BATCH = 4096
_READ_BYTES = 2**20


class Features:
    """The committed vectors of one modality, read in batches.

    Args:
        directory: Local path or URI of `features/<modality>/`.
        size: Dimension of a vector, from the manifest.
    """

    files = "vectors-*.parquet"
    column = schema.VECTOR

    def __init__(self, directory: str, size: int):
        self.size = size
        self._paths = find_files(directory, self.files)

    def __len__(self) -> int:
        """Number of items with a vector."""
        return sum(self._metadata(path).num_rows for path in self._paths)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Item indices `(rows,)` and float32 vectors `(rows, size)`."""
        for path in self._paths:
            with fsspec.open(path, "rb") as file:
                # Without a buffer size, a whole column chunk would be read at once.
                parquet = pq.ParquetFile(file, buffer_size=_READ_BYTES)
                for batch in parquet.iter_batches(
                    _ROWS_PER_BATCH, columns=[schema.ITEM, self.column]
                ):
                    column = batch.column(self.column)
                    vectors = column.flatten().to_numpy(zero_copy_only=False)
                    items = batch.column(schema.ITEM).to_numpy(zero_copy_only=False)
                    yield items, vectors.reshape(len(items), self.size)

    def vectors(self) -> Iterator[np.ndarray]:
        """Only the vectors of `batches`."""
        for _, vectors in self.batches():
            yield vectors

    def _metadata(self, path: str) -> pq.FileMetaData:
        with fsspec.open(path, "rb") as file:
            return pq.read_metadata(file)


class States(Features):
    """The committed states of one modality, of the same items in the same order as `Features`.

    `batches` gives item indices `(rows,)` and the states of each item side by side,
    `(rows, sum(sizes))` in the dtype of the files, float16 or float32.

    Args:
        directory: Local path or URI of `features/<modality>/`.
        sizes: Width of each state, `details["states"]["sizes"]` of the manifest.

    Example:
        >>> details = {"layers": [0, 2], "sizes": [16, 8], "pooling": "mean", "dtype": "float16"}
        >>> len(States("/no/where", details["sizes"]))
        0
    """

    files = "states-*.parquet"
    column = schema.STATES

    def __init__(self, directory: str, sizes: Sequence[int]):
        super().__init__(directory, sum(sizes))
        self.sizes = tuple(sizes)
