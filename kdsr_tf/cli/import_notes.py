"""What a user of `kdsr data import` must know of the texts and fields that were read."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

from kdsr_tf.console import console, cut

if TYPE_CHECKING:
    from kdsr_tf.datasets.import_findings import Findings
    from kdsr_tf.sources import Source

_IMAGE_URL = "image_url"
_LONGEST_TEXT = 80


def show_notes(found: Findings, source: Source) -> None:
    """Sentences about what is left out or odd, each with its numbers and the remedy."""
    from kdsr_tf.datasets.published.published_source import PublishedSource
    from kdsr_tf.sources.batches import label
    from kdsr_tf.sources.folder import FolderSource

    if found.escaped_example:
        name, text = found.escaped_example
        shown = cut(text[max(0, text.index("&") - _LONGEST_TEXT // 2) :], _LONGEST_TEXT)
        _say(
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
                _say(
                    f"{label(path)} has fields in quotation marks, and in row "
                    f"{form.stray_row + 1:,} a mark that does not fit. So all its marks are read "
                    "as characters. If its fields are quoted, correct that row."
                )
    if not isinstance(source, PublishedSource):
        return
    for file, counts in source.left_out().items():
        listed = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        _say(f"Left out of {file}: {listed}.")
    addresses = found.columns[_IMAGE_URL]
    if addresses and source.image_column not in found.columns:
        _say(
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


def _say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
