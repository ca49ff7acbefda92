"""What `kdsr data import` found, as tables and sentences."""

from __future__ import annotations

import collections
import datetime
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsr_tf.config import PrepareConfig
from kdsr_tf.console import console, cut, output, table
from kdsr_tf.cores import cores_table, cores_warning
from kdsr_tf.datasets.published.published_source import PublishedSource
from kdsr_tf.schema import ITEM_ID, USER_ID
from kdsr_tf.sources.batches import label
from kdsr_tf.sources.folder import FolderSource
from kdsr_tf.sources.time_units import CALENDAR, MOMENT, POSITION, UNITS, to_microseconds
from kdsr_tf.sources.times import TIMESTAMP

if TYPE_CHECKING:
    from kdsr_tf.datasets.catalogue_pictures import Pictures
    from kdsr_tf.datasets.import_findings import Findings
    from kdsr_tf.sources import Source

_FORMS = {CALENDAR: "dates written as digits"}
_LONGEST_CELL = 60
_LONGEST_TEXT = 80
_IMAGE_URL = "image_url"
_ORDINALS = ("first", "second", "third")


def show(found: Findings, source: Source, unused_pictures: int) -> None:
    """Tables of what is there and what is wrong."""
    least = PrepareConfig().k_core
    rows: list[tuple[str, int]] = [
        ("usable interactions", found.interactions),
        ("of these repeated (user, item, time)", int(found.is_repeat.sum())),
        ("users", len(found.lengths)),
        (f"of these with fewer than {least} interactions", int((found.lengths < least).sum())),
        ("usable items", found.catalogue),
        ("of these without interaction", found.catalogue - found.items_taken),
        *((f"items with pictures {outcome}", n) for outcome, n in sorted(found.pictures.items())),
    ]
    if unused_pictures:
        rows.append(("pictures in --images of no item", unused_pictures))
    output.print(table(f"{source.path}", ("what", "count"), rows))
    if found.columns:
        shares = [
            (name, count, f"{count / found.catalogue:.1%}")
            for name, count in found.columns.most_common()
        ]
        output.print(table("Columns of the catalogue", ("column", "items", "share"), shares))
    if found.rejected:
        reasons = collections.Counter({key: count for key, (count, _) in found.rejected.items()})
        rejected = [(*key, n, found.rejected[key][1]) for key, n in reasons.most_common()]
        heading = ("file", "reason", "rows", "first")
        output.print(table("Rows that cannot be used", heading, rejected))
    interactions, items = found.samples
    names = [USER_ID, ITEM_ID, TIMESTAMP]
    cells = [[_cell(sample[name]) for name in names] for sample in interactions]
    output.print(table("First interactions", names, cells))
    names = list(dict.fromkeys(name for sample in items for name in sample))
    cells = [[name, *(_cell(sample.get(name)) for sample in items)] for name in names]
    output.print(table("First items", ["column", *_ORDINALS[: len(items)]], cells))


def show_pictures(found: Findings, pictures: Pictures) -> None:
    """Which pictures are not taken, and what may be the cause."""
    if found.lost_pictures:
        lost = sorted(found.lost_pictures.items(), key=lambda item: -item[1][0])
        rows = [(*key, count, where, _cell(row)) for key, (count, where, row) in lost]
        heading = ("file", "reason", "pictures", "first", "its value")
        output.print(table("Pictures that are not taken", heading, rows))
    for warning in pictures.warnings(found.pictures):
        console.print(f"Warning: {warning}", style="yellow", markup=False, soft_wrap=True)


def show_notes(found: Findings, source: Source) -> None:
    """Sentences about what is left out or odd, each with its numbers and the remedy."""

    if found.escaped_example:
        name, text = found.escaped_example
        shown = cut(text[max(0, text.index("&") - _LONGEST_TEXT // 2) :], _LONGEST_TEXT)
        _note(
            f"Items with HTML entities in their texts: {found.escaped:,} of {found.catalogue:,} "
            f"({found.escaped / found.catalogue:.1%}), such as {name} {shown!r}. Decode them with "
            "--unescape-html."
        )
    if isinstance(source, FolderSource):
        for path, form in (
            (source.interactions, source.interaction_form),
            (source.items, source.item_form),
        ):
            if form.stray_row is not None:
                _note(
                    f"{label(path)} has fields in quotation marks, and in row "
                    f"{form.stray_row + 1:,} a mark that does not fit. So all its marks are read "
                    "as characters. If its fields are quoted, correct that row."
                )
    if not isinstance(source, PublishedSource):
        return
    for file, counts in source.left_out().items():
        listed = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        _note(f"Left out of {file}: {listed}.")
    addresses = found.columns[_IMAGE_URL]
    if addresses and source.image_column not in found.columns:
        _note(
            f"Items with addresses of pictures (column {_IMAGE_URL}): {addresses:,}, none of them "
            f"declared. Their pictures are used with {_declaration(found)}."
        )


def _declaration(found: Findings) -> str:
    """The option for the server of the first address."""
    for sample in found.samples[1]:
        if address := sample.get(_IMAGE_URL):
            parts = urllib.parse.urlsplit(address if isinstance(address, str) else address[0])
            return f"--images {parts.scheme}://{parts.netloc}"
    return "--images https://SERVER"


def _note(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def show_cores(found: Findings, drop_repeats: bool) -> None:
    """What `prepare` will keep of the rows that are written."""
    chosen = PrepareConfig().k_core
    sizes = found.cores(chosen, drop_repeats)
    output.print(cores_table(sizes, chosen))
    said = cores_warning(sizes, chosen)
    if said is not None:
        console.print(f"Warning: {said}", style="yellow", markup=False)


def announce(
    found: Findings, unit: str | None, told: str | None, drop_repeats: bool, folder: str | None
) -> None:
    """What the second reading does."""
    least, most = found.times.ends(unit)
    how = "" if told else " (guessed from their size; --timestamp-unit says otherwise)"
    if unit is None:
        console.print(f"Timestamps are positions{how}: {least:,} to {most:,}.", markup=False)
    else:
        said = "dates and times" if unit == MOMENT else f"{_FORMS.get(unit, unit)}{how}"
        console.print(
            f"Timestamps are {said}: {_moment(least)} to {_moment(most)} (UTC).", markup=False
        )
        if most < to_microseconds(np.array([UNITS["seconds"]]), "seconds")[0]:
            console.print(
                "Warning: that puts every interaction before 1973. If the numbers only give the "
                f"order, say --timestamp-unit={POSITION}.",
                style="yellow",
                markup=False,
            )
    repeats = int(found.is_repeat.sum())
    if repeats and not drop_repeats:
        console.print(f"{repeats:,} repeated rows stay (--drop-repeats leaves them out).")
    if folder is not None:
        kept = found.interactions - repeats * drop_repeats
        console.print(
            f"Writing {kept:,} interactions and {found.catalogue:,} items to {folder}"
            + (", pictures copied." if found.pictures["found"] else "."),
            markup=False,
        )


def _moment(microseconds: int) -> str:
    since = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=microseconds)
    return since.isoformat(" ", "seconds")


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = "" if value is None else text
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "…"
