"""What the Keras encoders share: loading presets, running a model in batches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from beam_pipelines.handlers.encoder import ImageEncoder, Unusable
from kdsr_tf.errors import ConfigError

PRESET_ERRORS = (ValueError, OSError, KeyError, ImportError)
"""What Keras Hub raises for presets that are unknown, incomplete or of another kind."""


_LARGEST_CONSTANTS = 250_000_000
"""Weights above which a network's graph would come near TensorFlow's limit of 2 GB."""

_MOST_THREADS = 8
"""Calls of a network side by side: each holds the activations of a batch."""


@dataclasses.dataclass(frozen=True)
class KerasImageModel:
    """A network and what turns uint8-valued pictures into its input."""

    network: Any
    preprocess: Callable[[np.ndarray], np.ndarray]

    @functools.cached_property
    def run(self) -> Callable[[np.ndarray], Any]:
        """From preprocessed pictures to vectors.

        On a CPU the weights become constants of the graph, so that TensorFlow can fold
        batch normalisations of presets into ordinary convolutions; `fold_batch_norms` has
        done so for `keras.applications`, whose time constants do not change.
        """
        if self.network.jit_compile or self.network.count_params() > _LARGEST_CONSTANTS:
            return self.network.predict_on_batch
        return _with_constant_weights(self.network)


class KerasImageEncoder(ImageEncoder):
    """Base of image encoders that run a Keras network in batches.

    Args:
        image_size: Side of the network's input, in pixels.
        max_pixels: Pictures with more pixels are refused before decoding.
        batch_size: Pictures per call of the network, > 0.
        precision: Keras dtype policy: `float32`, `mixed_float16` or `mixed_bfloat16`.
    """

    def __init__(
        self,
        image_size: int = 224,
        max_pixels: int = 50_000_000,
        batch_size: int = 32,
        precision: str = "float32",
    ):
        super().__init__(image_size, max_pixels, batch_size)
        self.precision = precision

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"precision": self.precision}

    def size(self, model: KerasImageModel) -> int:
        return int(model.network.output_shape[-1])

    def encode(self, batch: Sequence[np.ndarray], model: KerasImageModel) -> np.ndarray:
        vectors = np.empty((len(batch), self.size(model)), np.float32)

        def run(start: int) -> None:
            rows = slice(start, start + self.batch_size)
            vectors[rows] = self._call(batch[rows], model)

        self._for_each_call(run, batch, model)
        return vectors

    def run_inference(
        self,
        batch: Sequence[str],
        model: KerasImageModel,
        inference_args: dict[str, Any] | None = None,
    ) -> list[np.ndarray | Unusable]:
        """Each picture's vector, or why it has none.

        The next pictures are read and decoded while the network has the ones before.
        """
        found: list[Any] = [None] * len(batch)
        with self.preparing(batch) as prepared:

            def run(start: int) -> None:
                rows = slice(start, start + self.batch_size)
                found[rows] = self._encoded([e.result() for e in prepared[rows]], model)

            self._for_each_call(run, batch, model)
        return found

    def _for_each_call(
        self, run: Callable[[int], None], batch: Sequence[Any], model: KerasImageModel
    ) -> None:
        _ = model.run  # Built once, before the threads begin.
        for_each(run, range(0, len(batch), self.batch_size))

    def _call(self, pictures: Sequence[np.ndarray], model: KerasImageModel) -> np.ndarray:
        """Vectors of `batch_size` pictures or fewer."""
        inputs = model.preprocess(np.stack(pictures).astype(np.float32))
        return predict(model.run, inputs, self.batch_size if model.network.jit_compile else None)


def in_precision(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Decorator of an encoder's `build`: its layers compute with the policy `self.precision`."""

    @functools.wraps(build)
    def wrapped(self: Any) -> Any:
        import keras

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
        run: From a batch to an array of vectors.
        inputs: The batch; every array has one row per vector.
        fixed_rows: Number of rows that `run` shall see, the missing ones repeating the
            last: XLA compiles every shape anew. None leaves the batch as it is.

    Returns:
        float32 array with as many rows as `inputs`.
    """
    single = not isinstance(inputs, dict)
    columns = {"": inputs} if single else inputs
    count = len(next(iter(columns.values())))
    if fixed_rows is not None and count < fixed_rows:
        rows = np.minimum(np.arange(fixed_rows), count - 1)
        columns = {name: values[rows] for name, values in columns.items()}
    outputs = run(columns[""] if single else columns)
    return np.asarray(outputs).astype(np.float32)[:count]


def _with_constant_weights(network: Any) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    trainable = [weights.numpy() for weights in network.trainable_variables]
    others = [weights.numpy() for weights in network.non_trainable_variables]

    @tf.function(reduce_retracing=True)
    def run(inputs: Any) -> Any:
        weights = [[tf.constant(w) for w in group] for group in (trainable, others)]
        return network.stateless_call(*weights, inputs, training=False)[0]

    return run


def for_each(function: Callable[[Any], None], calls: Iterable[Any]) -> None:
    """Call a function on every element, one thread per processor, eight at most.

    Calls of a network side by side use a processor better than one call spread over
    all of them, whose layers are too small to be cut up. Which thread makes a call
    does not change its result.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for _ in pool.map(function, calls):
            pass


def weights_digest(weights: Sequence[np.ndarray]) -> str:
    """Hash of a model's weights, for presets known by name instead of by folder."""
    digest = hashlib.sha256()
    for values in weights:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]
