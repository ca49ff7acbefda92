"""TF Serving's gRPC services."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import descriptions
from serving.beside import beside
from serving.errors import RequestError
from serving.metrics import Metrics
from serving.predictor import Prediction, Predictor
from serving.proto_tensors import to_arrays, write
from serving.versions import VersionedModel, log

_LONGEST_MESSAGE = 1024
"""Characters, as TF Serving has it. A client cannot receive a status of more than some KiB."""


def _answering(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Turn a `RequestError` into its status, and a surprise into INTERNAL, logged."""

    async def answer(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(self, request, context)
        except RequestError as error:
            code, message = error.code, error.message
        except Exception as error:
            log.exception("unexpected error")
            code, message = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        return await context.abort(code, message[:_LONGEST_MESSAGE])

    return answer


async def _unimplemented(_: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
    """Refuse a call; the one in the generated class leaves a traceback in the log."""
    message = f"{type(request).__name__} is not supported by this server."
    return await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)


def _response(name: str, found: Prediction) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse(
        model_spec=descriptions.model_spec(name, found.version, found.signature)
    )
    for key, array in found.outputs.items():
        write(array, response.outputs[key])
    return response


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the Example-based calls are unimplemented."""

    Classify = Regress = MultiInference = _unimplemented

    def __init__(self, predictor: Predictor, counts: Metrics) -> None:
        self._predictor = predictor
        self._counts = counts

    @_answering
    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        with self._counts.observe("grpc") as observation:
            found = await self._predictor.predict(
                observation,
                request.model_spec,
                request.ByteSize(),
                functools.partial(to_arrays, request.inputs),
                request.output_filter,
                context.time_remaining(),
            )
            return await beside(found.size, _response, request.model_spec.name, found)

    @_answering
    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, _: Any
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return descriptions.metadata(
            self._predictor.model, request.model_spec, request.metadata_field
        )


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; the configuration cannot be reloaded by a call."""

    HandleReloadConfigRequest = _unimplemented

    def __init__(self, model: VersionedModel) -> None:
        self._model = model

    @_answering
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, _: Any
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return descriptions.status(self._model, request.model_spec)
