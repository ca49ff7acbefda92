"""The per-category files of the Amazon reviews of 2014, 2018 and 2023.

Interactions: reviews as JSON lines, or ratings as CSV, which has a header only in 2023.
Catalogue: see `amazon_items`. An item without a review is left out, because a category
has many times as many; a reviewed item without metadata has its id only.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kdsr_tf.datasets.published import amazon_items
from kdsr_tf.datasets.published.lines import LinesPiece, Parsed, head, lines_form, shown
from kdsr_tf.errors import InputError
from kdsr_tf.sources import json_records
from kdsr_tf.sources.batches import Batch, Piece
from kdsr_tf.sources.files import FilePiece
from kdsr_tf.sources.forms import Told, find_form
from kdsr_tf.sources.interaction_rows import read_interactions

_COLUMNS = ("user_id", "item_id", "timestamp")
_READ = (*_COLUMNS, "rating")

_OLD = {
    "user_id": "reviewerID",
    "item_id": "asin",
    "timestamp": "unixReviewTime",
    "rating": "overall",
}
_NEW = {name: name for name in _OLD} | {"item_id": "parent_asin"}
"""Fields of a review of 2023; the metadata has the parent of variants only, so it is the item."""

_RATINGS_HEADER = b"user_id,parent_asin,rating,timestamp"
_BEGINS = re.compile(rb"""\{['"]asin['"]: ?['"]([A-Za-z0-9]+)['"]""")
_ASIN_LENGTH = 10
_WITHOUT_REVIEW = "items without a review"
_ID_AGAIN = "further rows of an item"
_EXPECTED = (
    "--format=amazon reads reviews (reviews_*.json.gz, *_5.json.gz, *.jsonl) or ratings (*.csv), "
    "and then the metadata (meta_*), of 2014, 2018 and 2023."
)


def pieces(
    interactions: str,
    items: str,
    encodings: tuple[str | None, str | None] = (None, None),
    images: Sequence[str] = (),
) -> tuple[FilePiece, FilePiece, Sequence[str]]:
    """Both files of an edition as pieces, and the columns of the catalogue.

    `encodings` are those of the two files that are not UTF-8, `images` the addresses below which
    pictures are declared. A file that is not of such an edition is refused.
    """
    lines = head(items, encodings[1])
    if not any(amazon_items.parse_item(line)[0] for line in lines):
        problem = "does not have the metadata of an edition of the Amazon reviews"
        if any(parse_review(line)[0] for line in lines):
            problem = "holds reviews, and the metadata belongs here"
        raise InputError(f"{items} {problem}. Its first line: {shown(lines)}. {_EXPECTED}")
    reviews = _interactions(interactions, items, encodings[0])
    return reviews, items_of(items, reviews, images, encodings[1]), amazon_items.COLUMNS


def reviews_of(path: str, encoding: str | None = None) -> LinesPiece:
    """Reviews: every one is an interaction, whatever its stars."""
    return LinesPiece(path, form=lines_form(_READ, encoding), parse=parse_review)


def items_of(
    path: str, reviews: Piece, images: Sequence[str] = (), encoding: str | None = None
) -> LinesPiece:
    """Metadata of a whole category, of which the items that have an interaction are read."""
    parse = functools.partial(amazon_items.parse_item, images=tuple(images))
    form = lines_form(amazon_items.COLUMNS, encoding)
    return _ReviewedItems(path, form=form, parse=parse, reviews=reviews)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReviewedItems(LinesPiece):
    reviews: Piece

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        wanted: set[str] = set()
        for reviews in read_interactions(self.reviews, with_fractions=True):
            wanted.update(reviews.item_ids.unique().to_pylist())
        next_row = 0
        found: set[str] = set()
        parse = functools.partial(_parse_wanted, wanted, self.parse)
        category = dataclasses.replace(self, parse=parse)
        for batch in LinesPiece.read(category, columns):
            next_row = max([next_row, *(batch.rows[-1:] + 1)])
            kept = []
            for position, item_id in enumerate(batch.columns["item_id"]):
                if item_id not in wanted:
                    self.left_out[_WITHOUT_REVIEW] += 1
                elif item_id in found:
                    self.left_out[_ID_AGAIN] += 1
                else:
                    found.add(item_id)
                    kept.append(position)
            values = {name: [column[k] for k in kept] for name, column in batch.columns.items()}
            yield Batch(batch.rows[kept], values, batch.rejected)
        bare = sorted(wanted - found)
        yield Batch(np.arange(next_row, next_row + len(bare)), {"item_id": bare}, [])


def _parse_wanted(wanted: set[str], parse: Callable[..., Parsed], line: bytes | None) -> Parsed:
    """The item of a line; of one that is not wanted the id only.

    Few products of a category are in its 5-core, and a literal takes long to parse.
    """
    begins = _BEGINS.match(line or b"")
    item_id = begins[1].decode() if begins else None
    if item_id is not None and item_id not in wanted:
        return {"item_id": item_id}, ""
    return parse(line, wanted=wanted)


def parse_review(line: bytes | None) -> Parsed:
    """A review of any edition; fields that are not read keep their names.

    Example:
        >>> parse_review(b'{"reviewerID": "A1", "asin": "B1", "overall": 5.0, '
        ...     b'"unixReviewTime": 1390953600}')[0]
        {'user_id': 'A1', 'item_id': 'B1', 'timestamp': 1390953600, 'rating': 5.0}
    """
    review, problem = json_records.parse(line)
    if review is None:
        return None, problem
    names = _NEW if _NEW["user_id"] in review else _OLD
    if names is _NEW and _NEW["item_id"] not in review:
        names = names | {"item_id": "asin"}
    values = {}
    for name, own in names.items():
        if own not in review and name in _COLUMNS:
            return None, f"{own} is missing"
        values[name] = review.pop(own, None)
    # Other fields come after: a field of 2023 is called `title`, but it is the review's.
    return values | {name: value for name, value in review.items() if name not in values}, ""


def parse_rating(line: bytes | None, item_first: bool = False) -> Parsed:
    """A line of ratings without a header: user, item, rating, time; in 2018 the item is first.

    Example:
        >>> parse_rating(b"A1,B1,5.0,1390953600")[0]
        {'user_id': 'A1', 'item_id': 'B1', 'timestamp': 1390953600, 'rating': 5.0}
    """
    try:
        fields = (line or b"").decode().strip().split(",")
    except UnicodeDecodeError:
        return None, "not UTF-8"
    if len(fields) != 4 or not all(fields):
        return None, "not user,item,rating,time"
    try:
        rating, timestamp = float(fields[2]), int(fields[3])
    except ValueError:
        return None, "rating or time is not a number"
    user_id, item_id = (fields[1], fields[0]) if item_first else fields[:2]
    values: dict[str, Any] = {"user_id": user_id, "item_id": item_id}
    return values | {"timestamp": timestamp, "rating": rating}, ""


def _interactions(path: str, items: str, encoding: str | None) -> FilePiece:
    lines = head(path, encoding)
    if any(parse_review(line)[0] for line in lines):
        return reviews_of(path, encoding)
    if lines and lines[0].replace(b'"', b"").startswith(_RATINGS_HEADER):
        form = find_form(path, Told(encoding=encoding))
        return FilePiece(path, (("item_id", _NEW["item_id"]),), form=form)
    if any(parse_rating(line)[0] for line in lines):
        parse = functools.partial(parse_rating, item_first=_is_item_first(lines, items))
        return LinesPiece(path, form=lines_form(_READ, encoding), parse=parse)
    problem = "does not have the reviews or ratings of an edition of the Amazon reviews"
    if any(amazon_items.parse_item(line)[0] for line in lines):
        problem = "holds metadata, and the reviews belong here"
    raise InputError(f"{path} {problem}. Its first line: {shown(lines)}. {_EXPECTED}")


def _is_item_first(lines: list[bytes], items: str) -> bool:
    """Whether ratings begin with the item, as in 2018.

    All ids of items have ten characters, those of users more. Where that does not tell,
    the catalogue does.
    """
    rows = [row for row in (parse_rating(line)[0] for line in lines) if row]
    first, second = ({row[name] for row in rows} for name in ("user_id", "item_id"))
    lengths = [{len(one) == _ASIN_LENGTH for one in ids} for ids in (first, second)]
    if lengths in ([{True}, {False}], [{False}, {True}]):
        return lengths[0] == {True}
    catalogue = LinesPiece(items, form=lines_form(["item_id"]), parse=amazon_items.parse_item)
    for batch in catalogue.read(None):
        for item_id in batch.columns["item_id"]:
            if item_id in second or item_id in first:
                return item_id not in second
    return False
