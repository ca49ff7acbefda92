"""`kdsr data import`: one's own files, checked and written in the source format."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kdsr_tf.cli.options import PATH
from kdsr_tf.cli.reading_options import reading_options
from kdsr_tf.errors import ConfigError

if TYPE_CHECKING:
    from kdsr_tf.artifacts import Manifest
    from kdsr_tf.datasets.import_options import Reading
    from kdsr_tf.datasets.importing import Findings
    from kdsr_tf.sources import Source

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds", "calendar", "position")
MOST_REJECTED = 0.05
"""Both as the libraries behind them have them, which help does not wait for."""

_ARTIFACT = "source"


@click.group()
def data() -> None:
    """Bring your own data."""


@data.command("import")
@click.argument("interactions", type=PATH)
@click.argument("items", type=PATH, required=False)
@click.option(
    "--output", "folder", type=PATH, metavar="FOLDER", help="Where the result is written."
)
@reading_options
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
    "such as https://cdn.example/shop is left as it is. Repeatable.",
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
    from kdsr_tf.cli.import_notes import show_notes
    from kdsr_tf.cli.import_tables import announce, show, show_cores, show_pictures
    from kdsr_tf.console import console, progress
    from kdsr_tf.datasets.importing import Import, refuse
    from kdsr_tf.datasets.open_for_import import open_for_import, pictures_of
    from kdsr_tf.sources.time_units import settle_unit

    if not check:
        folder = _free(folder, force, [path for path in (interactions, items, *images) if path])
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
    manifest = _manifest(found, source, [interactions, items], assumed)
    with (
        artifacts.committing(folder, manifest) as target,
        progress("Writing", total=found.rows) as bar,
    ):
        manifest.counts["interactions"] = job.write(
            target, found, unit=assumed, drop_repeats=drop_repeats, advance=bar.advance
        )
    console.print(f"Written to {folder}. Next:", markup=False, soft_wrap=True)
    given = shlex.quote(f"source.path={folder}")
    console.print(f"kdsr run --config FILE --set {given}", markup=False, soft_wrap=True)


def _free(folder: str | None, force: bool, inputs: Sequence[str]) -> str:
    """The folder to write, if nothing is lost by writing there."""
    import fsspec

    from kdsr_tf import artifacts

    if folder is None:
        raise ConfigError("--output is not given. Name the folder to write, or use --check.")
    folder = _absolute(folder)
    for path in map(_absolute, inputs):
        if f"{path}/".startswith(f"{folder}/"):
            raise ConfigError(f"--output {folder} holds the input {path}. Choose another folder.")
    _refuse_unwritable(folder)
    filesystem, local = fsspec.core.url_to_fs(folder)
    if not filesystem.exists(local) or (filesystem.isdir(local) and not filesystem.ls(local)):
        return folder
    manifest = artifacts.find_manifest(folder)
    if manifest is None or manifest.artifact != _ARTIFACT:
        raise ConfigError(
            f"--output {folder} holds files that no import wrote. Choose another folder."
        )
    if not force:
        raise ConfigError(f"{folder} holds an earlier import. Replace it with --force.")
    return folder


def _refuse_unwritable(folder: str) -> None:
    """Tell before the files are read, which may take minutes.

    What is written is made beside `folder` and then renamed, even where `folder` exists.
    """
    if "://" in folder:
        return
    parent = os.path.dirname(folder)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        problem = f"{parent} is not a folder"
    elif not os.access(parent, os.W_OK | os.X_OK):
        problem = f"{parent} may not be written"
    else:
        return
    raise ConfigError(f"--output {folder} cannot be made: {problem}. Choose another folder.")


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.realpath(path)


def _manifest(
    found: Findings, source: Source, inputs: Sequence[str | None], unit: str | None
) -> Manifest:
    """What the folder is and where it comes from; the mark that `--force` looks for."""
    from kdsr_tf.artifacts import Manifest
    from kdsr_tf.sources.time_units import POSITION

    return Manifest(
        artifact=_ARTIFACT,
        fingerprint=source.fingerprint(),
        counts={"items": found.catalogue, "users": len(found.lengths)},
        details={
            "from": [path for path in inputs if path],
            "timestamps_were": unit or POSITION,
            "rejected": {f"{file}: {why}": n for (file, why), (n, _) in found.rejected.items()},
        },
    )
