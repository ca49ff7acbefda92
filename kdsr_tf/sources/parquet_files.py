"""Parquet: one file, or a folder of part files."""

from __future__ import annotations

import posixpath
import urllib.parse
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf.errors import InputError
from kdsr_tf.paths import natural_order
from kdsr_tf.sources.batches import BATCH_ROWS, Batch

_BATCH_BYTES = 64 << 20
_NULL = "__HIVE_DEFAULT_PARTITION__"
_NULL_IN_FIXED_LISTS = "Expected all lists to be of size"


class Part(NamedTuple):
    """A file of Parquet, with the columns that its folders give, as in `day=2020-01-01`."""

    path: str
    values: tuple[tuple[str, str], ...] = ()


def is_folder(path: str) -> bool:
    """Whether a path is a folder, which then is one of part files."""
    filesystem, local = fsspec.core.url_to_fs(path)
    return filesystem.isdir(local)


def parts_of(path: str) -> list[Part]:
    """The part files of a folder, in the order of their names and numbers.

    Names that begin with `_` or `.` are passed over; Spark writes `_SUCCESS`.
    """
    filesystem, local = fsspec.core.url_to_fs(path)
    local = local.rstrip("/")
    found = []
    for name in sorted(filesystem.find(local), key=natural_order):
        *folders, last = name[len(local) + 1 :].split("/")
        if not any(step.startswith(("_", ".")) for step in (*folders, last)):
            values = [folder.partition("=") for folder in folders if "=" in folder]
            given = tuple(
                (key, urllib.parse.unquote(value)) for key, _, value in values if value != _NULL
            )
            found.append(Part(filesystem.unstrip_protocol(name) if "://" in path else name, given))
    others = [part.path for part in found if not part.path.lower().endswith(".parquet")]
    if others or not found:
        names = ", ".join(posixpath.basename(name) for name in others[:5]) or "no files"
        raise InputError(
            f"{path} is a folder, and holds {names}. Only a folder of .parquet files is read as "
            "one file. Join other files to one."
        )
    return found


def column_names(parts: list[Part]) -> list[str]:
    """Columns of all parts, in the order in which they occur."""
    names: dict[str, None] = {}
    for part in parts:
        with fsspec.open(part.path, "rb") as file:
            found = open_parquet(part.path, file).schema_arrow.names
        for name in found:
            if found.count(name) > 1:
                raise InputError(f"{part.path} has two columns {name!r}. Rename one of them.")
        names.update(dict.fromkeys([*found, *(name for name, _ in part.values)]))
    return list(names)


def row_groups(part: Part) -> list[int]:
    """Rows of each row group, from the metadata."""
    with fsspec.open(part.path, "rb") as file:
        metadata = open_parquet(part.path, file).metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def open_parquet(path: str, file: Any) -> pq.ParquetFile:
    """A file's metadata; a file that is not Parquet is an error."""
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}") from None


def read(part: Part, group: int, first_row: int, columns: list[str] | None) -> Iterator[Batch]:
    """Batches of a row group, whose first row has a number; `columns` None keeps all."""
    with fsspec.open(part.path, "rb") as file:
        parquet = open_parquet(part.path, file)
        if columns is not None:
            columns = [name for name in columns if name in parquet.schema_arrow.names]
        row, metadata = first_row, parquet.metadata.row_group(group)
        fitting = max(1, metadata.num_rows * _BATCH_BYTES // max(metadata.total_byte_size, 1))
        size = min(BATCH_ROWS, fitting)
        try:
            for batch in parquet.iter_batches(size, row_groups=[group], columns=columns):
                rows = np.arange(row, row + len(batch))
                row += len(batch)
                read = map(_as_bytes_unless_utf8, batch.columns)
                values = dict(zip(batch.schema.names, read, strict=True))
                for name, value in part.values:
                    values.setdefault(name, pa.repeat(pa.scalar(value), len(batch)))
                yield Batch(rows, values, [])
        except (pa.ArrowException, OSError) as error:
            if _NULL_IN_FIXED_LISTS in str(error):
                raise InputError(
                    f"{part.path} has a column of fixed-size lists with missing values, which "
                    "Arrow writes but does not read. Write it as lists of any size: "
                    "pa.list_(pa.float32())."
                ) from None
            raise InputError(
                f"{part.path} is damaged after row {row:,}: {error}. Write it again."
            ) from None


def _as_bytes_unless_utf8(column: pa.Array) -> pa.Array:
    """Texts that are not all UTF-8 as bytes, so that only the bad ones are lost."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    for text, raw in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        if column.type == text:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                return column.view(raw)
    return column
