"""What evaluation and the report read: the catalogue, features, and windows of `examples/`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kdsr_tf import schema, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.teacher.feature_files import Features

_ARRAYS = (schema.ITEMS, schema.TARGET)
_FIELDS = (schema.USER_ID, schema.WINDOW_START, *_ARRAYS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemCatalogue:
    """The vocabulary, addressed by item index; entry 0 is padding.

    Args:
        item_ids: String ids `(items + 1,)`; so are the others.
        titles: Titles.
        images: Resolved picture paths, None where there is none.
        train_counts: Occurrences among train interactions, int64.
    """

    item_ids: list[str]
    titles: list[str]
    images: list[str | None]
    train_counts: np.ndarray

    def __len__(self) -> int:
        """Number of items without padding."""
        return len(self.item_ids) - 1


def read_catalogue(config: Config) -> ItemCatalogue:
    """The vocabulary of a committed `sequences/`."""
    columns = (schema.ITEM_ID, schema.TITLE, "image", schema.TRAIN_COUNT)
    table = sequences.read_items(stages.location(config, "sequences"), *columns)
    return ItemCatalogue(
        item_ids=["", *table[schema.ITEM_ID].to_pylist()],
        titles=["", *table[schema.TITLE].to_pylist()],
        images=[None, *table["image"].to_pylist()],
        train_counts=np.concatenate([[0], table[schema.TRAIN_COUNT].to_numpy()]),
    )


def read_features(config: Config, modality: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An encoder's vectors of one modality as one table.

    Returns:
        float32 vectors `(items + 1, size)`, 0 for absent items, and a bool
        `(items + 1,)` that says which are present.
    """
    num_rows = sequences.count_items(stages.location(config, "sequences")) + 1
    vectors, present = np.zeros((num_rows, size), np.float32), np.zeros(num_rows, bool)
    for items, batch in Features(stages.location(config, f"features/{modality}"), size).batches():
        vectors[items] = batch
        present[items] = True
    return vectors, present


class Windows(NamedTuple):
    """Some windows; row k of every field is the same window.

    `starts` are positions of the first inputs in the users' sequences. Items and targets have the
    `(length,)` of each window; target 0 is none.
    """

    user_ids: list[str]
    starts: np.ndarray
    items: list[np.ndarray]
    targets: list[np.ndarray]


def read_windows(directory: str, split: str, batch_size: int) -> Iterator[Windows]:
    """All windows of `train`, `validation` or `test` in a fixed order, without their pairs."""
    import tensorflow_datasets as tfds  # only here: the report reads no windows

    builder = tfds.builder_from_directory(directory)
    if not builder.info.splits[split].num_examples:  # TFDS refuses to read nothing
        return
    windows = builder.as_dataset(
        split,
        shuffle_files=False,
        # File after file, so that the windows of a user follow one another.
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
        decoders=tfds.decode.PartialDecoding(
            dict.fromkeys(_FIELDS, True),
            decoders=dict.fromkeys(_ARRAYS, tfds.decode.SkipDecoding()),
        ),
    )
    for batch in tfds.as_numpy(windows.batch(batch_size)):
        items, targets = ([np.frombuffer(raw, np.int32) for raw in batch[f]] for f in _ARRAYS)
        yield Windows(
            user_ids=[user.decode() for user in batch[schema.USER_ID]],
            starts=batch[schema.WINDOW_START].astype(np.int64),
            items=items,
            targets=targets,
        )
