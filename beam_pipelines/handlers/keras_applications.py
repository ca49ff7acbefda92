"""Image networks of `keras.applications`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

from beam_pipelines.handlers.fold_normalization import fold
from beam_pipelines.handlers.keras_models import (
    KerasImageEncoder,
    KerasImageModel,
    has_accelerator,
    in_precision,
)
from beam_pipelines.handlers.local_files import local_file
from kdsr_tf.errors import ConfigError

_WEIGHTS = "encode.image.weights"
_MODEL = "encode.image.model"


class KerasApplicationsEncoder(KerasImageEncoder):
    """A `keras.applications` network without its top, globally average-pooled.

    The network's own `preprocess_input` is applied.

    Args:
        model: Name in `keras.applications`, such as `MobileNetV2`.
        weights: Weights file (local path or URI) of the network without its top.
        arguments: Further arguments of the network, such as `{"alpha": 0.35}`.
        **pictures: Arguments of `KerasImageEncoder`.
    """

    name = "keras_applications"

    def __init__(
        self,
        model: str,
        weights: str | None,
        arguments: Mapping[str, Any] | None = None,
        **pictures: Any,
    ):
        super().__init__(**pictures)
        if weights is None:
            raise ConfigError(
                f"`{_WEIGHTS}` must be set for the `keras_applications` encoder: the weights "
                f"file of {model} without its top. Received: None."
            )
        self.model = model
        self.weights = weights
        local_file(weights, _WEIGHTS)
        self.arguments = dict(arguments or {})

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"model": self.model, "arguments": self.arguments}

    def files(self) -> list[str]:
        return [local_file(self.weights, _WEIGHTS)]

    @in_precision
    def build(self) -> KerasImageModel:
        import keras

        function = getattr(keras.applications, self.model, None)
        if not callable(function):
            names = sorted(n for n in dir(keras.applications) if n[0].isupper())
            raise ConfigError(
                f"`{_MODEL}`: keras.applications has no {self.model!r}. "
                f"Valid names: {', '.join(names)}."
            )
        shape = (self.image_size, self.image_size, 3)
        try:
            network = function(input_shape=shape, include_top=False, weights=None, **self.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"`encode.image.arguments` of {self.model}: {error}") from error
        try:
            with warnings.catch_warnings():
                # Keras only warns of layers the file has nothing for.
                warnings.filterwarnings("error", message="Skipping")
                network.load_weights(local_file(self.weights, _WEIGHTS))
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"`{_WEIGHTS}`: {self.weights} does not fit {self.model} with arguments "
                f"{self.arguments} and image_size {self.image_size}. {reason}"
            ) from error
        pooled = keras.layers.GlobalAveragePooling2D()(network.output)
        network = fold(keras.Model(network.input, pooled))
        # On a CPU, XLA makes depthwise convolutions slower.
        network.jit_compile = has_accelerator()
        preprocess = sys.modules[function.__module__].preprocess_input
        return KerasImageModel(network, preprocess)
