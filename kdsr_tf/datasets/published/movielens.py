"""The editions of MovieLens, from 100k of 1998 to 32M and "latest".

100k: `u.data` (tabs) and `u.item` (`|`). 1M and 10M: `.dat`, fields between `::`.
All later ones: CSV with a header. Texts are UTF-8, but Latin-1 in 100k and 1M; 10M
has the files of 1M in UTF-8, so the content tells.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from kdsr_tf.datasets.published.lines import LinesPiece, Parsed, head, lines_form, shown
from kdsr_tf.errors import InputError
from kdsr_tf.sources.batches import Batch
from kdsr_tf.sources.files import FilePiece
from kdsr_tf.sources.forms import Told, find_form
from kdsr_tf.sources.streams import encoding_of, opened, settled_encoding

_RATING = ("UserID", "MovieID", "Rating", "Timestamp")
_RATING_100K = ("user id", "item id", "rating", "timestamp")
_MOVIE = ("MovieID", "Title", "Genres")
_MOVIE_100K = ("movie id", "movie title", "release date", "video release date", "IMDb URL")
_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
_NO_GENRES = b"(no genres listed)"
_CONTROL = re.compile("[\x80-\x9f]")
"""Never in a text in Latin-1; letters and quotation marks in Windows-1252."""

_RATING_NAMES = (("user_id", "userId"), ("item_id", "movieId"))
_RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
ITEM_COLUMNS = ("item_id", "title", "genres")
_ITEM_COLUMNS_100K = (*ITEM_COLUMNS, "release_date", "video_release_date", "imdb_url")

_LAYOUTS = {
    "dat": "ratings.dat and movies.dat (fields between ::, of 1M and 10M)",
    "100k": "u.data (tabs) and u.item (|) of 100k",
    "csv": "ratings.csv and movies.csv (20M, 25M, 32M, latest)",
}


def pieces(
    interactions: str, items: str, encodings: tuple[str | None, str | None] = (None, None)
) -> tuple[FilePiece, FilePiece, Sequence[str]]:
    """Both files of an edition as pieces, and the columns of the catalogue.

    An encoding None is UTF-8, or Latin-1 where old editions are. A file that is not of MovieLens is
    refused, and so are two of different layouts.
    """
    layout = _layout(interactions, encodings[0], "ratings", *_OF_RATINGS)
    other = _layout(items, encodings[1], "movies", *_OF_MOVIES)
    if layout != other:
        raise InputError(
            f"{interactions} has the layout of {_LAYOUTS[layout]}, {items} that of "
            f"{_LAYOUTS[other]}. Give both files of one edition."
        )
    if layout == "csv":
        form = find_form(interactions, Told(encoding=encodings[0]))
        rows = FilePiece(interactions, _RATING_NAMES, form=form)
        form = find_form(items, Told(encoding=encodings[1] or settled_encoding(items)))
        return rows, _MoviesPiece(items, _RATING_NAMES[1:], form=form), ITEM_COLUMNS
    if layout == "100k":
        movies = _catalogue(items, parse_movie_100k, _ITEM_COLUMNS_100K, encodings[1])
        form = lines_form(_RATING_COLUMNS, encodings[0])
        ratings = LinesPiece(interactions, form=form, parse=parse_rating_100k)
        return ratings, movies, _ITEM_COLUMNS_100K
    ratings = ratings_of(interactions, encodings[0])
    return ratings, movies_of(items, encodings[1]), ITEM_COLUMNS


def ratings_of(path: str, encoding: str | None = None) -> LinesPiece:
    """`ratings.dat`: every rating is an interaction, whatever its stars."""
    return LinesPiece(path, form=lines_form(_RATING_COLUMNS, encoding), parse=parse_rating)


def movies_of(path: str, encoding: str | None = None) -> LinesPiece:
    """`movies.dat`: the catalogue, movies without a rating included."""
    return _catalogue(path, parse_movie, ITEM_COLUMNS, encoding)


def parse_rating(line: bytes | None) -> Parsed:
    """A line of `ratings.dat`.

    Example:
        >>> parse_rating(b"1::1193::5::978300760")[0]
        {'user_id': '1', 'item_id': '1193', 'rating': 5.0, 'timestamp': 978300760}
    """
    return _rating(*_fields(line, "::", _RATING))


def parse_rating_100k(line: bytes | None) -> Parsed:
    r"""A line of `u.data`.

    Example:
        >>> parse_rating_100k(b"196\t242\t3\t881250949")[0]
        {'user_id': '196', 'item_id': '242', 'rating': 3.0, 'timestamp': 881250949}
    """
    return _rating(*_fields(line, "\t", _RATING_100K))


def parse_movie(line: bytes | None, encoding: str = "utf-8") -> Parsed:
    """A line of `movies.dat`.

    Example:
        >>> parse_movie("73::Misérables, Les (1995)::Drama|Musical".encode())[0]
        {'item_id': '73', 'title': 'Misérables, Les (1995)', 'genres': ['Drama', 'Musical']}
    """
    fields, problem = _fields(line, "::", _MOVIE, encoding=encoding)
    if fields is None:
        return None, problem
    genres = [] if fields[2] == _NO_GENRES.decode() else fields[2].split("|")
    return {"item_id": fields[0], "title": fields[1], "genres": genres}, ""


def parse_movie_100k(line: bytes | None, encoding: str = "utf-8") -> Parsed:
    """A line of `u.item`, whose genres are 19 flags.

    Example:
        >>> line = b"2|GoldenEye (1995)|01-Jan-1995|||0|1|1" + b"|0" * 13 + b"|1|0|0"
        >>> parse_movie_100k(line)[0]["genres"]
        ['Action', 'Adventure', 'Thriller']
    """
    names = (*_MOVIE_100K, *_GENRES_100K)
    fields, problem = _fields(line, "|", names, required=2, encoding=encoding)
    if fields is None:
        return None, problem
    about, flags = fields[: len(_MOVIE_100K)], fields[len(_MOVIE_100K) :]
    if not set(flags) <= {"0", "1"}:
        return None, "a genre is neither 0 nor 1"
    genres = [name for name, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
    known = ("item_id", "title", "release_date", "video_release_date", "imdb_url")
    return dict(zip(known, about, strict=True)) | {"genres": genres}, ""


_OF_RATINGS = ({"dat": parse_rating, "100k": parse_rating_100k}, "userId,movieId,rating,timestamp")
_OF_MOVIES = (
    {
        "dat": functools.partial(parse_movie, encoding="latin-1"),
        "100k": functools.partial(parse_movie_100k, encoding="latin-1"),
    },
    "movieId,title,genres",
)
"""What reads a line of the two files, by layout, and the header of the CSV files."""


@dataclasses.dataclass(frozen=True)
class _MoviesPiece(FilePiece):
    """`movies.csv`, whose genres are a list between `|`."""

    def read(self, columns: list[str] | None) -> Iterator[Batch]:
        for batch in super().read(columns):
            values = dict(batch.columns)
            if "genres" in values:
                genres = cast(pa.Array, values["genres"])  # as every column of a CSV file
                values["genres"] = [
                    one.split(b"|") if one and one != _NO_GENRES else []
                    for one in genres.to_pylist()
                ]
            yield dataclasses.replace(batch, columns=values)


def _catalogue(
    path: str, parse: Callable[..., Parsed], columns: Sequence[str], encoding: str | None
) -> LinesPiece:
    """A catalogue in UTF-8, otherwise in Latin-1, as the old editions are documented."""
    with opened(path, encoding) as file:
        parse = functools.partial(parse, encoding=encoding_of(file).name or "latin-1")
    return LinesPiece(path, form=lines_form(columns, encoding), parse=parse)


def _layout(
    path: str,
    encoding: str | None,
    what: str,
    parsers: Mapping[str, Callable[[bytes], Parsed]],
    header: str,
) -> str:
    """Key of `_LAYOUTS`, by the first line that one of the parsers takes or that is the header."""
    lines = head(path, encoding)
    for line in lines:
        for layout, parse in parsers.items():
            if parse(line)[0]:
                return layout
        if line.replace(b'"', b"").startswith(header.encode()):
            return "csv"
    raise InputError(
        f"{path} does not have the {what} of an edition of MovieLens. Its first line: "
        f"{shown(lines)}. --format=movielens reads {'; '.join(_LAYOUTS.values())}; the ratings "
        "come first."
    )


def _rating(fields: list[str] | None, problem: str) -> Parsed:
    if fields is None:
        return None, problem
    try:
        rating, timestamp = float(fields[2]), int(fields[3])
    except ValueError:
        return None, "Rating or Timestamp is not a number"
    values: dict[str, Any] = {"user_id": fields[0], "item_id": fields[1]}
    return values | {"rating": rating, "timestamp": timestamp}, ""


def _fields(
    line: bytes | None,
    separator: str,
    names: Sequence[str],
    *,
    required: int | None = None,
    encoding: str = "utf-8",
) -> tuple[list[str] | None, str]:
    """Fields of a line, of which the first `required` are not empty."""
    try:
        text = "" if line is None else line.decode(encoding)
    except UnicodeDecodeError:
        return None, "not UTF-8"
    if encoding == "latin-1" and _CONTROL.search(text):
        return None, "neither UTF-8 nor Latin-1"
    fields = text.rstrip("\r\n").split(separator)
    if len(fields) != len(names):
        return None, f"not {separator.join(names)}"
    for name, field in zip(names[:required], fields, strict=False):
        if not field:
            return None, f"{name} is empty"
    return fields, ""
