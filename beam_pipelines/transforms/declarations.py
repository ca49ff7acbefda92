"""What a row of the catalogue says about a modality: its text, its vector or its pictures."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError, InputError
from kdsr_tf.sources import Source
from kdsr_tf.sources.catalogue_rows import CatalogueRow, as_text, is_missing
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.image_values import pictures

_BY_ID = " Pictures named after items: `kdsr data import --images FOLDER` writes the column."


class Part(NamedTuple):
    """One content of an item: its text, its vector or one of its pictures."""

    declared: Any  # As it stands in the catalogue
    content: Any = None  # What the encoder reads; None if it is unusable
    reason: str | None = None  # Why it is unusable


class Declaration(NamedTuple):
    """What one row of the catalogue says about a modality."""

    row: int  # Row number; of rows with the same id the first one counts
    where: str  # File and row, for error messages
    parts: tuple[Part, ...]  # The contents; empty if the item lacks the modality


@dataclasses.dataclass(frozen=True)
class Declare:
    """Callable from a catalogue row to `(item_id, Declaration)`."""

    source: Source  # The user's data
    modality: str  # `image` or `text`
    column: str | None  # Column with the vector, for precomputed vectors
    template: str | None  # Text template

    @property
    def wanted(self) -> str:
        """What an item must have, for the error if no item has it."""
        if self.column is not None:
            return f"a vector in the column {self.column!r}"
        if self.modality == "text":
            return f"a text for the template {self.template!r}"
        return f"an image in the column {self.source.image_column!r}"

    def __call__(self, row: CatalogueRow) -> tuple[str, Declaration]:
        return row.item_id, Declaration(row.row, row.where, tuple(self._parts(row)))

    def _parts(self, row: CatalogueRow) -> Iterator[Part]:
        if self.column is not None:
            value = row.values.get(self.column)
            if value is not None:
                yield Part(value, value)
        elif self.template is not None:
            text = render(self.template, row.values)
            if text:
                yield Part(text, text)
        else:
            value = row.values.get(self.source.image_column)
            for picture in pictures(value, self.source.image_path):
                yield Part(*picture)


def declare(config: Config, modality: str, source: Source) -> Declare:
    """The `Declare` of a configuration.

    Raises:
        ConfigError: if the text template is malformed.
        InputError: if the catalogue lacks a column of the template, or of the pictures.
    """
    section = getattr(config.encode, modality)
    if section.encoder == "precomputed":
        # `choose_encoder` looks for its vectors.
        return Declare(source, modality, section.column, None)
    if modality == "image":
        _check_columns(source, "source.image_column", [source.image_column], modality)
        return Declare(source, modality, None, None)
    columns = template_columns(section.template)
    _check_columns(source, "encode.text.template", columns, modality)
    return Declare(source, modality, None, section.template)


def _check_columns(source: Source, key: str, columns: list[str], modality: str) -> None:
    missing = [name for name in columns if name not in source.item_columns]
    if source.may_have_more_columns:
        missing = [name for name in missing if not _occurs(source, name)]
    if missing:
        raise InputError(
            f"`{key}` names {', '.join(missing)}: {source.items} has no such column. "
            f"Columns found: {', '.join(source.item_columns)}. "
            f"Name another column, or do without it: --set encode.{modality}=null."
            + (_BY_ID if modality == "image" else "")
        )


def _occurs(source: Source, column: str) -> bool:
    return any(
        not is_missing(value)
        for piece in source.item_pieces()
        for batch in read_batches(piece, [column])
        for value in batch.columns.get(column, [])
    )


def template_columns(template: str) -> list[str]:
    """Columns that a text template names.

    Raises:
        ConfigError: if the template is malformed or names no column.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"`encode.text.template` is malformed: {error}. Received: {template!r}."
        ) from None
    fields = [(name, spec or conversion) for _, name, spec, conversion in parts if name is not None]
    names = [name for name, _ in fields]
    if not names or not all(names) or any(extra for _, extra in fields):
        raise ConfigError(
            "`encode.text.template` must name columns in braces, such as '{title}. {genres}'. "
            f"Received: {template!r}."
        )
    return names


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template from a row; `""` if the row has none of its columns.

    Example:
        >>> render("{title}. {genres}", {"title": "Heat", "genres": ["Action", "Crime"]})
        'Heat. Action, Crime'
        >>> render("{title}. {genres}", {"price": 3})
        ''
    """
    text, found = [], False
    for literal, name, _, _ in string.Formatter().parse(template):
        text.append(literal)
        if name is not None:
            value = as_text(values.get(name))
            found = found or bool(value.strip())
            text.append(value)
    return "".join(text).strip() if found else ""
