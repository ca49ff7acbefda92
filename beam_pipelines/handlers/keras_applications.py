"""Image networks of `keras.applications`."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from beam_pipelines.handlers.fold_normalization import fold
from beam_pipelines.handlers.hidden_states import StateChoice, States
from beam_pipelines.handlers.keras_models import (
    KerasImageEncoder,
    KerasImageModel,
    has_accelerator,
    in_precision,
)
from beam_pipelines.handlers.local_files import local_file
from kdsr_tf.errors import ConfigError
from kdsr_tf.keras_internals import inputs_of

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
        states = None
        if self.chosen is not None:
            pooled, states = _with_states(network, pooled, self.model, self.chosen)
        network = fold(keras.Model(network.input, pooled))
        # On a CPU, XLA makes depthwise convolutions slower.
        network.jit_compile = has_accelerator()
        preprocess = sys.modules[function.__module__].preprocess_input
        return KerasImageModel(network, preprocess, states)


def _with_states(network: Any, vectors: Any, name: str, chosen: StateChoice) -> tuple[Any, States]:
    """The vectors with the kept stages, pooled, beside them, and what those are."""
    import keras

    chosen.needs_class_token(False, name)
    stages = ends_of_stages(network)
    kept = chosen.kept(len(stages) - 1, name)
    average = keras.layers.GlobalAveragePooling2D(dtype="float32")
    last = len(stages) - 1
    pooled = [vectors if level == last else average(stages[level]) for level in kept]
    columns = [keras.ops.cast(column, "float32") for column in (vectors, *pooled)]
    states = chosen.give(kept, [column.shape[-1] for column in pooled])
    return keras.ops.concatenate(columns, axis=-1), states


def ends_of_stages(network: Any) -> list[Any]:
    """The feature maps that end the stages of a network of `keras.applications`.

    A stage of a residual network ends with its last sum of one shape; what its first
    activation gives comes before them, if it is larger. Of a network without sums, a stage ends
    with the last map of one size. The output of the network comes last.

    Args:
        network: Functional `keras.Model` from pictures to a feature map, channels last.

    Returns:
        Symbolic tensors `[batch, height, width, channels]`, from the picture on.
    """
    import keras

    maps = [o for o in network.operations if len(getattr(o.output, "shape", ())) == 4]
    # Of two maps: `x + 3` is a sum of one.
    added = (o for o in maps if type(o).__name__ == "Add" and len(inputs_of(o)[0]) > 1)
    sums = {o.output.shape: o.output for o in added}
    if sums:
        height = next(iter(sums))[1]
        activations = (keras.layers.ReLU, keras.layers.Activation)
        early = (o.output for o in maps if isinstance(o, activations))
        stages = [first for first in itertools.islice(early, 1) if first.shape[1] > height]
        stages += sums.values()
    else:
        left_out = (keras.layers.InputLayer, keras.layers.ZeroPadding2D)
        shown = (o.output for o in maps if not isinstance(o, left_out))
        stages = list({output.shape[1:3]: output for output in shown}.values())
    last = network.output
    is_last = stages[-1].shape == last.shape if sums else stages[-1].shape[1:3] == last.shape[1:3]
    return [*(stages[:-1] if is_last else stages), last]
