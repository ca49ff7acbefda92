"""Requests to a served model that are wrong in many ways, each made from a number alone."""

from __future__ import annotations

import json
import random
from typing import Any

from serving import wire_pb2 as wire
from serving.queries import ModelRef, embed, recommend, score, similar_items
from serving.rest_calls import predict

_SIZES = (-(1 << 63), -1, 0, 1, 2, 3, 255, 1 << 10, 1 << 19, 1 << 31, (1 << 63) - 1)
_TEXTS = (
    "",
    "a",
    "serving_default",
    "score",
    "%",
    "é",
    "\x00",
    "x" * 3000,
    "__saved_model_init_op",
)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**30, "", "a", "\x00", "é", [], {}, [[]], [[""]], [["a"], []],
    [["a"], "a"], {"b64": "eA=="}, {"b64": "%"}, {"b64": 1}, {"x": []}, [[[["a"]]]], ["a"] * 2000,
)  # fmt: skip
_HEADERS = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue",
    b"Connection: close", b"Connection: upgrade\r\nUpgrade: websocket", b"X: \xff\x00", b": x",
    b"Content-Encoding: gzip", b"Host: a\r\nHost: b", b"X: " + b"y" * 9000,
)  # fmt: skip
_VERBS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PRI", b"get", b"\xff")
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def grpc_request(number: random.Random, name: str, items: list[str]) -> bytes:
    """The bytes of a predict request with up to three faults."""
    request = wire.PredictRequest()
    call = _query(number, items)
    request.model_spec.name, request.model_spec.signature_name = name, call.signature
    for key, array in call.inputs.items():
        tensor = request.inputs[key]
        tensor.dtype = wire.DT_STRING
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.string_val.extend(text.encode() for text in array.ravel().tolist())
    for _ in range(number.randrange(3)):
        _change_message(number, request)
    content = request.SerializeToString()
    return _change_bytes(number, content) if number.random() < 0.5 else content


def rest_request(number: random.Random, name: str, items: list[str]) -> bytes:
    """The bytes of an HTTP request with up to four faults."""
    call = predict(ModelRef(name), _query(number, items))
    document = json.loads(call.body or b"{}")
    for _ in range(number.randrange(3)):
        document = _change_value(number, document)
    body = json.dumps(document).encode()
    if number.random() < 0.3:
        body = _change_bytes(number, body)
    verb, path = b"POST", call.path.encode()
    if number.random() < 0.1:
        verb = number.choice(_VERBS)
    if number.random() < 0.1:
        path = _change_bytes(number, path).translate(None, b"\r\n ") or b"/"
    head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d" % (verb, path, len(body))
    if number.random() < 0.1:
        head += b"\r\n" + number.choice(_HEADERS)
    content = head + b"\r\n\r\n" + body
    return _change_bytes(number, content) if number.random() < 0.1 else content


def http2_bytes(number: random.Random) -> bytes:
    """What a gRPC port gets that is no gRPC."""
    noise = number.randbytes(number.randrange(200))
    return noise if number.random() < 0.5 else _PREFACE + noise


def _query(number: random.Random, items: list[str]) -> Any:
    def rows(most: int) -> list[list[str]]:
        return [number.choices(items, k=number.randrange(1, 6)) for _ in range(most)]

    several = number.randrange(1, 4)
    return number.choice(
        (
            lambda: recommend(rows(several), 5, number.random() < 0.5),
            lambda: similar_items(number.choices(items, k=several), 5),
            lambda: score(rows(several), rows(several)),
            lambda: embed(rows(several)),
        )
    )()


def _change_message(number: random.Random, request: wire.PredictRequest) -> None:
    spec = request.model_spec
    key = number.choice(sorted(request.inputs) or ["history"])
    tensor = request.inputs[key]
    change = number.randrange(10)
    if change == 0:
        tensor.tensor_shape.dim.add(size=number.choice(_SIZES))
    elif change == 1 and tensor.tensor_shape.dim:
        number.choice(list(tensor.tensor_shape.dim)).size = number.choice(_SIZES)
    elif change == 2:
        del tensor.string_val[number.randrange(len(tensor.string_val) + 1) :]
    elif change == 3:
        tensor.string_val.append(number.randbytes(number.randrange(20)))
    elif change == 4:
        tensor.tensor_content = number.randbytes(number.randrange(20))
    elif change == 5:
        spec.signature_name = number.choice(_TEXTS)
    elif change == 6:
        spec.version.value = number.choice(_SIZES)
    elif change == 7:
        spec.name = number.choice(_TEXTS)
    elif change == 8:
        spec.version_label = number.choice(_TEXTS)
    else:
        request.inputs[number.choice(_TEXTS)].CopyFrom(tensor)


def _change_value(number: random.Random, document: Any) -> Any:
    """A document in which one value, key or entry is another."""
    if isinstance(document, dict) and document and number.random() < 0.9:
        key = number.choice(sorted(document))
        change = number.random()
        if change < 0.1:
            return {k: v for k, v in document.items() if k != key}
        if change < 0.2:
            return {**document, number.choice(_TEXTS): number.choice(_VALUES)}
        return {**document, key: _change_value(number, document[key])}
    if isinstance(document, list) and document and number.random() < 0.8:
        place = number.randrange(len(document))
        return [*document[:place], _change_value(number, document[place]), *document[place + 1 :]]
    return number.choice(_VALUES)


def _change_bytes(number: random.Random, content: bytes) -> bytes:
    start = number.randrange(len(content) + 1)
    end = min(len(content), start + number.randrange(1, 20))
    return (
        content[:start]
        + number.choice(
            (
                lambda: b"",
                lambda: content[end:],
                lambda: number.randbytes(end - start) + content[end:],
                lambda: content[start:end] * 2 + content[end:],
                lambda: number.randbytes(number.randrange(30)) + content[start:],
            )
        )()
    )
