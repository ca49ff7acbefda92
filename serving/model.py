"""One loaded version of a SavedModel, checked at its edge."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kdsr_tf import schema

WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
_MOST_ELEMENTS = 1 << 22


class RequestError(Exception):
    """A request that gets an error status, whatever protocol it came by.

    Args:
        code: gRPC's status; REST maps it to its own.
        message: For the caller.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


class ServableModel:
    """A SavedModel version that answers by signature name.

    Args:
        path: Folder of the version.
        version: Its number.

    Raises:
        ImportError: if the SavedModel needs ScaNN and it is not installed.
        Exception: whatever TensorFlow raises for a folder that is no SavedModel.
    """

    def __init__(self, path: str, version: int) -> None:
        self.version = version
        self._path = path
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            graph = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs[0]
        if any(op.startswith("Scann>") for op in _operations(graph)):
            import scann  # noqa: F401  (registers the operations before the graph is loaded)
        self.signature_defs = dict(graph.signature_def)
        self._signatures = tf.saved_model.load(path).signatures

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Iterable[str] = (),
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature: Its name; empty is `serving_default`.
            inputs: Name to array; strings are object arrays of bytes.
            outputs: Names to return; none returns all.

        Returns:
            Name to array.

        Raises:
            RequestError: with the status the caller gets.
        """
        name = signature or schema.SIGNATURE_RECOMMEND
        if name not in self._signatures:
            raise _invalid(f'Serving signature key "{name}" not found.')
        definition = self.signature_defs[name]
        _check_inputs(inputs, definition.inputs)
        unknown = sorted(set(outputs) - set(definition.outputs))
        if unknown:
            raise _invalid(f"output tensor alias not found in signature: {', '.join(unknown)}.")
        tensors = {
            key: tf.constant(value, tf.as_dtype(definition.inputs[key].dtype))
            for key, value in inputs.items()
        }
        try:
            found = self._signatures[name](**tensors)
        except tf.errors.OpError as error:
            raise RequestError(_status(error.error_code), error.message) from error
        return {key: found[key].numpy() for key in outputs or found}

    def warm_up(self) -> int:
        """Play the recorded requests; returns how many there were."""
        path = os.path.join(self._path, WARM_UP)
        if not os.path.exists(path):
            return 0
        played = 0
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: to_array(name, proto) for name, proto in request.inputs.items()}
            self.predict(request.model_spec.signature_name, inputs)
            played += 1
        return played


def to_array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array of a received tensor.

    A few bytes can declare a tensor of any size, so the size is checked first.

    Args:
        name: Of the input, for the message.
        proto: As received.

    Raises:
        RequestError: INVALID_ARGUMENT for a tensor that contradicts itself.
    """
    size = 1
    for dim in proto.tensor_shape.dim:
        if dim.size < 0:
            raise _invalid(f"input `{name}` has a negative dimension: {dim.size}.")
        size *= dim.size
    if size > _MOST_ELEMENTS:
        raise _invalid(f"input `{name}` has {size} elements; at most {_MOST_ELEMENTS} are taken.")
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise _invalid(f"input `{name}` is no valid tensor: {error}") from error


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor with its values in typed fields, as TF Serving sends them by default."""
    dtype = tf.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    values = array.ravel().tolist()
    field = proto.string_val if dtype == tf.string else proto.float_val
    field.extend(values)
    return proto


def _check_inputs(
    inputs: Mapping[str, np.ndarray], expected: Mapping[str, meta_graph_pb2.TensorInfo]
) -> None:
    if set(inputs) != set(expected):
        extra = sorted(set(inputs) - set(expected))
        missing = sorted(set(expected) - set(inputs))
        raise _invalid(
            f"inputs do not match the signature. Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )
    for name, info in expected.items():
        array, dtype = inputs[name], tf.as_dtype(info.dtype)
        if tf.as_dtype(array.dtype) != dtype:
            raise _invalid(
                f"input `{name}` must be {dtype.name}. Received: {tf.as_dtype(array.dtype).name}."
            )
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(array.shape):
            raise _invalid(
                f"input `{name}` must have shape {shape}. Received: {list(array.shape)}."
            )


def _operations(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    nodes = [graph.graph_def.node, *(f.node_def for f in graph.graph_def.library.function)]
    return {node.op for group in nodes for node in group}


def _status(code: int) -> grpc.StatusCode:
    return next(
        (status for status in grpc.StatusCode if status.value[0] == code), grpc.StatusCode.INTERNAL
    )
