"""`kdsr data import`: one's own files, checked and written in the source format."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

from kdsr_tf.cli.options import PATH, assignments
from kdsr_tf.datasets.import_options import LAYOUTS, PUBLISHED, Reading
from kdsr_tf.errors import ConfigError

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds", "calendar", "position")
MOST_REJECTED = 0.05
"""Both as the libraries behind them have them, which help does not wait for."""

_CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " "}

_READING_OPTIONS = (
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


def _reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it receives them as `reading`."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        fields = {field.name: values.pop(field.name) for field in dataclasses.fields(Reading)}
        form = "NAME=OWN, such as user_id=customer"
        fields["columns"] = assignments("--column", form, fields["columns"], may_be_empty=False)
        return command(reading=Reading(**fields), **values)

    for option in reversed(_READING_OPTIONS):
        packed = option(packed)
    return packed


def _character(delimiter: str | None) -> str | None:
    delimiter = _CHARACTERS.get(delimiter or "", delimiter)
    if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii()):
        raise ConfigError(
            "--delimiter takes one ASCII character, `tab` or `space`. Received: "
            f"{delimiter!r}. Files with `::` between columns: --format movielens."
        )
    return delimiter


@click.group()
def data() -> None:
    """Bring your own data."""


@data.command("import")
@click.argument("interactions", type=PATH)
@click.argument("items", type=PATH, required=False)
@click.option(
    "--output", "folder", type=PATH, metavar="FOLDER", help="Where the result is written."
)
@_reading_options
@click.option(
    "--timestamp-unit",
    "unit",
    type=click.Choice(UNITS),
    help="What numbers among the timestamps are: a unit since 1970, calendar (YYYYMMDD, "
    "YYYYMMDDhhmmss) or position (only the order). Guessed from their size if it is not given.",
)
@click.option(
    "--images",
    type=PATH,
    metavar="FOLDER",
    multiple=True,
    help="Where pictures lie, beside the folder of ITEMS; also those named ITEM_ID.jpg. A URI "
    "such as https://cdn.example/shop is kept unchanged. Repeatable.",
)
@click.option("--data-dir", type=PATH, metavar="FOLDER", help="Prepared TFDS datasets (tfds:NAME).")
@click.option("--drop-repeats", is_flag=True, help="Leave out repeated user, item and time.")
@click.option(
    "--max-rejected-fraction",
    type=click.FloatRange(0, 1),
    default=MOST_REJECTED,
    show_default=True,
    help="Share of unusable rows of a file above which nothing is written.",
)
@click.option("--check", is_flag=True, help="Say what is there and what is wrong, and stop.")
@click.option("--force", is_flag=True, help="Replace the result of an earlier import.")
def import_data(
    interactions: str,
    items: str | None,
    folder: str | None,
    reading: Reading,
    unit: str | None,
    images: Sequence[str],
    data_dir: str | None,
    drop_repeats: bool,
    max_rejected_fraction: float,
    check: bool,
    force: bool,
) -> None:
    """Check files and write them in the source format.

    INTERACTIONS and ITEMS are delimited text, JSON, or Parquet (a file or a folder of parts),
    packed or not. What a file leaves open, an option says.
    Alone, INTERACTIONS is a folder in the source format, or tfds:NAME.

    \b
    kdsr data import clicks.csv goods.jsonl --output data/shop --column user_id=customer
    kdsr data import ratings.dat movies.dat --format movielens --output data/ml-1m
    kdsr data import tfds:movielens_1m --output data/ml-1m
    kdsr data import data/shop --check
    """
    from kdsr_tf import artifacts
    from kdsr_tf.cli.import_tables import announce, show, show_cores, show_notes, show_pictures
    from kdsr_tf.console import console, progress
    from kdsr_tf.datasets.importing import Import, refuse
    from kdsr_tf.datasets.open_for_import import open_for_import, pictures_of
    from kdsr_tf.runs.source_folders import free_folder, import_manifest
    from kdsr_tf.sources.time_units import settle_unit

    given = [interactions, *([items] if items else [])]
    if not check:
        folder = free_folder(folder, force, [*given, *images])
    source = open_for_import(interactions, items, reading, images=images, data_dir=data_dir)
    with progress("Listing the pictures"):
        pictures = pictures_of(source, images)
    job = Import(source, pictures, reading.unescape_html)
    with progress("Checking the catalogue") as bar:
        found = job.check_items(bar.advance)
    with progress("Checking the interactions", total=source.num_interactions()) as bar:
        job.check_interactions(found, bar.advance)
    show(found, source, pictures.unused())
    show_pictures(found, pictures)
    show_notes(found, source)
    refuse(found, source, max_rejected_fraction)
    assumed = settle_unit(found.times, unit)
    show_cores(found, drop_repeats)
    announce(found, assumed, unit, drop_repeats, None if check else folder)
    if check or folder is None:
        return
    manifest = import_manifest(found, source, given, assumed)
    with (
        artifacts.committing(folder, manifest) as target,
        progress("Writing", total=found.rows) as bar,
    ):
        manifest.counts["interactions"] = job.write(
            target, found, unit=assumed, drop_repeats=drop_repeats, advance=bar.advance
        )
    console.print(f"Written to {folder}. Next:", markup=False, soft_wrap=True)
    setting = shlex.quote(f"source.path={folder}")
    console.print(f"kdsr run --config FILE --set {setting}", markup=False, soft_wrap=True)
