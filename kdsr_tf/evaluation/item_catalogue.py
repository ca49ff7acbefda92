"""What evaluation and the report need to know about items."""

from __future__ import annotations

import dataclasses

import numpy as np

from kdsr_tf import schema, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.teacher.feature_files import Features


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
