"""What an import finds when it reads the files for the first time."""

from __future__ import annotations

import collections
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdsr_tf.cores import core_sizes
from kdsr_tf.datasets.catalogue_pictures import LostPicture
from kdsr_tf.sources.batches import Rejected, label
from kdsr_tf.sources.html_text import text_with_entities
from kdsr_tf.sources.time_units import TimesFound


@dataclass(kw_only=True)
class Findings:
    """What the first reading found.

    Args:
        numbers: Position of each item that can be used, by its id.
        users: Number of the user of each usable row, int32 `[interactions]`.
        items: Number of its item, likewise.
        times: The timestamps as read.
        is_repeat: Whether user, item and time of a usable row occurred before, bool
            `[interactions]`.
        columns: Items that have a value, by column of the catalogue.
        pictures: Items by what became of their pictures: `Pictures.OUTCOMES`.
        lost_pictures: Pictures that are not taken, per file and reason: how many, where the
            first one is, and its row.
        escaped: Items with HTML entities in their texts.
        escaped_example: One such text, and the name of its column.
        rejected: Per file and reason: how many, and where the first one is and what it holds.
        samples: The first usable interactions and items.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    users: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    items: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    times: TimesFound = field(default_factory=TimesFound)
    is_repeat: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    columns: collections.Counter[str] = field(default_factory=collections.Counter)
    pictures: collections.Counter[str] = field(default_factory=collections.Counter)
    lost_pictures: dict[tuple[str, str], tuple[int, str, str]] = field(default_factory=dict)
    escaped: int = 0
    escaped_example: tuple[str, str] | None = None
    rejected: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    samples: tuple[list[dict[str, Any]], list[dict[str, Any]]] = field(
        default_factory=lambda: ([], [])
    )

    @property
    def interactions(self) -> int:
        """Rows that can be used."""
        return len(self.is_repeat)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Interactions of each user, int64 `[u]`."""
        return np.bincount(self.users)

    @functools.cached_property
    def items_taken(self) -> int:
        """Items of the catalogue with an interaction."""
        return int(np.count_nonzero(np.bincount(self.items)))

    def cores(self, chosen: int, drop_repeats: bool) -> list[dict[str, int]]:
        """What the k-cores keep of the rows that are written; see `core_sizes`."""
        written = ~(self.is_repeat & drop_repeats)
        return core_sizes(self.users[written], self.items[written], chosen)

    @property
    def catalogue(self) -> int:
        """Items that can be used."""
        return len(self.numbers)

    @property
    def rows(self) -> int:
        """All rows of both files, rejected ones included."""
        return self.interactions + self.catalogue + sum(n for n, _ in self.rejected.values())

    def notice_entities(self, values: dict[str, Any]) -> None:
        """Count an item if one of its texts holds HTML entities."""
        for name, value in values.items():
            if text := text_with_entities(value):
                self.escaped += 1
                self.escaped_example = self.escaped_example or (name, text)
                return

    def reject(self, row: Rejected) -> None:
        """Count a rejected row under its file and reason."""
        key = row.where.rpartition(" row ")[0], row.reason
        count, first = self.rejected.get(key) or (0, row.example)
        self.rejected[key] = count + 1, first

    def lose(self, picture: LostPicture) -> None:
        """Count a picture that is not taken under its file and reason."""
        key = picture.where.rpartition(" row ")[0], picture.reason
        count, where, row = self.lost_pictures.get(key, (0, picture.where, picture.row))
        self.lost_pictures[key] = count + 1, where, row

    def num_rejected(self, path: str) -> int:
        """Rejected rows of a file."""
        return sum(found[0] for key, found in self.rejected.items() if key[0] == label(path))
