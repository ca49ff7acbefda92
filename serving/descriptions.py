"""Metadata and status of a model, as TF Serving's messages; both protocols send them."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.request_error import invalid, not_found
from serving.versioned_model import VersionedModel

SIGNATURES = "signature_def"


def model_spec(name: str, version: int, signature: str = "") -> model_pb2.ModelSpec:
    """What answered, for the response."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    spec.version.value = version
    return spec


def metadata(
    model: VersionedModel, spec: model_pb2.ModelSpec, fields: Sequence[str]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version; NOT_FOUND, or INVALID_ARGUMENT for another field."""
    if not fields:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURES:
            raise invalid(f"Metadata field {field} is not supported")
    servable = model.find(spec)
    response = get_model_metadata_pb2.GetModelMetadataResponse(
        model_spec=model_spec(model.name, servable.version)
    )
    response.metadata[SIGNATURES].Pack(
        get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
    )
    return response


def status(
    model: VersionedModel, spec: model_pb2.ModelSpec
) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of every version this server has met, or of the one asked for.

    NOT_FOUND for another model or version, INVALID_ARGUMENT for an unknown label.
    """
    if spec.name not in ("", model.name):
        which = f"version {spec.version.value}" if spec.HasField("version") else "any versions"
        raise not_found(f"Could not find {which} of model {spec.name}")
    wanted = model.wanted_version(spec)
    statuses = [s for s in model.statuses() if wanted in (None, s.version)]
    if not statuses:
        raise not_found(f"Could not find version {wanted} of model {spec.name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    states = get_model_status_pb2.ModelVersionStatus.State
    for found in statuses:
        entry = response.model_version_status.add(
            version=found.version, state=states.Value(found.state)
        )
        entry.status.SetInParent()
        if found.error:
            entry.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
            entry.status.error_message = found.error
    return response
