"""What the Keras encoders share: loading presets, running a model in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from beam_pipelines.handlers.encoder import (
    Encoder,
    ImageEncoder,
    Unusable,
)
from beam_pipelines.handlers.hidden_states import States
from beam_pipelines.handlers.local_files import files_below, local_folder
from kdsr_tf.errors import ConfigError
from kdsr_tf.processors import few_processors, limit_threads
from kdsr_tf.sources.image_files import is_far

PRESET_ERRORS = (ValueError, OSError, KeyError, ImportError)
"""What Keras Hub raises for presets that are unknown, incomplete or of another kind."""


_LARGEST_CONSTANTS = 250_000_000
"""Weights above which a network's graph would come near TensorFlow's limit of 2 GB."""

_MOST_THREADS = 8
"""Calls of a network side by side, not counting a spare one: each holds the activations of a
batch."""

_PICTURES_AT_ONCE = 8
"""Most pictures of one call where an operation has one thread: the maps of more, of tens of
megabytes a layer, go through memory instead of the processor's cache. Operations that are shared
out between threads lose more by small calls than they gain."""


@dataclasses.dataclass(frozen=True)
class KerasImageModel:
    """A network and what turns float pictures with values from 0 to 255 into its input.

    Args:
        network: `keras.Model` from pictures to `[batch, size]`, the states included.
        preprocess: Function from float pictures to its input.
        states: What the states beside the vectors are, or None.
    """

    network: Any
    preprocess: Callable[[Any], Any]
    states: States | None = None

    @functools.cached_property
    def run(self) -> Callable[[np.ndarray], Any]:
        """From uint8 pictures to vectors.

        On a CPU the weights become constants of the graph, so that TensorFlow can fold
        batch normalisations of presets into ordinary convolutions; `fold` has done so for
        `keras.applications`, whose time constants do not change.
        """
        if self.network.jit_compile or self.network.count_params() > _LARGEST_CONSTANTS:
            return self._predict
        return _with_constant_weights(self.network, self.preprocess)

    def _predict(self, pictures: np.ndarray) -> Any:
        inputs = np.asarray(self.preprocess(pictures.astype(np.float32)))
        return self.network.predict_on_batch(inputs)


def vector_size(model: Any) -> int:
    """Length of the vectors of a network that may give states beside them."""
    states = model.states.size if model.states is not None else 0
    return int(model.network.output_shape[-1]) - states


class KerasImageEncoder(ImageEncoder):
    """Base of image encoders that run a Keras network in batches.

    A call has never more than 8 pictures where there are two processors or fewer and no GPU.

    Args:
        image_size: Side of the network's input, in pixels.
        precision: Keras dtype policy: `float32`, `mixed_float16` or `mixed_bfloat16`.
        **pictures: Further arguments of `ImageEncoder`.
    """

    def __init__(self, image_size: int = 224, *, precision: str = "float32", **pictures: Any):
        super().__init__(image_size, **pictures)
        self.precision = precision

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"precision": self.precision}

    def size(self, model: KerasImageModel) -> int:
        return vector_size(model)

    def states(self, model: KerasImageModel) -> States | None:
        return model.states

    def encode(self, batch: Sequence[np.ndarray], model: KerasImageModel) -> np.ndarray:
        vectors = np.empty((len(batch), model.network.output_shape[-1]), np.float32)

        def run(rows: slice) -> None:
            vectors[rows] = self._call(batch[rows], model)

        for_each(run, self._calls(batch, model))
        return vectors

    def run_inference(
        self,
        batch: Sequence[str],
        model: KerasImageModel,
        inference_args: dict[str, Any] | None = None,
    ) -> list[np.ndarray | Unusable]:
        """Each picture's vector, or why it has none.

        The thread that calls the network has decoded its pictures before: threads for decoding
        alone would take processors from the network. There is one thread more than processors,
        because one that decodes keeps others waiting for Python's lock. The pictures of fewer
        calls than processors, such as a large one for a GPU, are decoded ahead on all of them,
        and files that lie far away are read ahead, many at a time.
        """
        found: list[Any] = [None] * len(batch)
        calls = self._calls(batch, model)
        ahead = len(calls) < _num_threads() or any(map(is_far, batch))
        with self.preparing(batch) if ahead else contextlib.nullcontext(batch) as contents:
            prepare: Callable[[Any], Any] = Future.result if ahead else self._prepare_one

            def run(rows: slice) -> None:
                found[rows] = self._encoded([prepare(content) for content in contents[rows]], model)

            for_each(run, calls, spare=0 if ahead else 1)
        return found

    def _calls(self, batch: Sequence[Any], model: KerasImageModel) -> list[slice]:
        """Rows of every call of the network."""
        _ = model.run  # Built once, before the threads begin.
        most = self.batch_size
        if few_processors() and not model.network.jit_compile:
            most = min(most, _PICTURES_AT_ONCE)
        return [slice(start, start + most) for start in range(0, len(batch), most)]

    def _call(self, pictures: Sequence[np.ndarray], model: KerasImageModel) -> np.ndarray:
        """Vectors of the pictures of one call."""
        fixed = self.batch_size if model.network.jit_compile else None
        return predict(model.run, np.stack(pictures), fixed)


class HubPreset(Encoder):
    """Base of encoders of a Keras Hub preset, before that of their contents.

    Args:
        preset: Preset name or local folder (Keras Hub's or Hugging Face's format).
        key: Configuration key, for errors.
        *args: Arguments of the other base.
        **kwargs: Likewise.
    """

    def __init__(self, preset: str, key: str, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.folder = local_folder(preset, key)
        self.preset = self.folder or preset

    def parameters(self) -> dict[str, Any]:
        values = super().parameters()
        return values if self.folder else values | {"preset": self.preset}

    def files(self) -> list[str]:
        return files_below(self.folder) if self.folder else []

    def digest(self) -> str:
        if self.folder:
            return self.identity()
        digest = hashlib.sha256(self.identity().encode())
        for values in self.load_model().network.get_weights():
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]


def in_precision(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Decorator of an encoder's `build`: its layers compute with the policy `self.precision`.

    With it begins what a process has to do with TensorFlow, and so it sets its threads too.
    """

    @functools.wraps(build)
    def wrapped(self: Any) -> Any:
        import keras
        import tensorflow as tf

        # `for_each` keeps so few processors busy with calls side by side.
        limit_threads(tf)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.precision)
        try:
            return build(self)
        finally:
            keras.config.set_dtype_policy(before)

    return wrapped


