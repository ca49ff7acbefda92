"""Column names: the expected ones, and what a user's own data calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kdsr_tf.errors import InputError

Names = tuple[tuple[str, str], ...]
"""Columns to rename: `(expected name, own name)`."""


def names_in(
    columns: Mapping[str, str], found: Sequence[str], wanted: Iterable[str] | None = None
) -> Names:
    """What of `source.columns` applies to one file.

    Args:
        columns: Own names by expected names.
        found: Columns of the file.
        wanted: Expected names that matter in this file; None takes all.
    """
    return tuple(
        (name, own)
        for name, own in sorted(columns.items())
        if own in found and own != name and (wanted is None or name in wanted)
    )


def renamed(found: Sequence[str], names: Names) -> tuple[str, ...]:
    """Column names after renaming, as `files.read_batches` gives them.

    Example:
        >>> renamed(["asin", "name", "title"], (("item_id", "asin"), ("title", "name")))
        ('item_id', 'title')
    """
    taken = {name for pair in names for name in pair}
    return (*(name for name, _ in names), *(name for name in found if name not in taken))


def check_own_names(columns: Mapping[str, str], found: Iterable[str], path: str) -> None:
    """Refuse a `source.columns` entry whose own name occurs nowhere.

    Raises:
        InputError: naming the entry and the columns found.
    """
    found = sorted(set(found))
    for name, own in columns.items():
        if own not in found:
            raise InputError(
                f"`source.columns` (--column) takes {name} from the column {own!r}, which {path} "
                f"does not have. Columns found: {', '.join(found) or 'none'}."
            )


def check_columns(
    path: str, found: Sequence[str], names: Names, required: Iterable[str]
) -> tuple[str, ...]:
    """The column names after renaming; all `required` ones are among them.

    Raises:
        InputError: for an empty file or a missing column.
    """
    if not found:
        raise InputError(f"{path} is empty: it has no rows and no column names.")
    columns = renamed(found, names)
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}. "
            f"Columns found: {', '.join(found)}. If a column has another name, give it: "
            f"--set source.columns.{missing[0]}=NAME, or --column {missing[0]}=NAME to "
            "`kdsr data import`."
        )
    return columns
