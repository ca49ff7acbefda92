"""How the files of an import are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdsr_tf.errors import ConfigError

if TYPE_CHECKING:
    from kdsr_tf.sources.forms import Told

PUBLISHED = ("movielens", "amazon")
"""Formats that a file's ending does not tell."""

LAYOUTS = ("rows", "sequences")

OF_ITEMS = "items."
"""Beginning of a column's name if its position is one in the catalogue."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says about the files; the files tell the rest.

    Args:
        published: One of `PUBLISHED`, or None for files that their ending describes.
        columns: Own column names by the expected ones; positions from 1 without a header.
        encoding: Encoding of text files that are not UTF-8.
        unescape_html: Whether HTML entities in the texts of the catalogue are decoded.
        delimiter: Character between columns.
        has_header: Whether the first line holds the names of columns.
        layout: One of `LAYOUTS`, or None for what the file looks like.
    """

    published: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str | None = None
    unescape_html: bool = False
    delimiter: str | None = None
    has_header: bool = True
    layout: str | None = None

    def options_given(self) -> list[str]:
        """Options that describe two files, and that a folder has no use for."""
        given = {"--format": self.published, "--encoding": self.encoding}
        tables = [option for option in self.options_of_tables() if option != "--column"]
        return [option for option, value in given.items() if value is not None] + tables

    def options_of_tables(self) -> list[str]:
        """Options given that a published format has no use for."""
        given = {
            "--column": bool(self.columns),
            "--delimiter": self.delimiter is not None,
            "--no-header": not self.has_header,
            "--layout": self.layout is not None,
        }
        return [option for option, is_given in given.items() if is_given]

    def own_names(self) -> dict[str, str]:
        """Own names of columns, without positions."""
        names = {}
        for name, own in self.columns.items():
            if not self.has_header and own.isdecimal():
                continue
            if name.startswith(OF_ITEMS):
                raise ConfigError(
                    f"--column {OF_ITEMS}NAME=N gives the position of a column of ITEMS, for "
                    f"files with --no-header. Received: {name}={own}."
                )
            names[name] = own
        return names

    def of_files(self) -> tuple[Told, Told]:
        """What is said about the interactions, and about the catalogue."""
        from kdsr_tf.schema import ITEM_ID
        from kdsr_tf.sources.forms import Told

        told = Told(
            encoding=self.encoding,
            delimiter=self.delimiter,
            has_header=self.has_header,
            layout=self.layout,
        )
        interactions, items = self._positions()
        items = {1: ITEM_ID} | items if ITEM_ID not in items.values() else items
        return (
            dataclasses.replace(told, positions=tuple(sorted(interactions.items()))),
            dataclasses.replace(told, positions=tuple(sorted(items.items()))),
        )

    def _positions(self) -> tuple[dict[int, str], dict[int, str]]:
        """Names by position, in the interactions and in the catalogue."""
        interactions: dict[int, str] = {}
        items: dict[int, str] = {}
        for name, own in self.columns.items():
            if not self.has_header and own.isdecimal():
                found = items if name.startswith(OF_ITEMS) else interactions
                found[int(own)] = name.removeprefix(OF_ITEMS)
        return interactions, items
