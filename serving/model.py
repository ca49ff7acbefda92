"""One loaded version of a SavedModel, checked at its edge."""

from __future__ import annotations

import contextlib
import glob
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kdsr_tf import schema
from serving.internals import callable_of
from serving.proto_tensors import to_arrays
from serving.request_error import RequestError, invalid

WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
_VARIABLES = os.path.join("variables", "variables")
_MAIN_OPERATION = "__saved_model_init_op"

_IN_CALLERS_THREAD = tf.compat.v1.ConfigProto(
    inter_op_parallelism_threads=-1, intra_op_parallelism_threads=1
)
"""A request is hundreds of short operations: handing them to other threads takes longer than
computing them. Several batches at once use the other cores."""


class _Call(NamedTuple):
    """A signature, ready to be computed: what it takes and gives by sorted name."""

    inputs: dict[str, tf.TensorShape]
    outputs: list[str]
    compute: Callable[..., list[np.ndarray]]


class ServableModel:
    """A SavedModel version that answers by signature name.

    It is loaded as TF Serving loads it: a session restores the variables and runs the
    main operation. What the session holds is released with the last reference to this
    object, so calls under way outlive a swap.

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
        self.signature_defs = {
            name: definition
            for name, definition in graph.signature_def.items()
            if name != _MAIN_OPERATION
        }
        self._calls = self._load(graph)

    def signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        """Inputs and outputs of a signature; INVALID_ARGUMENT if there is none of that name."""
        found = self.signature_defs.get(name)
        if found is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        return found

    def check(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Iterable[str] = ()
    ) -> None:
        """Refuse, as INVALID_ARGUMENT, a request that could fail: it must not share a batch.

        `signature` is one that the method of that name has found. `inputs` are object arrays of
        bytes, by all the names of its inputs; `outputs` are names of those wanted.
        """
        call = self._calls[signature]
        _check_inputs(inputs, call.inputs)
        unknown = sorted(set(outputs).difference(call.outputs))
        if unknown:
            raise invalid(f"output tensor alias not found in signature: {', '.join(unknown)}.")

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Name to output of a signature for inputs that were checked; threads may share this.

        What TensorFlow raises keeps its status.
        """
        call = self._calls[signature]
        try:
            found = call.compute(*(inputs[name] for name in call.inputs))
        except tf.errors.OpError as error:
            raise RequestError(_status(error.error_code), error.message) from error
        return dict(zip(call.outputs, found, strict=True))

    def warm_up(self) -> int:
        """Play the recorded requests; returns how many there were."""
        path = os.path.join(self._path, WARM_UP)
        if not os.path.exists(path):
            return 0
        played = 0
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            signature = request.model_spec.signature_name or schema.SIGNATURE_RECOMMEND
            inputs = to_arrays(request.inputs, self.signature(signature).inputs)
            self.check(signature, inputs)
            self.run(signature, inputs)
            played += 1
        return played

    def _load(self, saved: meta_graph_pb2.MetaGraphDef) -> dict[str, _Call]:
        with tf.Graph().as_default() as graph:
            tf.graph_util.import_graph_def(saved.graph_def, name="")
            session = tf.compat.v1.Session(graph=graph, config=_IN_CALLERS_THREAD)
            # A graph refers to itself, so that the session would wait for Python's collector.
            weakref.finalize(self, session.close).atexit = False
            with _without_pattern(self._path) as folder:
                session.run(
                    saved.saver_def.restore_op_name,
                    {saved.saver_def.filename_tensor_name: os.path.join(folder, _VARIABLES)},
                )
            session.run(saved.signature_def[_MAIN_OPERATION].outputs[_MAIN_OPERATION].name)
            return {
                name: _call(session, definition) for name, definition in self.signature_defs.items()
            }


@contextlib.contextmanager
def _without_pattern(folder: str) -> Iterator[str]:
    """A name of a folder that TensorFlow, which looks for variables by pattern, takes literally."""
    if not glob.has_magic(folder):
        yield folder
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{opened}"
    finally:
        os.close(opened)


def _call(session: tf.compat.v1.Session, definition: meta_graph_pb2.SignatureDef) -> _Call:
    inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
    feeds = [definition.inputs[name].name for name in inputs]
    fetches = [definition.outputs[name].name for name in outputs]
    shapes = {name: tf.TensorShape(definition.inputs[name].tensor_shape) for name in inputs}
    return _Call(shapes, outputs, callable_of(session, feeds, fetches))


def _check_inputs(inputs: Mapping[str, np.ndarray], expected: Mapping[str, tf.TensorShape]) -> None:
    for name, shape in expected.items():
        if not shape.is_compatible_with(inputs[name].shape):
            raise invalid(
                f"input `{name}` must have shape {shape}. Received: {list(inputs[name].shape)}."
            )
    if len({len(array) for array in inputs.values()}) > 1:
        rows = ", ".join(f"{name} {len(array)}" for name, array in sorted(inputs.items()))
        raise invalid(f"inputs must have the same number of rows. Received: {rows}.")


def _operations(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    nodes = [graph.graph_def.node, *(f.node_def for f in graph.graph_def.library.function)]
    return {node.op for group in nodes for node in group}


def _status(code: int) -> grpc.StatusCode:
    return next(
        (status for status in grpc.StatusCode if status.value[0] == code), grpc.StatusCode.INTERNAL
    )
