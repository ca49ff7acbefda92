"""Image backbones of Keras Hub."""

from __future__ import annotations

from typing import Any

import numpy as np

from beam_pipelines.handlers.encoder import files_below, local_folder
from beam_pipelines.handlers.keras_models import (
    KerasImageEncoder,
    KerasImageModel,
    from_preset,
    has_accelerator,
    import_keras_hub,
    weights_digest,
)
from kdsr_tf.errors import ConfigError

_PRESET = "encode.image.preset"


class KerasHubImageEncoder(KerasImageEncoder):
    """A Keras Hub image backbone; maps are averaged over space, tokens over tokens.

    Args:
        preset: Preset name or local folder.
        image_size: Side of the backbone's input, in pixels.
        max_pixels: Pictures with more pixels are refused before decoding.
        batch_size: Pictures per call of the backbone, > 0.
    """

    name = "keras_hub_image"

    def __init__(
        self,
        preset: str,
        image_size: int = 224,
        max_pixels: int = 50_000_000,
        batch_size: int = 32,
    ):
        super().__init__(image_size, max_pixels, batch_size)
        self.folder = local_folder(preset, _PRESET)
        self.preset = self.folder or preset

    def parameters(self) -> dict[str, Any]:
        values = super().parameters()
        return values if self.folder else values | {"preset": self.preset}

    def files(self) -> list[str]:
        return files_below(self.folder) if self.folder else []

    def digest(self) -> str:
        if self.folder:
            return self.identity()
        return weights_digest([self.identity().encode(), *self.load_model().network.get_weights()])

    def build(self) -> KerasImageModel:
        import keras

        hub = import_keras_hub()
        backbone = from_preset(hub.models.Backbone.from_preset, self.preset, _PRESET)
        converter = from_preset(hub.layers.ImageConverter.from_preset, self.preset, _PRESET)
        converter.image_size = (self.image_size, self.image_size)
        states = backbone.output
        if isinstance(states, dict) or len(states.shape) not in (3, 4):
            raise ConfigError(
                f"`{_PRESET}`: {type(backbone).__name__} gives neither a feature map nor "
                "one sequence of tokens. Choose the preset of an image backbone."
            )
        axes = 1 if len(states.shape) == 3 else (1, 2)
        network = keras.Model(backbone.input, keras.ops.mean(states, axis=axes))
        expected = network.input_shape[1:3]
        if None not in expected and expected != (self.image_size, self.image_size):
            raise ConfigError(
                f"`encode.image.image_size`: the preset {self.preset!r} takes pictures of "
                f"{expected[0]} x {expected[1]}. Received: {self.image_size}."
            )
        network.jit_compile = has_accelerator()
        return KerasImageModel(network, lambda pictures: np.asarray(converter(pictures)))
