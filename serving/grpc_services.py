"""TF Serving's gRPC services over a `VersionedModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model import RequestError, ServableModel, to_array, to_proto
from serving.versions import VersionedModel, log

_SIGNATURES = "signature_def"


def _answering(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a `RequestError` into its status, and a surprise into INTERNAL, logged."""

    def answer(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request)
        except RequestError as error:
            code, message = error.code, error.message
        except Exception as error:
            log.exception("unexpected error")
            code, message = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        context.abort(code, message)

    return answer


def _find(model: VersionedModel, spec: model_pb2.ModelSpec) -> ServableModel:
    if spec.HasField("version_label"):
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Unrecognized servable version label: {spec.version_label}",
        )
    version = spec.version.value if spec.HasField("version") else None
    return model.find(spec.name, version)


def _spec(model: VersionedModel, version: int, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    spec.version.value = version
    return spec


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the Example-based calls are unimplemented."""

    def __init__(self, model: VersionedModel) -> None:
        self._model = model

    @_answering
    def Predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        servable = _find(self._model, request.model_spec)
        signature = request.model_spec.signature_name
        inputs = {name: to_array(name, proto) for name, proto in request.inputs.items()}
        outputs = servable.predict(signature, inputs, request.output_filter)
        return predict_pb2.PredictResponse(
            model_spec=_spec(self._model, servable.version, signature),
            outputs={name: to_proto(array) for name, array in outputs.items()},
        )

    @_answering
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        servable = _find(self._model, request.model_spec)
        if list(request.metadata_field) != [_SIGNATURES]:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"`metadata_field` must be {_SIGNATURES}. "
                f"Received: {', '.join(request.metadata_field) or 'nothing'}.",
            )
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=_spec(self._model, servable.version)
        )
        response.metadata[_SIGNATURES].Pack(
            get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        )
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; the configuration cannot be reloaded by a call."""

    def __init__(self, model: VersionedModel) -> None:
        self._model = model

    @_answering
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = request.model_spec
        self._model.find(spec.name)
        wanted = spec.version.value if spec.HasField("version") else None
        statuses = [s for s in self._model.statuses() if wanted in (None, s.version)]
        if not statuses:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find version {wanted} of model {spec.name}",
            )
        response = get_model_status_pb2.GetModelStatusResponse()
        states = get_model_status_pb2.ModelVersionStatus.State
        for status in statuses:
            entry = response.model_version_status.add(
                version=status.version, state=states.Value(status.state)
            )
            if status.error:
                entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                entry.status.error_message = status.error
        return response
