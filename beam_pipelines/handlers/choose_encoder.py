"""From the configuration to an encoder."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from beam_pipelines.handlers.encoder import Encoder, ImageEncoder, TextEncoder
from beam_pipelines.handlers.hidden_states import StateChoice
from kdsr_tf.class_paths import import_subclass
from kdsr_tf.config import Config, ImageEncoderConfig, TextEncoderConfig
from kdsr_tf.errors import ConfigError
from kdsr_tf.sources import Source

E = TypeVar("E", bound=Encoder)


def choose_encoder(config: Config, modality: str, source: Source) -> Encoder:
    """The encoder that `encode.<modality>` describes.

    Args:
        config: The configuration, with a section for the modality.
        modality: `image` or `text`.
        source: The user's data; read for `precomputed` vectors only.

    Raises:
        ConfigError: for a missing preset or weights file, a class of one's own
            that cannot be used, or states of an encoder that has none.
        InputError: for a missing column of vectors.
    """
    section = getattr(config.encode, modality)
    encoder = _encoder(section, modality, source)
    if section.states is not None:
        encoder.chosen = StateChoice.of(section.states, f"encode.{modality}.states")
        if type(encoder).states is Encoder.states:
            encoder.states(None)  # refuses them, before anything is loaded
    return encoder


def _encoder(
    section: TextEncoderConfig | ImageEncoderConfig, modality: str, source: Source
) -> Encoder:
    if section.encoder == "precomputed":
        from beam_pipelines.handlers.precomputed import precomputed_encoder

        return precomputed_encoder(source, section.column, f"encode.{modality}.column")
    if isinstance(section, TextEncoderConfig):
        return _text_encoder(section)
    encoder = _image_encoder(section)
    encoder.folders = source.image_folders
    return encoder


def _text_encoder(section: TextEncoderConfig) -> Encoder:
    if section.encoder == "embedded":
        from beam_pipelines.handlers.embedded_text import EmbeddedTextEncoder

        return EmbeddedTextEncoder(section.dim, section.batch_size)
    if section.encoder == "custom":
        return _custom(section, "text", TextEncoder, {"batch_size": section.batch_size})
    from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder

    return KerasHubTextEncoder(
        _preset(section.preset, "encode.text.preset"),
        pooling=section.pooling,
        max_tokens=section.max_tokens,
        batch_size=section.batch_size,
        precision=section.precision,
    )


def _image_encoder(section: ImageEncoderConfig) -> ImageEncoder:
    pictures: dict[str, Any] = {
        "image_size": section.image_size,
        "max_pixels": section.max_pixels,
        "batch_size": section.batch_size,
    }
    if section.encoder == "embedded":
        from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder

        return EmbeddedImageEncoder(**pictures)
    if section.encoder == "custom":
        return _custom(section, "image", ImageEncoder, pictures)
    pictures["precision"] = section.precision
    if section.encoder == "keras_applications":
        from beam_pipelines.handlers.keras_applications import KerasApplicationsEncoder

        return KerasApplicationsEncoder(
            section.model, section.weights, section.arguments, **pictures
        )
    from beam_pipelines.handlers.keras_hub_image import KerasHubImageEncoder

    return KerasHubImageEncoder(
        _preset(section.preset, "encode.image.preset"), section.pooling, **pictures
    )


def _custom(
    section: TextEncoderConfig | ImageEncoderConfig,
    modality: str,
    base: type[E],
    common: dict[str, Any],
) -> E:
    """An encoder of the user's own, from the dotted path of its class."""
    key, path = f"encode.{modality}.class_name", section.class_name
    try:
        found = import_subclass(str(path), base)
    except ValueError as error:
        raise ConfigError(f"`{key}`: {error}") from error
    arguments = {**common, **section.arguments}
    try:
        inspect.signature(found).bind(**arguments)
        encoder = found(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"`encode.{modality}.arguments`: {path} refuses {arguments}: {error}."
        ) from error
    encoder.origin = {"class_name": path, "arguments": section.arguments}
    return encoder


def _preset(preset: str | None, key: str) -> str:
    if preset is None:
        raise ConfigError(
            f"`{key}` must be set for the `keras_hub` encoder: a preset name or a local folder. "
            "Received: None."
        )
    return preset
