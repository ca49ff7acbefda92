"""What is asked of a model and how its answers are read, whatever the protocol."""

from __future__ import annotations

import dataclasses
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
import numpy as np

from kdsr_tf import schema
from kdsr_tf.errors import KDSRError

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]

OUTPUT_DTYPES = {schema.ITEMS: object, schema.SCORES: np.float32, schema.EMBEDDING: np.float32}
"""Output name to NumPy dtype; texts are `str` objects."""


class Recommendation(NamedTuple):
    """One item of an answer."""

    item_id: str
    score: float


class VersionStatus(NamedTuple):
    """State of one version of a model.

    `state` is TF Serving's name: START, LOADING, AVAILABLE, UNLOADING or END. `message` says why it
    could not be loaded, else it is empty.
    """

    version: int
    state: str
    message: str


class TensorSpec(NamedTuple):
    """Dtype, as `DT_STRING`, and shape of an input or output; None is a free dimension."""

    dtype: str
    shape: tuple[int | None, ...]


class SignatureSpec(NamedTuple):
    """Inputs and outputs of a signature, by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class ModelMetadata(NamedTuple):
    """The version that answers, and its signatures by name."""

    version: int
    signatures: dict[str, SignatureSpec]


class QueryError(KDSRError):
    """A call to the server failed.

    `code` is the call's status; that of a REST answer is translated. `retry_seconds` says when the
    server asks to come again; it is 0 where it does not say.
    """

    def __init__(self, message: str, code: grpc.StatusCode, retry_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_seconds = retry_seconds


@dataclasses.dataclass(frozen=True)
class ModelRef:
    """Which model a call is for, and which version, by number or label; None leaves it to the
    server."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.label, str | None):
            raise ValueError(
                "`model_name` and `label` must be text. "
                f"Received: model_name={self.name!r}, label={self.label!r}."
            )
        # A bool is an int. gRPC sends int64.
        is_number = isinstance(self.version, int) and not isinstance(self.version, bool)
        if self.version is not None and not (is_number and 0 <= self.version < 2**63):
            raise ValueError(
                "`version` must be a whole number from 0 to 2^63 - 1. "
                f"Received: version={self.version!r}."
            )
        if self.version is not None and self.label is not None:
            raise ValueError(
                "`version` and `label` exclude each other. "
                f"Received: version={self.version}, label={self.label!r}."
            )


@dataclasses.dataclass(frozen=True)
class Query(Generic[T]):
    """A question to one signature: its inputs, `str` objects, and the names of what comes back.

    `read` makes the result of the outputs.
    """

    signature: str
    inputs: Arrays
    outputs: tuple[str, ...]
    read: Callable[[Arrays], T]


def recommend(
    histories: Sequence[Sequence[str]], k: int, with_seen: bool
) -> Query[list[list[Recommendation]]]:
    """See `serving.client.Client.recommend`."""
    signature = schema.SIGNATURE_RECOMMEND_WITH_SEEN if with_seen else schema.SIGNATURE_RECOMMEND
    rows = rows_of_ids("histories", histories)
    return _ranking(signature, {schema.HISTORY: _padded(rows)}, len(rows), k)


def similar_items(item_ids: Sequence[str], k: int) -> Query[list[list[Recommendation]]]:
    """See `serving.client.Client.similar_items`."""
    asked = list_of_ids("item_ids", item_ids)
    inputs = {schema.ITEM_ID: np.array(asked or [""], object)}
    return _ranking(schema.SIGNATURE_SIMILAR_ITEMS, inputs, len(asked), k)


def embed(histories: Sequence[Sequence[str]]) -> Query[np.ndarray]:
    """See `serving.client.Client.embed`."""
    rows = rows_of_ids("histories", histories)
    return Query(
        schema.SIGNATURE_EMBED,
        {schema.HISTORY: _padded(rows)},
        (schema.EMBEDDING,),
        lambda outputs: outputs[schema.EMBEDDING][: len(rows)],
    )


def score(
    histories: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]]
) -> Query[list[list[float]]]:
    """See `serving.client.Client.score`."""
    rows_of_history = rows_of_ids("histories", histories)
    rows_of_candidates = rows_of_ids("candidates", candidates)
    if len(rows_of_history) != len(rows_of_candidates):
        raise ValueError(
            "`histories` and `candidates` must be of equal length. "
            f"Received: {len(rows_of_history)} and {len(rows_of_candidates)}."
        )
    wanted = _padded(rows_of_candidates)
    width = wanted.shape[1]

    def read(outputs: Arrays) -> list[list[float]]:
        # A server that batches several callers may have made the rows longer, at their end.
        rows = outputs[schema.SCORES][:, :width]
        return [
            row[width - len(names) :].tolist()
            for row, names in zip(rows, rows_of_candidates, strict=False)
        ]

    inputs = {schema.HISTORY: _padded(rows_of_history), schema.CANDIDATES: wanted}
    return Query(schema.SIGNATURE_SCORE, inputs, (schema.SCORES,), read)


def _ranking(
    signature: str, inputs: Arrays, num_rows: int, k: int
) -> Query[list[list[Recommendation]]]:
    k = count_of_items(k)

    def read(outputs: Arrays) -> list[list[Recommendation]]:
        items, scores = outputs[schema.ITEMS], outputs[schema.SCORES]
        if k > items.shape[1]:
            raise KDSRError(
                f"`k` must be at most {items.shape[1]}, the `export.k` of the model. "
                f"Received: k={k}."
            )
        rows = zip(items[:num_rows, :k].tolist(), scores[:num_rows, :k].tolist(), strict=True)
        return [
            [Recommendation(item, value) for item, value in zip(names, values, strict=True) if item]
            for names, values in rows
        ]

    return Query(signature, inputs, (schema.ITEMS, schema.SCORES), read)


def _padded(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Strings `(batch, longest + 1)`, each row after at least one "".

    Rows of full length need no padding by the server, and where TF Serving pads anyway
    (batches of several callers), it repeats a tensor's first element: the "". No rows
    become one empty row, because JSON has no empty matrix; its answer is cut off again.
    """
    length = 1 + max(map(len, rows), default=0)
    padded = np.full((len(rows) or 1, length), "", object)
    for number, row in enumerate(rows):
        padded[number, length - len(row) :] = row
    return padded


def rows_of_ids(name: str, rows: Any) -> list[list[str]]:
    """A list of item ids per row, of lists, arrays, columns of tables or such; `name` is the
    argument."""
    return [list_of_ids(f"{name}[{k}]", row) for k, row in enumerate(_listed(name, rows))]


def list_of_ids(name: str, values: Any) -> list[str]:
    """Item ids as a list of text, from a list, array, column of a table or other iterable in order.

    `ValueError` for one text, for what has no order, and for an element that is not text.
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
    """`k` as a whole number; `KDSRError` if it is not one, or below 1."""
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
