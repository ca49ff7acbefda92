"""Image backbones of Keras Hub."""

from __future__ import annotations

import functools
from typing import Any

from beam_pipelines.handlers.hidden_states import StateChoice, States
from beam_pipelines.handlers.keras_models import (
    HubPreset,
    KerasImageEncoder,
    KerasImageModel,
    from_preset,
    has_accelerator,
    import_keras_hub,
    in_precision,
)
from beam_pipelines.handlers.network_states import with_states
from kdsr_tf.errors import ConfigError

_PRESET = "encode.image.preset"


class KerasHubImageEncoder(HubPreset, KerasImageEncoder):
    """A Keras Hub image backbone, with what the model itself takes for the picture's vector.

    `auto` is the projected image embedding of CLIP and SigLIP, the class token of
    transformers that have one (ViT, DeiT, DINOv2), the mean over positions of all
    others (ResNet and other convolutional networks, Swin). The text half of CLIP
    and SigLIP is left out of the network.

    Args:
        preset: Preset name or local folder (Keras Hub's or Hugging Face's format).
        pooling: `auto`; `mean` over the positions of a feature map or the patches of
            a transformer; `cls`, the class token.
        **pictures: Arguments of `KerasImageEncoder`.
    """

    name = "keras_hub_image"

    def __init__(self, preset: str, pooling: str = "auto", **pictures: Any):
        super().__init__(preset, _PRESET, **pictures)
        self.pooling = pooling

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {"pooling": self.pooling}

    @in_precision
    def build(self) -> KerasImageModel:
        import keras

        hub = import_keras_hub()
        shape = (self.image_size, self.image_size, 3)
        backbone = from_preset(hub.models.Backbone.from_preset, self.preset, _PRESET)
        if getattr(backbone, "position_embedding_shape", None) and backbone.image_shape != shape:
            # DINOv2 interpolates its position embeddings: it takes pictures of any size.
            load = functools.partial(hub.models.Backbone.from_preset, image_shape=shape)
            backbone = from_preset(load, self.preset, _PRESET)
        converter = from_preset(hub.layers.ImageConverter.from_preset, self.preset, _PRESET)
        if converter is None:
            raise ConfigError(
                f"`{_PRESET}`: Keras Hub does not read how {self.preset!r} scales its pictures. "
                "Choose a preset in Keras Hub's own format."
            )
        converter.image_size = shape[:2]
        images, vectors = self._pooled(backbone)
        expected = tuple(images.shape[1:3])
        if None not in expected and expected != shape[:2]:
            raise ConfigError(
                f"`encode.image.image_size`: the preset {self.preset!r} takes pictures of "
                f"{expected[0]} x {expected[1]}. Received: {self.image_size}."
            )
        network, states = keras.Model(images, vectors), None
        if self.chosen is not None:
            network, states = _with_states(network, backbone, self.chosen)
        network.jit_compile = has_accelerator()
        return KerasImageModel(network, converter, states)

    def _pooled(self, backbone: Any) -> tuple[Any, Any]:
        """The symbolic pictures a backbone takes, and their vectors."""
        images = backbone.input
        images = images.get("images") if isinstance(images, dict) else images
        if hasattr(backbone, "get_vision_embeddings"):
            if self.pooling == "auto":
                return images, backbone.get_vision_embeddings(images)
            backbone = backbone.vision_encoder
            images = backbone.input["images"]
        states = backbone.output
        if images is None or isinstance(states, dict) or len(states.shape) not in (2, 3, 4):
            raise ConfigError(
                f"`{_PRESET}`: {type(backbone).__name__} does not turn pictures alone into a "
                "feature map or one sequence of tokens. Choose the preset of an image backbone."
            )
        return images, self._pool(backbone, states)

    def _pool(self, backbone: Any, states: Any) -> Any:
        extra = _extra_tokens(backbone, states)
        if len(states.shape) == 2 and self.pooling == "auto":
            return states
        if extra and self.pooling in ("auto", "cls"):
            return states[:, 0]
        if self.pooling == "cls" or len(states.shape) == 2:
            has = "a single vector" if len(states.shape) == 2 else "no class token"
            raise ConfigError(
                f"`encode.image.pooling`: {type(backbone).__name__} gives {has}. "
                f"Received: {self.pooling}. Use auto."
            )
        return _mean_over_positions(states, extra)


def _with_states(network: Any, backbone: Any, chosen: StateChoice) -> tuple[Any, States]:
    """A network with states beside its vectors, and what they are."""
    backbone = getattr(backbone, "vision_encoder", backbone)

    def pool(level: Any, _: Any) -> Any:
        extra = _extra_tokens(backbone, level)
        chosen.needs_class_token(extra > 0, type(backbone).__name__)
        return level[:, 0] if chosen.pooling == "cls" else _mean_over_positions(level, extra)

    return with_states(network, backbone, chosen, pool)


def _mean_over_positions(states: Any, extra: int) -> Any:
    from keras import ops

    if len(states.shape) == 4:
        return ops.mean(states, axis=(1, 2))
    return ops.mean(states[:, extra:], axis=1)


def _extra_tokens(backbone: Any, states: Any) -> int:
    """Class and register tokens before the patches of a transformer."""
    patch = getattr(backbone, "patch_size", None)
    if len(states.shape) != 3 or patch is None:
        return 0
    if hasattr(backbone, "head"):
        # SigLIP has a head in place of a class token. Keras Hub 0.32 counts one all the same.
        return 0
    height, width = backbone.image_shape[:2]
    down, across = patch if isinstance(patch, (list, tuple)) else (patch, patch)
    # Swin merges patches: it has fewer tokens than patches, and no class token.
    return max(states.shape[1] - (height // down) * (width // across), 0)
