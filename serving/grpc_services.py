"""TF Serving's gRPC services, and that of health.

Every method is registered as one that reads its request itself, though clients send exactly
one message: a call that finds the queue full is refused before its request is read, a request
that never arrives ends at a deadline, and malformed bytes get a status instead of a traceback.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from serving import descriptions
from serving.crowding import Crowding
from serving.grpc_calls import MODEL_SERVICE, PREDICTION_SERVICE
from serving.health import HEALTH_SERVICE, Health
from serving.listener import most_connections
from serving.metrics import Metrics
from serving.predictor import Prediction, Predictor, in_thread
from serving.proto_tensors import to_arrays, write
from serving.request_error import RequestError
from serving.versioned_model import log

if TYPE_CHECKING:
    from kdsr_tf.config.serving_sections import ServeConfig

_NO_LIMIT = 1 << 30

_FEWEST_CALLS = 64


M = TypeVar("M", bound=Message)
_Answer = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Message | None]]

_LONGEST_MESSAGE = 1024
"""Characters, as TF Serving has it. A client cannot receive a status of more than some KiB."""

_RETRY_AFTER = "grpc-retry-pushback-ms"
"""Trailing metadata that gRPC's own retries follow."""

_UNIMPLEMENTED = {
    PREDICTION_SERVICE: ("Classify", "Regress", "MultiInference"),
    MODEL_SERVICE: ("HandleReloadConfigRequest",),
}


