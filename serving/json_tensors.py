"""Predict requests and answers in TF Serving's JSON: by row or by column.

`{"instances": [...]}` has one entry per row: a value, or an object of named inputs; the
answer is `{"predictions": [...]}`. `{"inputs": ...}` has whole tensors; the answer is
`{"outputs": ...}`. Both drop the name where there is only one. A string that is no UTF-8
is written `{"b64": "..."}`. A score of −inf is `-Infinity`, as TF Serving has it.
"""

from __future__ import annotations

import base64
import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.predictor import TensorInfos
from serving.proto_tensors import MOST_ELEMENTS
from serving.request_error import invalid

_SIGNATURE, _ROWS, _COLUMNS = "signature_name", "instances", "inputs"
_BASE64 = "b64"


class JsonRequest(NamedTuple):
    """A body that was parsed, its tensors not yet."""

    signature: str
    by_row: bool
    values: Any

    def arrays(self, infos: TensorInfos) -> dict[str, np.ndarray]:
        """The inputs of a signature that takes `infos`, or INVALID_ARGUMENT."""
        values = _by_column(self.values, infos) if self.by_row else _named(self.values, infos)
        return {name: _array(value, name, infos[name]) for name, value in values.items()}


def parse(body: bytes) -> JsonRequest:
    """Parse the body of a predict request; INVALID_ARGUMENT for what is none."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(str(body, "utf-8"))  # of bytes it would take UTF-16 too
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {reprlib.repr(document)} Is not object")
    signature = document.get(_SIGNATURE, "")
    if not isinstance(signature, str):
        raise invalid(
            f"JSON Value: {reprlib.repr(document)} not formatted correctly. "
            f"'{_SIGNATURE}' key must be a string value."
        )
    _encoded(signature)
    if _ROWS in document and _COLUMNS in document:
        raise invalid(
            f"JSON Value: {reprlib.repr(document)} Not formatted correctly expecting only one of "
            f"'{_COLUMNS}' or '{_ROWS}' keys to exist"
        )
    if _ROWS in document:
        rows = document[_ROWS]
        if not isinstance(rows, list):
            raise invalid(
                f"JSON Value: {reprlib.repr(rows)} Expecting '{_ROWS}' to be a list/array"
            )
        if not rows:
            raise invalid(f"JSON Value: {reprlib.repr(document)} No values in '{_ROWS}' array")
        return JsonRequest(signature, True, rows)
    if _COLUMNS in document:
        return JsonRequest(signature, False, document[_COLUMNS])
    raise invalid(f"Missing '{_COLUMNS}' or '{_ROWS}' key")


def answer(outputs: Mapping[str, np.ndarray], by_row: bool) -> dict[str, Any]:
    """The answer to a request by row or by column as JSON values."""
    columns = {name: _values(array) for name, array in sorted(outputs.items())}
    if not by_row:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _by_column(rows: list[Any], infos: TensorInfos) -> dict[str, list[Any]]:
    names = sorted(infos)
    named = _is_named(rows[0])
    if not named and len(names) > 1:
        raise invalid(
            f"{_ROWS} is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    for number, row in enumerate(rows):
        if _is_named(row) != named:
            expected, found = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {found} at item {number} of input list")
        if named and sorted(row) != names:
            raise invalid(
                f"Failed to process element: {number} of '{_ROWS}' list. JSON object: "
                f"{reprlib.repr(row)} keys must be equal to: {','.join(names)}"
            )
    return {name: [row[name] for row in rows] for name in names} if named else {names[0]: rows}


def _named(value: Any, infos: TensorInfos) -> dict[str, Any]:
    if _is_named(value):
        for name in sorted(set(infos) - set(value)):
            raise invalid(f"Missing named input: {name} in '{_COLUMNS}' object.")
        return {name: value[name] for name in infos}
    if len(infos) > 1:
        raise invalid(
            f"{_COLUMNS} is a plain value/list, but expecting an object as multiple "
            "input tensors required as per tensorinfo_map"
        )
    return {next(iter(infos)): value}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == [_BASE64] and isinstance(value[_BASE64], str)


def _array(value: Any, name: str, info: Any) -> np.ndarray:
    """A dense array of strings; its shape is that of the first elements."""
    if info.dtype != tf.string.as_datatype_enum:
        raise invalid(f"input `{name}` is {tf.as_dtype(info.dtype).name}; JSON takes strings only.")
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) != len(info.tensor_shape.dim):
        raise invalid(
            f"input `{name}` must be a list nested {len(info.tensor_shape.dim)} deep. "
            f"Received: {len(shape)} deep."
        )
    if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS:
        raise invalid(f"input `{name}` has more than {MOST_ELEMENTS} elements.")
    leaves: list[bytes] = []
    _fill(value, shape, leaves)
    array = np.empty(len(leaves), object)
    array[:] = leaves
    return array.reshape(shape)


def _fill(value: Any, shape: list[int], leaves: list[bytes]) -> None:
    """Append the strings of a nested list; every list must have its level's size."""
    if not isinstance(value, list):
        if shape:
            raise invalid(
                f"JSON Value: {reprlib.repr(value)} found at incorrect level in the JSON DOM. "
                "Lists must be nested equally deep."
            )
        leaves.append(_bytes(value))
        return
    if not shape:
        raise invalid("Encountered list at unexpected level; lists must be nested equally deep.")
    if len(value) != shape[0]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} expected size: {shape[0]}. "
            'Fill shorter lists with "".'
        )
    for element in value:
        _fill(element, shape[1:], leaves)


def _bytes(value: Any) -> bytes:
    if _is_base64(value):
        try:
            return base64.b64decode(value[_BASE64], validate=True)
        except ValueError:  # binascii.Error is one; letters beyond ASCII raise another
            raise invalid("Unable to base64 decode") from None
    if isinstance(value, dict):
        raise invalid(f"JSON Value: {reprlib.repr(value)} not formatted correctly for base64 data")
    if not isinstance(value, str):
        kind = {type(None): "Null", bool: str(value)}.get(type(value), "Number")
        raise invalid(
            f"JSON Value: {reprlib.repr(value)} Type: {kind} is not of expected type: string"
        )
    return _encoded(value)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def _values(array: np.ndarray) -> list[Any]:
    if array.dtype != object:
        return array.tolist()
    texts = [value.decode(errors="replace") for value in array.ravel()]
    return np.array(texts, object).reshape(array.shape).tolist()
