"""Item ids of a caller as lists of text, whatever container they come in."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from kdsr_tf.errors import KDSRError


def rows_of_ids(name: str, rows: Any) -> list[list[str]]:
    """One list of item ids per row, of lists, arrays, columns of tables or other iterables of such.

    Raises:
        ValueError: as `item_ids`; `name` is the argument's.
    """
    return [item_ids(f"{name}[{k}]", row) for k, row in enumerate(_listed(name, rows))]


def item_ids(name: str, values: Any) -> list[str]:
    """Item ids as a list of text, from a list, array, column of a table or other iterable in order.

    Raises:
        ValueError: for one text, for what has no order, and for an element that is not text.
    """
    ids = _listed(name, values)
    for position, value in enumerate(ids):
        if not isinstance(value, str):
            raise ValueError(
                f"`{name}` needs item ids, which are text, such as '12'. Received: "
                f"{reprlib.repr(value)} ({type(value).__name__}) at position {position}."
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"`{name}` needs item ids that UTF-8 can write. Received: {value!r} at position "
                f"{position}."
            ) from None
    return ids


def count_of_items(k: Any) -> int:
    """`k` as a whole number.

    Raises:
        KDSRError: if it is not one, or below 1.
    """
    try:
        number = None if isinstance(k, bool) else operator.index(k)
    except TypeError:
        number = None
    if number is None:
        raise KDSRError(f"`k` must be a whole number >= 1. Received: k={k!r}.")
    if number < 1:
        raise KDSRError(f"`k` must be >= 1. Received: k={number}.")
    return number


def _listed(name: str, values: Any) -> list[Any]:
    """The elements as Python values: NumPy's, pandas' and Arrow's containers have methods."""
    for method in ("to_pylist", "tolist"):
        if callable(convert := getattr(values, method, None)):
            values = convert()
    if isinstance(values, str | bytes):
        raise ValueError(f"`{name}` needs lists of item ids, not one text. Received: {values!r}.")
    if not isinstance(values, Iterable) or isinstance(values, set | frozenset | Mapping):
        raise ValueError(
            f"`{name}` needs lists of item ids, in order. Received: {reprlib.repr(values)} "
            f"({type(values).__name__})."
        )
    return list(values)