def import_keras_hub() -> Any:
    """The `keras_hub` module.

    Raises:
        ConfigError: with the pip line, if it is not installed.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise ConfigError(
            f"The `keras_hub` encoders need Keras Hub ({error}). Run: pip install keras-hub"
        ) from None
    return keras_hub


def from_preset(load: Callable[[str], Any], preset: str, key: str) -> Any:
    """Call a Keras Hub `from_preset`, with an error that names the configuration key.

    Raises:
        ConfigError: if the preset is unknown, incomplete or of another kind.
    """
    try:
        return load(preset)
    except PRESET_ERRORS as error:
        raise unloadable(preset, key, error) from error


def unloadable(preset: str, key: str, error: Exception) -> ConfigError:
    """The error for a preset that cannot be loaded."""
    reason = str(error).strip().split("\n")[0]
    return ConfigError(f"`{key}`: cannot load the preset {preset!r}. {reason}")


def has_accelerator() -> bool:
    """Whether Keras sees a GPU or a TPU."""
    import keras

    return any(keras.distribution.list_devices(kind) for kind in ("gpu", "tpu"))


def predict(
    run: Callable[[Any], Any],
    inputs: dict[str, np.ndarray] | np.ndarray,
    fixed_rows: int | None = None,
) -> np.ndarray:
    """Run a network on one batch.

    Args:
        run: Function from a batch to an array of vectors.
        inputs: The batch; every array has one row per vector.
        fixed_rows: Number of rows that `run` shall see, the missing ones repeating the
            last: XLA compiles every shape anew. None leaves the batch as it is.

    Returns:
        float32 array with as many rows as `inputs`.
    """
    columns = inputs if isinstance(inputs, dict) else {"": inputs}
    count = len(next(iter(columns.values())))
    if fixed_rows is not None and count < fixed_rows:
        rows = np.minimum(np.arange(fixed_rows), count - 1)
        columns = {name: values[rows] for name, values in columns.items()}
    outputs = run(columns if isinstance(inputs, dict) else columns[""])
    return np.asarray(outputs).astype(np.float32)[:count]


def _with_constant_weights(
    network: Any, preprocess: Callable[[Any], Any]
) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    trainable = [weights.numpy() for weights in network.trainable_variables]
    others = [weights.numpy() for weights in network.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec(network.input_shape, tf.uint8)])
    def run(pictures: Any) -> Any:
        weights = [[tf.constant(w) for w in group] for group in (trainable, others)]
        inputs = preprocess(tf.cast(pictures, tf.float32))
        return network.stateless_call(*weights, inputs, training=False)[0]

    return run


def for_each(function: Callable[[Any], None], calls: Iterable[Any], spare: int = 0) -> None:
    """Call a function on every element, one thread per processor, eight at most.

    Calls of a network side by side use a processor better than one call spread over
    all of them, whose layers are too small to be cut up. Which thread makes a call
    does not change its result.

    Args:
        function: Function to call.
        calls: Its arguments, one after the other.
        spare: Threads beyond that, for calls that do more than call the network.
    """
    with ThreadPoolExecutor(_num_threads() + spare) as pool:
        for _ in pool.map(function, calls):
            pass


def _num_threads() -> int:
    return min(os.cpu_count() or 1, _MOST_THREADS)
