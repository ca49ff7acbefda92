"""How the files of an import are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

PUBLISHED = ("movielens", "amazon")
"""Formats that a file's ending does not tell."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says about the files; the files tell the rest.

    Args:
        published: One of `PUBLISHED`, or None for files that their ending describes.
        columns: Own column names by the expected ones.
        encoding: Encoding of text files that are not UTF-8.
        unescape_html: Whether HTML entities in the texts of the catalogue are decoded.
    """

    published: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str | None = None
    unescape_html: bool = False

    def options_given(self) -> list[str]:
        """Options that describe two files, and that a folder has no use for."""
        given = {"--format": self.published, "--encoding": self.encoding}
        return [option for option, value in given.items() if value is not None]
