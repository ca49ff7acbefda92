"""Windows of `examples/` as NumPy arrays, in the order of the records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from kdsr_tf import schema

_ARRAYS = (schema.ITEMS, schema.TARGET)
_FIELDS = (schema.USER_ID, schema.WINDOW_START, *_ARRAYS)


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
