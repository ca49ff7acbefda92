"""A predict request from its model to its outputs, whatever protocol it came by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

import grpc
import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2

from kdsr_tf import schema
from serving.batching import Batcher
from serving.metrics import Observation
from serving.request_error import RequestError
from serving.versioned_model import VersionedModel

T = TypeVar("T")
TensorInfos = Mapping[str, meta_graph_pb2.TensorInfo]

_MOST_BYTES_AT_ONCE = 1 << 16


class Prediction(NamedTuple):
    """The outputs of a request, and the version and signature that made them."""

    version: int
    signature: str
    outputs: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        """Bytes of the outputs; a string counts as its pointer."""
        return sum(array.nbytes for array in self.outputs.values())


class Predictor:
    """Finds the version, checks the request, has it computed."""

    def __init__(self, model: VersionedModel, batcher: Batcher) -> None:
        self.model = model
        self._batcher = batcher

    def require_room(self, caller: str) -> None:
        """Refuse a request, as UNAVAILABLE, before it costs anything if the queue is full."""
        self._batcher.require_room(caller)

    async def predict(
        self,
        observation: Observation,
        spec: model_pb2.ModelSpec,
        size: int,
        read_inputs: Callable[[TensorInfos], dict[str, np.ndarray]],
        wanted: Collection[str] = (),
        timeout_seconds: float | None = None,
        caller: str = "",
    ) -> Prediction:
        """Answer a request.

        Args:
            observation: Told the signature, once it is known to exist.
            spec: Model, version or label, and signature; empty is `serving_default`.
            size: Bytes of the request.
            read_inputs: Makes the arrays; given what the signature takes.
            wanted: Outputs to return; none returns all.
            timeout_seconds: Time left; afterwards the request is not computed any more.
            caller: Who asks; callers get equal shares of a busy server.

        Raises:
            RequestError: with the status the caller gets.
        """
        name = spec.signature_name or schema.SIGNATURE_RECOMMEND
        servable = self.model.find(spec)
        definition = servable.signature(name)
        observation.signature = name
        try:
            async with asyncio.timeout(timeout_seconds):
                inputs = await in_thread(size, read_inputs, definition.inputs)
                servable.check(name, inputs, wanted)
                outputs = await self._batcher.run(servable, name, inputs, caller)
        except TimeoutError:
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline passed before an answer."
            ) from None
        return Prediction(servable.version, name, {key: outputs[key] for key in wanted or outputs})


async def in_thread(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """The result of a function: computed at once, or on a thread where it works on many bytes."""
    if size <= _MOST_BYTES_AT_ONCE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
