"""Options of `kdsr data import` that say how files are read, as one `Reading`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from kdsr_tf.datasets.import_options import LAYOUTS, PUBLISHED, Reading
from kdsr_tf.errors import ConfigError

_CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " "}

_OPTIONS = (
    click.option(
        "--format",
        "published",
        type=click.Choice(PUBLISHED),
        help="Published files of any edition: ratings.dat and movies.dat, u.data and u.item, "
        "ratings.csv and movies.csv; reviews or ratings of Amazon, then meta_*.",
    ),
    click.option(
        "--column",
        "columns",
        metavar="NAME=OWN",
        multiple=True,
        help="What a column is called in your files, such as user_id=customer; with --no-header "
        "its position, such as user_id=1, or items.title=2 in ITEMS. Repeatable.",
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        callback=lambda context, option, value: _character(value),
        help="Character between columns of text files; `tab` and `space` by name.",
    ),
    click.option(
        "--no-header",
        "has_header",
        flag_value=False,
        default=True,
        help="The first line of text files holds data, not the names of columns.",
    ),
    click.option(
        "--layout",
        type=click.Choice(LAYOUTS),
        help="Lines of INTERACTIONS: `rows`, one interaction each, or `sequences`, a user and "
        "all items of the user in their order.",
    ),
    click.option("--encoding", help="Encoding of text files that are not UTF-8, such as latin-1."),
    click.option(
        "--unescape-html",
        is_flag=True,
        help="Decode HTML entities such as &amp; and &#39; in the texts of the catalogue.",
    ),
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it receives them as `reading`."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        fields = {field.name: values.pop(field.name) for field in dataclasses.fields(Reading)}
        fields["columns"] = _own_names(fields["columns"])
        return command(reading=Reading(**fields), **values)

    for option in reversed(_OPTIONS):
        packed = option(packed)
    return packed


def _own_names(columns: Sequence[str]) -> dict[str, str]:
    names = {}
    for column in columns:
        name, separator, own = column.partition("=")
        if not (name and separator and own):
            raise ConfigError(
                f"--column takes NAME=OWN, such as user_id=customer. Received: {column}."
            )
        names[name] = own
    return names


def _character(delimiter: str | None) -> str | None:
    delimiter = _CHARACTERS.get(delimiter or "", delimiter)
    if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii()):
        raise ConfigError(
            "--delimiter takes one ASCII character, `tab` or `space`. Received: "
            f"{delimiter!r}. Files with `::` between columns: --format movielens."
        )
    return delimiter
