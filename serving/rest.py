"""TF Serving's REST interface, and Prometheus' page."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

from serving import descriptions, json_tensors, metrics
from serving.predictor import Predictor, in_thread
from serving.request_error import RequestError, invalid
from serving.versioned_model import LARGEST_VERSION

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:predict", re.IGNORECASE)
_DESCRIBE = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.IGNORECASE
)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]

_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class RestService:
    """Answers HTTP requests as TF Serving does.

    A body longer than `most_request_bytes` gets 413. `timeout_seconds` is the longest time for a
    body to arrive (408) and, once it has, for its answer (504).
    """

    def __init__(
        self,
        predictor: Predictor,
        counts: metrics.Metrics,
        most_request_bytes: int,
        timeout_seconds: float,
    ) -> None:
        self._predictor = predictor
        self._counts = counts
        self._most_request_bytes = most_request_bytes
        self._timeout_seconds = timeout_seconds

    def application(self) -> Starlette:
        """What an ASGI server runs."""
        return Starlette(
            routes=[
                Route(metrics.PATH, self._metrics),
                Route("/{path:path}", self._answer, methods=_METHODS),
            ],
            exception_handlers={
                RequestError: _request_error,
                HTTPException: _http_error,
                Exception: _surprise,
            },
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(self._counts.page(), media_type=metrics.CONTENT_TYPE)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace")
        if not path.lower().startswith("/v1/"):
            raise HTTPException(404, "Not Found")
        if request.method == "POST" and (match := _PREDICT.fullmatch(path)):
            return await self._predict(request, _spec(match))
        if request.method == "GET" and (match := _DESCRIBE.fullmatch(path)):
            return self._describe(_spec(match), bool(match["metadata"]))
        raise invalid(f"Malformed request: {request.method} {path}")

    async def _predict(self, request: Request, spec: model_pb2.ModelSpec) -> Response:
        content = await self._body(request)
        with self._counts.observe("rest") as observation:
            caller = str(request.client)
            self._predictor.require_room(caller)
            size = len(content)
            body = await in_thread(size, json_tensors.parse, content)
            spec.signature_name = body.signature
            found = await self._predictor.predict(
                observation,
                spec,
                size,
                body.arrays,
                timeout_seconds=self._timeout_seconds,
                caller=caller,
            )
            return await in_thread(
                found.size, lambda: _json(json_tensors.answer(found.outputs, body.by_row))
            )

    def _describe(self, spec: model_pb2.ModelSpec, with_metadata: bool) -> Response:
        if not spec.name:
            raise invalid("Missing model name in request.")
        model = self._predictor.model
        if not with_metadata:
            return _json(_plain(descriptions.status(model, spec)))
        found = descriptions.metadata(model, spec, [descriptions.SIGNATURES])
        signatures = get_model_metadata_pb2.SignatureDefMap()
        found.metadata[descriptions.SIGNATURES].Unpack(signatures)
        metadata = {descriptions.SIGNATURES: _plain(signatures)}
        return _json({"model_spec": _plain(found.model_spec), "metadata": metadata})

    async def _body(self, request: Request) -> bytes:
        """The body, never more of it in memory than is taken.

        Of one that is too large the rest is read and dropped: many clients send all of it
        before they look at an answer.
        """
        body, size = bytearray(), 0
        length = request.headers.get("content-length", "")
        if length.isdecimal() and request.headers.get("expect", "").lower() == "100-continue":
            self._check_size(int(length))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= self._most_request_bytes:
                        body += chunk
        except TimeoutError:
            self._check_size(size)
            raise HTTPException(
                408, f"The body did not arrive within {self._timeout_seconds:g} s."
            ) from None
        except ClientDisconnect:
            raise RequestError(grpc.StatusCode.CANCELLED, "The caller has gone.") from None
        self._check_size(size)
        return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self._most_request_bytes:
            raise HTTPException(413, f"The body is larger than {self._most_request_bytes} bytes.")


def _spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"] or ""))
    if match["version"]:
        digits = match["version"].lstrip("0")
        if len(digits) > 19 or int(digits or 0) > LARGEST_VERSION:
            raise invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(digits or 0)
    elif match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


def _plain(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # Not starlette's JSONResponse: it refuses -Infinity, which TF Serving sends.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


async def _request_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestError):
        raise error
    headers = {}
    if error.retry_seconds is not None:
        headers["retry-after"] = str(math.ceil(error.retry_seconds))
    return _json({"error": error.message}, _STATUS.get(error.code, 500), headers)


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if request.method not in _METHODS:
        error = HTTPException(501, "Not Implemented")
    # The rest of a body that is not read must not be taken for the next request.
    return _json({"error": error.detail}, error.status_code, {"connection": "close"})


async def _surprise(_: Request, error: Exception) -> Response:
    # Starlette raises it again, so that the HTTP server logs it.
    return _json({"error": f"{type(error).__name__}: {error}"}, 500)
