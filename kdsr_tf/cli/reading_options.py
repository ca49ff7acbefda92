"""Options of `kdsr data import` that say how files are read, as one `Reading`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from kdsr_tf.datasets.reading import PUBLISHED, Reading
from kdsr_tf.errors import ConfigError

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
        help="What a column is called in your files, such as user_id=customer. Repeatable.",
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
    def packed(
        published: str | None,
        columns: Sequence[str],
        encoding: str | None,
        unescape_html: bool,
        **rest: Any,
    ):
        reading = Reading(
            published=published,
            columns=_own_names(columns),
            encoding=encoding,
            unescape_html=unescape_html,
        )
        return command(reading=reading, **rest)

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
