"""What a configuration may say of each backbone, known without importing Keras.

`kdsr_tf.backbones.BACKBONES` holds the classes; a test keeps the two equal.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from kdsr_tf.config.section import NonNegativeFloat, PositiveFloat


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneRules:
    """Rules of one backbone.

    Args:
        options: Types of the arguments that only this backbone has; their defaults
            stand in its class.
        uses_heads: Whether `num_heads` must divide `dim`.
        needs_modalities: Whether it cannot go without modality tables.
    """

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    uses_heads: bool = True
    needs_modalities: bool = False


BACKBONE_RULES = {
    "dif_sr": BackboneRules(options={"attribute_weight": NonNegativeFloat}),
    "gru4rec": BackboneRules(uses_heads=False),
    "mmsr": BackboneRules(
        options={"graph": Literal["heterogeneous", "ids_only"]}, uses_heads=False
    ),
    "mmsrec": BackboneRules(
        options={"contrast_weight": NonNegativeFloat, "contrast_temperature": PositiveFloat}
    ),
    "nova": BackboneRules(options={"fusion": Literal["add", "concat", "gating"]}),
    "sasrec": BackboneRules(),
    "sasrm": BackboneRules(needs_modalities=True),
    "sr_gnn": BackboneRules(uses_heads=False),
    "trans2d": BackboneRules(),
}
"""Rules by the name of a backbone."""


def needs_modalities(name: str) -> bool:
    """Whether a backbone is known to be nothing without modality tables."""
    return name in BACKBONE_RULES and BACKBONE_RULES[name].needs_modalities


def check_backbone(name: str, dim: int, num_heads: int, options: Mapping[str, Any]) -> None:
    """Refuse what no backbone can be built from.

    A dotted path is left alone: the class checks its arguments when it is built.

    Args:
        name: `model.backbone`.
        dim: `model.dim`.
        num_heads: `model.num_heads`.
        options: `model.options`.

    Raises:
        ValueError: for an unknown name or option, an option's value, or heads that do
            not divide `dim`.
    """
    if name not in BACKBONE_RULES:
        if "." in name:
            return
        near = difflib.get_close_matches(name, BACKBONE_RULES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"`model.backbone` must be one of {', '.join(BACKBONE_RULES)}, or the dotted "
            f"path of a class. Received: model.backbone={name}.{hint}"
        )
    rules = BACKBONE_RULES[name]
    if rules.uses_heads and dim % num_heads:
        raise ValueError(
            "`model.num_heads` must divide `model.dim`. Received: "
            f"model.num_heads={num_heads}, model.dim={dim}."
        )
    for option, value in options.items():
        if option not in rules.options:
            raise ValueError(
                f"The backbone {name} has no option `{option}`. "
                f"Valid options: {', '.join(rules.options) or 'none'}."
            )
        try:
            pydantic.TypeAdapter(rules.options[option]).validate_python(value)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(
                f"`model.options.{option}` of the backbone {name} is wrong: {reason}. "
                f"Received: {option}={value!r}."
            ) from error
