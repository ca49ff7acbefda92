"""What a configuration of `model.method: iisan` may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsr_tf.config.backbone_rules import needs_modalities

if TYPE_CHECKING:
    from kdsr_tf.config.root import Config

_UNUSED = ("modality_tables", "output", "last_item", "tied", "initial_std")
"""Keys of `model` that say something of tables, which the method has not."""


def check_side(config: Config) -> None:
    """Refuse what the method cannot be built from, or does not use.

    Raises:
        ValueError: saying what to set.
    """
    model, side = config.model, config.side
    if not config.modalities:
        raise ValueError(
            "`model.method=iisan` computes items from the states of encoders, and no modality has "
            "one. Set encode.text.encoder or encode.image.encoder, and its states."
        )
    for modality in config.modalities:
        if getattr(config.encode, modality).states is None:
            raise ValueError(
                f"`model.method=iisan` reads the states of the {modality} encoder, which are not "
                f"kept. Received: encode.{modality}.states=null. Set "
                f"encode.{modality}.states.groups=6, or leave out encode.{modality}."
            )
    for key in _UNUSED:
        value, unused = getattr(model, key), type(model).model_fields[key].default
        if value != unused:
            raise ValueError(
                f"`model.{key}` is about tables of modalities, which model.method=iisan has not. "
                f"Received: model.{key}={value}. Leave it out, or set model.method=kdsr."
            )
    if needs_modalities(model.backbone):
        raise ValueError(
            f"The backbone {model.backbone} reads the modalities of an item apart, and "
            "model.method=iisan makes one vector of them. Take model.backbone=sasrec."
        )
    if side.towers is not None and "inter" in side.towers and len(config.modalities) == 1:
        raise ValueError(
            "The `inter` tower needs two modalities. Received: "
            f"side.towers={side.towers} with an encoder for {config.modalities[0]} only. Set "
            "side.towers=null, or encoders for both."
        )
    if side.towers == []:
        raise ValueError("`side.towers` must name a tower. Received: []. Set it to null for all.")
    if config.train.lazy_tables and not side.ids:
        raise ValueError(
            "`train.lazy_tables` moves rows of tables, and without ids there is none. Received: "
            "train.lazy_tables=true with side.ids=false. Set train.lazy_tables=false."
        )
    _check_distillation(config)


def _check_distillation(config: Config) -> None:
    side = config.side
    if not side.distil:
        return
    if not config.distillation.enabled:
        raise ValueError(
            "`side.distil` learns what `distillation` says. Received: side.distil=true with "
            "distillation.enabled=false. Set both to true, or side.distil=false."
        )
    if side.towers is not None and "intra" not in side.towers:
        raise ValueError(
            "Distillation teaches the towers within modalities. Received: side.distil=true with "
            f"side.towers={side.towers}. Set side.towers=null, or side.distil=false."
        )
