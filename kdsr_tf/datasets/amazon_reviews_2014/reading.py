"""The per-category files of the Amazon reviews of 2014.

Reviews are JSON lines; the metadata's lines are Python dictionaries, which are
read as literals and never evaluated. Texts have HTML entities, which are resolved.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import html
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from kdsr_tf.datasets.lines import LinesPiece, Parsed
from kdsr_tf.sources import json_lines
from kdsr_tf.sources.batches import Batch
from kdsr_tf.sources.files import read_batches
from kdsr_tf.sources.json_lines import DEEPEST, LONGEST_LINE_BYTES, is_deep

_REVIEW = {"user_id": "reviewerID", "item_id": "asin", "timestamp": "unixReviewTime"}
_TEXTS = {"title": "title", "description": "description", "brand": "brand", "image_url": "imUrl"}

_BEGINS = re.compile(rb"""\{['"]asin['"]: ?['"]([A-Za-z0-9]+)['"]""")


def interactions(path: str) -> LinesPiece:
    """`reviews_*_5.json.gz`: every review is an interaction, whatever its stars."""
    return LinesPiece(path=path, parse=parse_review, columns=(*_REVIEW, "rating"))


def items(path: str, reviews: str) -> LinesPiece:
    """`meta_*.json.gz`, of which only the items of the 5-core's reviews are read.

    Args:
        path: The metadata of the whole category.
        reviews: The 5-core's reviews; an item without metadata has its id alone.
    """
    columns = ("item_id", *_TEXTS, "categories", "price")
    return _ReviewedItems(path=path, parse=parse_item, columns=columns, reviews=reviews)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReviewedItems(LinesPiece):
    reviews: str

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        wanted: set[str] = set()
        for batch in read_batches(interactions(self.reviews), ["item_id"]):
            wanted.update(batch.columns["item_id"])
        next_row = 0
        parse = functools.partial(_parse_wanted, wanted)
        category = LinesPiece(path=self.path, parse=parse, columns=self.columns)
        for batch in category.read(None):
            ids = batch.columns["item_id"]
            kept = [k for k, item_id in enumerate(ids) if item_id in wanted]
            next_row = max([next_row, *(batch.rows[-1:] + 1)])
            values = {name: [column[k] for k in kept] for name, column in batch.columns.items()}
            yield Batch(batch.rows[kept], values, batch.rejected)
            wanted -= {ids[k] for k in kept}
        bare = sorted(wanted)
        yield Batch(np.arange(next_row, next_row + len(bare)), {"item_id": bare}, [])


def _parse_wanted(wanted: set[str], line: bytes | None) -> Parsed:
    """The item of a line; of one that is not wanted the id alone.

    Few products of a category are in its 5-core, and a literal takes long to parse.
    """
    begins = _BEGINS.match(line or b"")
    item_id = begins[1].decode() if begins else None
    if item_id is not None and item_id not in wanted:
        return {"item_id": item_id}, ""
    return parse_item(line)


def parse_review(line: bytes | None) -> Parsed:
    """A line of `reviews_*_5.json.gz`.

    Example:
        >>> parse_review(b'{"reviewerID": "A1", "asin": "B1", "overall": 5.0, '
        ...     b'"unixReviewTime": 1390953600}')[0]
        {'user_id': 'A1', 'item_id': 'B1', 'timestamp': 1390953600, 'rating': 5.0}
    """
    review, problem = json_lines.parse(line)
    if review is None:
        return None, problem
    for own in _REVIEW.values():
        if own not in review:
            return None, f"{own} is missing"
    for own in ("reviewerID", "asin"):
        if not isinstance(review[own], str) or not review[own]:
            return None, f"{own} is not text"
    if not isinstance(review["unixReviewTime"], int):
        return None, "unixReviewTime is not an integer"
    if not isinstance(review.get("overall"), int | float | None):
        return None, "overall is not a number"
    values = {name: review[own] for name, own in _REVIEW.items()}
    return values | {"rating": review.get("overall")}, ""


def parse_item(line: bytes | None) -> Parsed:
    """A line of `meta_*.json.gz`: a Python dictionary, or JSON.

    Example:
        >>> parse_item(b"{'asin': 'B1', 'title': 'Cut &amp; Curl', 'price': 3.5, "
        ...     b"'categories': [['Beauty', 'Hair'], ['Beauty', 'Nails']]}")[0]["categories"]
        ['Beauty', 'Hair', 'Nails']
    """
    found, problem = _literal(line)
    if found is None:
        return None, problem
    if not isinstance(found.get("asin"), str) or not found["asin"]:
        return None, "asin is missing"
    values: dict[str, Any] = {"item_id": found["asin"]}
    for name, own in _TEXTS.items():
        value = found.get(own)
        values[name] = html.unescape(value) if isinstance(value, str) else None
    paths = found.get("categories")
    paths = paths if isinstance(paths, list) else []
    names = [name for path in paths for name in (path if isinstance(path, list) else [path])]
    # A category stands in several paths; order and first place are kept.
    values["categories"] = list(
        dict.fromkeys(html.unescape(name) for name in names if isinstance(name, str))
    )
    price = found.get("price")
    values["price"] = float(price) if isinstance(price, int | float) else None
    return values, ""


def _literal(line: bytes | None) -> Parsed:
    if line is None:
        return None, f"longer than {LONGEST_LINE_BYTES:,} bytes"
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        return None, "not UTF-8"
    try:
        return _dictionary(json.loads(text))
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None, "neither a Python dictionary nor JSON"
    return _dictionary(found)


def _dictionary(value: Any) -> Parsed:
    if not isinstance(value, dict):
        return None, "neither a Python dictionary nor JSON"
    if is_deep(value):
        return None, f"nested deeper than {DEEPEST} levels"
    return value, ""
