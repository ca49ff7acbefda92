"""A prepared TFDS dataset as interactions and catalogue.

`source.path: tfds:movielens/1m-ratings` reads what TFDS has already prepared on
disk; nothing is downloaded here. The catalogue is another dataset
(`source.tfds.items`; the builders of `kdsr_tf.datasets` bring theirs) or the
distinct items of the interactions. TFDS is imported only inside functions.

Records keep the order in which TFDS stored them: it decides between equal timestamps.
"""

from __future__ import annotations

import dataclasses
import posixpath
import shlex
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from kdsr_tf.artifacts import exists, fingerprint, join
from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources.batches import (
    BATCH_ROWS,
    TFDS_PREFIX,
    Batch,
    Piece,
    check_columns,
    check_own_names,
    names_in,
)
from kdsr_tf.sources.files import digest
from kdsr_tf.sources.image_files import check_folders, listing_digest
from kdsr_tf.sources.interaction_rows import COLUMNS
from kdsr_tf.sources.source import Source
from kdsr_tf.sources.values import Column

KNOWN_COLUMNS = {
    "movielens": {ITEM_ID: "movie_id", "title": "movie_title", "genres": "movie_genres"}
}
"""`source.columns` of builders whose features are known; the configuration comes on top."""

ROWS_PER_PIECE = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsPiece(Piece):
    """Records of a split that one worker reads.

    Args:
        directory: Folder of the prepared dataset.
        split: Name of the split.
        stop_row: Record after the last one.
        features: Features that can be read.
        distinct: Feature of which only the first record per value is read; None reads all.
    """

    directory: str
    split: str
    stop_row: int
    features: tuple[str, ...]
    distinct: str | None = None

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        """Batches with the dataset's own feature names."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.directory)
        chosen = [name for name in self.features if columns is None or name in columns]
        needed = {*chosen, *([] if self.distinct is None else [self.distinct])}
        dataset = builder.as_dataset(
            split=f"{self.split}[{self.first_row}:{self.stop_row}]",
            # One file after the other: a record's number says where it is stored.
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
            decoders=tfds.decode.PartialDecoding(
                {name: builder.info.features[name] for name in needed}
            ),
        )
        row = self.first_row
        seen: set[Any] = set()
        try:
            for batch in dataset.ragged_batch(BATCH_ROWS):
                lists = {name: _values(builder.info.features[name], batch[name]) for name in needed}
                size = len(next(iter(lists.values())))
                rows = np.arange(row, row + size)
                row += size
                if self.distinct is not None:
                    new = _first_of_each(lists[self.distinct], seen)
                    rows = rows[new]
                    lists = {name: _chosen(values, new) for name, values in lists.items()}
                yield Batch(rows, {name: lists[name] for name in chosen}, [])
        except tf.errors.OpError as error:
            raise InputError(
                f"{self.path} is damaged after row {row:,}: {error.message.splitlines()[0]}. "
                "Build the dataset again."
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsSource(Source):
    """Prepared TFDS datasets, found and checked by `open_dataset`, in two pieces."""

    interaction_piece: TfdsPiece
    item_piece: TfdsPiece

    def fingerprint(self) -> str:
        """Hash of all files of the datasets, of what is read of them, and of the pictures."""
        directories = {piece.directory for piece in (self.interaction_piece, self.item_piece)}
        payload = {
            "files": sorted(digest for path in directories for digest in _digests(path)),
            "pieces": [
                (piece.split, piece.stop_row, piece.names, piece.distinct)
                for piece in (self.interaction_piece, self.item_piece)
            ],
        }
        if self.image_column in self.item_columns:
            payload["images"] = [(folder, listing_digest(folder)) for folder in self.image_folders]
        return fingerprint(payload)

    def num_interactions(self) -> int:
        return self.interaction_piece.stop_row

    def interaction_pieces(self) -> list[Piece]:
        """Slices of the split that workers read side by side."""
        whole = self.interaction_piece
        return [
            dataclasses.replace(
                whole, first_row=start, stop_row=min(start + ROWS_PER_PIECE, whole.stop_row)
            )
            for start in range(0, whole.stop_row, ROWS_PER_PIECE)
        ]

    def item_pieces(self) -> list[Piece]:
        """The catalogue in one piece: only a reader of all records finds distinct items."""
        return [self.item_piece]


def open_dataset(config: SourceConfig, path: str) -> TfdsSource:
    """Find the prepared TFDS datasets of a `tfds:` path and check that their columns are there.

    Raises:
        InputError: if a dataset is not prepared, or lacks a split or column.
    """
    data_dir = config.tfds.data_dir
    builder = _builder(path.removeprefix(TFDS_PREFIX), data_dir)
    interactions = _piece(config, path.removeprefix(TFDS_PREFIX), builder, config.tfds.split)
    name = config.tfds.items
    if name is None and (name := _own_catalogue(builder)) is not None:
        data_dir = str(builder.data_path.parents[2])
    if name is None:
        items = _distinct_items(interactions)
    else:
        items = _piece(config, name, _builder(name, data_dir), config.tfds.items_split)
    check_own_names(config.columns, [*interactions.features, *items.features], path)
    check_columns(path, interactions.features, interactions.names, COLUMNS)
    return TfdsSource(
        path=path,
        interactions=interactions.path,
        items=items.path,
        item_columns=check_columns(items.path, items.features, items.names, (ITEM_ID,)),
        title_column=config.title_column,
        image_column=config.image_column,
        image_folders=check_folders(config.image_folders),
        interaction_piece=interactions,
        item_piece=items,
    )


def _own_catalogue(builder: Any) -> str | None:
    """Name of the catalogue's dataset, where the interactions are one of the project's."""
    from kdsr_tf.datasets.builders import CATALOGUES

    config = builder.builder_config.name if builder.builder_config else ""
    catalogue = CATALOGUES.get(builder.name, {}).get(config)
    return None if catalogue is None else f"{builder.name}/{catalogue}"


def _piece(config: SourceConfig, name: str, builder: Any, split: str) -> TfdsPiece:
    """A whole split of a prepared dataset."""
    if split not in builder.info.splits:
        raise InputError(
            f"{TFDS_PREFIX}{name} has no split {split!r} (`source.tfds`). "
            f"Splits found: {', '.join(builder.info.splits)}."
        )
    features = tuple(feature for feature, spec in builder.info.features.items() if _is_column(spec))
    known = KNOWN_COLUMNS.get(builder.name, {})
    return TfdsPiece(
        path=TFDS_PREFIX + name,
        names=names_in({**known, **config.columns}, features),
        directory=str(builder.data_path),
        split=split,
        stop_row=builder.info.splits[split].num_examples,
        features=features,
    )


def _distinct_items(interactions: TfdsPiece) -> TfdsPiece:
    """The items of the interactions; of a record only renamed features speak of its item."""
    item_id = dict(interactions.names).get(ITEM_ID, ITEM_ID)
    others = tuple(pair for pair in interactions.names if pair[0] not in COLUMNS)
    return dataclasses.replace(
        interactions,
        path=f"{interactions.path}#items",
        names=((ITEM_ID, item_id), *others),
        features=(item_id, *(own for _, own in others)),
        distinct=item_id,
    )


def _builder(name: str, data_dir: str | None) -> Any:
    """A prepared dataset by its name or folder."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"{TFDS_PREFIX}{name} needs TFDS ({error}): pip install tensorflow-datasets."
        ) from None
    try:
        from kdsr_tf.datasets import builders

        if exists(join(name, "dataset_info.json")):
            return tfds.builder_from_directory(name)
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"TFDS knows no dataset {name!r} (`source.path`, `source.tfds`): {reason}"
        ) from None
    # TFDS looks for files by pattern, in which `[1]` of a folder's name is no text.
    if not exists(join(str(builder.data_path), "dataset_info.json")):
        imports = f"--imports={builders.__name__} " if builder.name in builders.CATALOGUES else ""
        folder = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
        raise InputError(
            f"{TFDS_PREFIX}{name} is not prepared in {builder.data_path}. Prepare it first: "
            f"tfds build {imports}{name}{folder}"
        )
    return tfds.builder_from_directory(builder.data_path)


