"""Items of the Amazon reviews: the metadata of 2014, 2018 and 2023 under the same names.

The lines of 2014 are Python dictionaries, which are read as literals and never
evaluated; later ones are JSON. Texts hold HTML entities, which are decoded, and since
2018 also tags, which are taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from typing import Any

from kdsr_tf.datasets.published.lines import Parsed
from kdsr_tf.sources import json_records
from kdsr_tf.sources.catalogue_rows import as_text
from kdsr_tf.sources.html_text import plain

_IDS = ("parent_asin", "asin")
_TEXTS = {
    "title": ("title",),
    "subtitle": ("subtitle",),
    "description": ("description",),
    "brand": ("brand", "store"),
    "main_category": ("main_category", "main_cat"),
}
_LISTS = {"categories": ("categories", "category"), "features": ("features", "feature")}
_PICTURES = ("imageURLHighRes", "imageURL", "images", "image", "imUrl")
_SIZES = ("hi_res", "large", "thumb")
"""Addresses of one picture of 2023, the largest first."""

COLUMNS = (
    "item_id", *_TEXTS, *_LISTS, "price", "highest_price", "details", "image_url", "image",
)  # fmt: skip
"""What of the metadata is read; other fields are counted."""

_REVIEWERS = ("reviewerID", "user_id")
_NUMBER = r"([0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?)"
_PRICE = re.compile(rf"(?:from )?\$?\s*{_NUMBER}(?:\s*-\s*\$?\s*{_NUMBER})?")
_NO_PRICES = ("", "—", "-", "None")


def parse_item(
    line: bytes | None, images: Sequence[str] = (), wanted: Container[str] | None = None
) -> Parsed:
    """A line of `meta_*`: a Python dictionary, or JSON. Other fields keep their names.

    Args:
        line: The line; None if it was too long.
        images: Addresses below which pictures are declared. `image` holds those pictures,
            `image_url` all.
        wanted: Ids of items; of any other the id is given only. None wants all.

    Example:
        >>> parse_item(b"{'asin': 'B1', 'title': 'Cut &amp; Curl', 'price': '$1,003.50', "
        ...     b"'categories': [['Beauty', 'Hair'], ['Beauty', 'Nails']]}")[0]
        {'item_id': 'B1', 'title': 'Cut & Curl', 'categories': ['Beauty', 'Hair', 'Nails'], \
'price': 1003.5}
    """
    found, problem = _literal(line)
    if found is None:
        return None, problem
    if any(own in found for own in _REVIEWERS):
        return None, "a review, not an item"
    ids = [found.pop(own) for own in _IDS if own in found]
    if not ids or ids[0] in (None, ""):
        return None, "asin is missing"
    if isinstance(ids[0], bool) or not isinstance(ids[0], (str, int)):
        return None, "asin is not text"
    values: dict[str, Any] = {"item_id": str(ids[0])}
    if wanted is not None and values["item_id"] not in wanted:
        return values, ""
    for name, own in _TEXTS.items():
        values[name] = _first(found, own, _text)
    for name, own in _LISTS.items():
        values[name] = _first(found, own, _list)
    values |= _prices(found.pop("price", None))
    values["details"] = _first(found, ("details",), _details)
    addresses = _first(found, _PICTURES, _addresses)
    values["image_url"] = addresses
    declared = tuple(address.rstrip("/") + "/" for address in images)
    if addresses and declared:
        listed = [addresses] if isinstance(addresses, str) else addresses
        values["image"] = [one for one in listed if one.startswith(declared)]
    values |= {name: value for name, value in found.items() if name not in values}
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}, ""


def _first(found: dict[str, Any], names: Sequence[str], change: Any) -> Any:
    """The first field of several names that has a value; those names are used up.

    A field of a form that no edition has goes back under a name that says so, and is
    counted with the other fields that are left out.
    """
    values = []
    for name in names:
        if name in found:
            own = found.pop(name)
            values.append(change(own))
            if not values[-1] and own != {} and plain(as_text(own)).strip():
                found[f"{name} of another form"] = own
    return next(filter(None, values), None)


def _text(value: Any) -> str | None:
    """Text; paragraphs of a list become lines."""
    if isinstance(value, (list, tuple)):
        value = "\n".join(part for part in value if isinstance(part, str))
    return plain(value).strip() if isinstance(value, str) else None


def _list(value: Any) -> list[str]:
    """Distinct texts, in order: 2014 has a list of paths, whose beginnings repeat."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    nested = (part if isinstance(part, (list, tuple)) else [part] for part in parts)
    texts = (plain(text).strip() for path in nested for text in path if isinstance(text, str))
    return list(dict.fromkeys(filter(None, texts)))


def _prices(value: Any) -> dict[str, Any]:
    """`price`, and of a range also `highest_price`; what is not a price is counted."""
    if value is None or (isinstance(value, str) and value.strip() in _NO_PRICES):
        return {}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"price": float(value)}
    prices = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    if prices is None:
        return {"price that is not a number": value}
    low, high = (text and float(text.replace(",", "")) for text in prices.groups())
    return {"price": low, "highest_price": high}


def _details(value: Any) -> list[str]:
    """`Name: value` texts of an object, or of its JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _list(value)
    if not isinstance(value, dict):
        return []
    pairs = ((plain(str(name)).strip(" \n\t:"), _joined(part)) for name, part in value.items())
    return [f"{name}: {text}" for name, text in pairs if text]


def _joined(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_joined(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, map(_joined, value)))
    return "" if value is None else plain(str(value)).strip()


def _addresses(value: Any) -> str | list[str] | None:
    """Addresses of pictures, each in its largest size; the one of 2014 is a text."""
    if isinstance(value, str):
        return plain(value).strip()
    if isinstance(value, dict):
        # Columns instead of objects: {"hi_res": [...], "large": [...]}.
        columns = [value[size] for size in _SIZES if isinstance(value.get(size), list)]
        value = [dict(enumerate(sizes)) for sizes in zip(*columns, strict=False)]
    found = (_largest(one) for one in value) if isinstance(value, (list, tuple)) else ()
    return list(dict.fromkeys(filter(None, found)))


def _largest(picture: Any) -> str | None:
    if isinstance(picture, dict):
        sizes: Iterator[Any] = (picture.get(size) for size in (*_SIZES, *range(len(_SIZES))))
        picture = next((one for one in sizes if isinstance(one, str) and one), None)
    return plain(picture).strip() if isinstance(picture, str) else None


def _literal(line: bytes | None) -> Parsed:
    """A line as JSON, otherwise as a Python dictionary."""
    found, problem = json_records.parse(line)
    if line is None or problem != json_records.NOT_JSON:
        return found, problem
    try:
        found = json_records.python_literal(line.decode().strip())
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return None, "neither a Python dictionary nor JSON"
    return (None, json_records.TOO_DEEP) if json_records.is_deep(found) else (found, "")