class GrpcServices:
    """Predict, GetModelMetadata, GetModelStatus and health; other methods are unimplemented.

    A request may take `read_seconds` to arrive.
    """

    def __init__(
        self,
        predictor: Predictor,
        health: Health,
        crowding: Crowding,
        counts: Metrics,
        read_seconds: float,
    ) -> None:
        self._predictor = predictor
        self._health = health
        self._counts = counts
        self._read_seconds = read_seconds
        self._crowding = crowding

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a server adds."""
        answers: dict[str, dict[str, _Answer]] = {
            PREDICTION_SERVICE: {"Predict": self._predict, "GetModelMetadata": self._metadata},
            MODEL_SERVICE: {"GetModelStatus": self._status},
            HEALTH_SERVICE: {"Check": self._check, "Watch": self._watch},
        }
        for service, methods in _UNIMPLEMENTED.items():
            answers[service] |= {name: functools.partial(_refuse, name) for name in methods}
        return [
            grpc.method_handlers_generic_handler(
                service, {name: self._handler(answer) for name, answer in methods.items()}
            )
            for service, methods in answers.items()
        ]

    def _handler(self, answer: _Answer) -> grpc.RpcMethodHandler:
        """A method that turns a `RequestError` into its status, and a surprise into INTERNAL."""

        async def call(requests: Any, context: grpc.aio.ServicerContext) -> Message | None:
            try:
                with self._crowding.call(context.peer()):
                    return await answer(requests, context)
            except RequestError as error:
                refused = error
            except Exception as error:
                log.exception("unexpected error")
                message = f"{type(error).__name__}: {error}"
                refused = RequestError(grpc.StatusCode.INTERNAL, message)
            try:
                return await context.abort(
                    refused.code, refused.message[:_LONGEST_MESSAGE], _trailer(refused)
                )
            except grpc.aio.InternalError:
                # The caller has gone, which grpcio would log with a traceback for each call.
                raise asyncio.CancelledError from None

        writes_itself = answer == self._watch
        handler = (
            grpc.stream_stream_rpc_method_handler
            if writes_itself
            else grpc.stream_unary_rpc_method_handler
        )
        return handler(call, response_serializer=lambda message: message.SerializeToString())

    async def _predict(self, _: Any, context: grpc.aio.ServicerContext) -> Message:
        with self._counts.observe("grpc") as observation:
            self._crowding.require_room(context.peer())
            self._predictor.require_room(context.peer())
            content = await self._received(context)
            observation.start()
            request = await in_thread(
                len(content), self._parse, predict_pb2.PredictRequest, content
            )
            found = await self._predictor.predict(
                observation,
                request.model_spec,
                len(content),
                functools.partial(to_arrays, request.inputs),
                request.output_filter,
                context.time_remaining(),
                context.peer(),
            )
            return await in_thread(found.size, _response, request.model_spec.name, found)

    async def _metadata(self, _: Any, context: grpc.aio.ServicerContext) -> Message:
        content = await self._received(context)
        request = self._parse(get_model_metadata_pb2.GetModelMetadataRequest, content)
        return descriptions.metadata(
            self._predictor.model, request.model_spec, request.metadata_field
        )

    async def _status(self, _: Any, context: grpc.aio.ServicerContext) -> Message:
        content = await self._received(context)
        request = self._parse(get_model_status_pb2.GetModelStatusRequest, content)
        return descriptions.status(self._predictor.model, request.model_spec)

    async def _check(self, _: Any, context: grpc.aio.ServicerContext) -> Message:
        content = await self._received(context)
        return self._health.check(self._parse(health_pb2.HealthCheckRequest, content).service)

    async def _watch(self, _: Any, context: grpc.aio.ServicerContext) -> None:
        content = await self._received(context)
        request = self._parse(health_pb2.HealthCheckRequest, content)
        await self._health.watch(request.service, context)

    async def _received(self, context: grpc.aio.ServicerContext) -> bytes:
        try:
            async with asyncio.timeout(self._read_seconds):
                content = await context.read()
        except TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"The request did not arrive within {self._read_seconds:g} s.",
            ) from None
        if content is grpc.aio.EOF:
            raise RequestError(grpc.StatusCode.INTERNAL, "The call has no request message.")
        return content

    def _parse(self, kind: type[M], content: bytes) -> M:
        try:
            return kind.FromString(content)
        except DecodeError:
            self._counts.malformed("grpc", f"{len(content)} bytes are no {kind.__name__}")
            raise RequestError(
                grpc.StatusCode.INTERNAL, f"The request is no {kind.__name__}."
            ) from None


def _trailer(error: RequestError) -> tuple[tuple[str, str], ...]:
    if error.retry_seconds is None:
        return ()
    return ((_RETRY_AFTER, f"{1e3 * error.retry_seconds:.0f}"),)


async def _refuse(name: str, *_: Any) -> Message:
    raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not supported by this server.")


def _response(name: str, found: Prediction) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse(
        model_spec=descriptions.model_spec(name, found.version, found.signature)
    )
    for key, array in found.outputs.items():
        write(array, response.outputs[key])
    return response


def most_calls(options: ServeConfig) -> int:
    """Calls that a connection may have at once: as many as fill a batch, or a few more."""
    return max(options.max_batch_size, _FEWEST_CALLS)


def grpc_options(options: ServeConfig) -> list[tuple[str, int]]:
    """Options of a gRPC server."""
    idle_ms = round(1e3 * options.idle_seconds)
    return [
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.so_reuseport", 0),
        # gRPC hands calls to Python in the order in which they came. What a connection has beyond
        # this number waits at its client, so that few are before another connection's call.
        ("grpc.max_concurrent_streams", most_calls(options)),
        # With it calls that have ended count for a while, and gRPC itself refuses others.
        ("grpc.http.overload_protection", 0),
        ("grpc.enable_channelz", 1),
        # Beyond these limits gRPC would answer CANCELLED, which nobody retries.
        ("grpc.server.max_pending_requests", _NO_LIMIT),
        ("grpc.server.max_pending_requests_hard_limit", _NO_LIMIT),
        ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        ("grpc.server_handshake_timeout_ms", idle_ms),
        # One that has spoken may rest longer: its client reports the end of it on stderr.
        ("grpc.max_connection_idle_ms", 10 * idle_ms),
        ("grpc.keepalive_time_ms", idle_ms),
        ("grpc.keepalive_timeout_ms", idle_ms),
    ]