def _is_column(feature: Any) -> bool:
    """Whether a feature is a scalar or a list: pictures and nested records are no columns."""
    shape = getattr(feature, "shape", None)
    return isinstance(shape, tuple) and len(shape) <= 1


def _values(feature: Any, values: Any) -> Column:
    """A batch of a feature as Python values; numbers of classes become their names.

    Floats below 64 bits keep their type, which says how many digits they have.
    """
    import tensorflow as tf

    if values.dtype in (tf.float16, tf.float32) and feature.shape == ():
        return pa.array(values.numpy())
    found = values.to_list() if isinstance(values, tf.RaggedTensor) else values.numpy().tolist()
    label = getattr(feature, "feature", feature)
    if not hasattr(label, "int2str"):
        return found

    def name(number: Any) -> Any:
        if isinstance(number, list):
            return [name(part) for part in number]
        return label.int2str(number) if number >= 0 else None

    return [name(number) for number in found]


def _chosen(values: Column, positions: list[int]) -> Column:
    if isinstance(values, pa.Array):
        return values.take(pa.array(positions, pa.int64()))
    return [values[k] for k in positions]


def _first_of_each(values: Column, seen: set[Any]) -> list[int]:
    """Positions of values not in `seen`, which then holds them."""
    new = []
    values = values.to_pylist() if isinstance(values, pa.Array) else values
    for position, value in enumerate(values):
        # A list is no id, but its reader says so.
        value = tuple(value) if isinstance(value, list) else value
        if value not in seen:
            seen.add(value)
            new.append(position)
    return new


def _digests(directory: str) -> list[str]:
    filesystem, folder = fsspec.core.url_to_fs(directory)
    return [
        f"{posixpath.basename(path)} {digest(filesystem.unstrip_protocol(path))}"
        for path in sorted(filesystem.find(folder))
    ]
