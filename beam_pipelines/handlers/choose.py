"""From the configuration to an encoder."""

from __future__ import annotations

from beam_pipelines.handlers.encoder import Encoder
from kdsr_tf.config import Config, ImageEncoderConfig, TextEncoderConfig
from kdsr_tf.errors import ConfigError
from kdsr_tf.sources import Source


def choose_encoder(config: Config, modality: str, source: Source, num_items: int) -> Encoder:
    """The encoder that `encode.<modality>` describes.

    Args:
        config: The configuration, with a section for the modality.
        modality: `image` or `text`.
        source: The user's data; read for `precomputed` vectors only.
        num_items: Items to encode, which decides whether compiling pays.

    Raises:
        ConfigError: for a missing preset or weights file.
        InputError: for a missing column of vectors.
    """
    section = getattr(config.encode, modality)
    if section.encoder == "precomputed":
        from beam_pipelines.handlers.precomputed import precomputed_encoder

        return precomputed_encoder(source, section.column, f"encode.{modality}.column")
    if modality == "text":
        return _text_encoder(section, num_items)
    return _image_encoder(section)


def _text_encoder(section: TextEncoderConfig, num_items: int) -> Encoder:
    if section.encoder == "embedded":
        from beam_pipelines.handlers.embedded_text import EmbeddedTextEncoder

        return EmbeddedTextEncoder(section.dim, section.batch_size)
    from beam_pipelines.handlers.keras_hub_text import XLA_ITEMS, KerasHubTextEncoder

    return KerasHubTextEncoder(
        _preset(section.preset, "encode.text.preset"),
        pooling=section.pooling,
        max_tokens=section.max_tokens,
        batch_size=section.batch_size,
        xla=num_items >= XLA_ITEMS,
    )


def _image_encoder(section: ImageEncoderConfig) -> Encoder:
    pictures = {
        "image_size": section.image_size,
        "max_pixels": section.max_pixels,
        "batch_size": section.batch_size,
    }
    if section.encoder == "embedded":
        from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder

        return EmbeddedImageEncoder(**pictures)
    if section.encoder == "keras_applications":
        from beam_pipelines.handlers.keras_applications import KerasApplicationsEncoder

        return KerasApplicationsEncoder(
            section.model, section.weights, section.arguments, **pictures
        )
    from beam_pipelines.handlers.keras_hub_image import KerasHubImageEncoder

    return KerasHubImageEncoder(_preset(section.preset, "encode.image.preset"), **pictures)


def _preset(preset: str | None, key: str) -> str:
    if preset is None:
        raise ConfigError(
            f"`{key}` must be set for the `keras_hub` encoder: a preset name or a local folder. "
            "Received: None."
        )
    return preset
