"""Every backbone by name: its class, and what a configuration may say of it.

Configurations are checked without importing Keras, so a class is named by its path here;
`kdsr_tf.backbones.catalogue` imports it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import Any, Literal

import pydantic

from kdsr_tf.config.section import NonNegativeFloat, PositiveFloat
from kdsr_tf.rules import check_heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneRules:
    """Rules of one backbone.

    Args:
        path: Dotted path of its class.
        options: Types of the arguments that only this backbone has; their defaults
            stand in its class.
        uses_heads: Whether `num_heads` must divide `dim`.
        needs_modalities: Whether it cannot go without modality tables.
    """

    path: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    uses_heads: bool = True
    needs_modalities: bool = False


BACKBONE_RULES = {
    "dif_sr": BackboneRules(
        path="kdsr_tf.backbones.dif_sr.DIFSR", options={"attribute_weight": NonNegativeFloat}
    ),
    "gru4rec": BackboneRules(path="kdsr_tf.backbones.gru4rec.GRU4Rec", uses_heads=False),
    "mmsr": BackboneRules(
        path="kdsr_tf.backbones.mmsr.MMSR",
        options={"graph": Literal["heterogeneous", "ids_only"]},
        uses_heads=False,
    ),
    "mmsrec": BackboneRules(
        path="kdsr_tf.backbones.mmsrec.MMSRec",
        options={"contrast_weight": NonNegativeFloat, "contrast_temperature": PositiveFloat},
    ),
    "nova": BackboneRules(
        path="kdsr_tf.backbones.nova.NOVA",
        options={"fusion": Literal["add", "concat", "gating"]},
    ),
    "sasrec": BackboneRules(path="kdsr_tf.backbones.sasrec.SASRec"),
    "sasrm": BackboneRules(path="kdsr_tf.backbones.sasrm.SASRM", needs_modalities=True),
    "sr_gnn": BackboneRules(path="kdsr_tf.backbones.sr_gnn.SRGNN", uses_heads=False),
    "trans2d": BackboneRules(path="kdsr_tf.backbones.trans2d.Trans2D"),
}
"""Rules by the name of a backbone."""


def needs_modalities(name: str) -> bool:
    """Whether a backbone is known to need modality tables."""
    return name in BACKBONE_RULES and BACKBONE_RULES[name].needs_modalities


def check_name(name: str) -> None:
    """Refuse a name that is neither in `BACKBONE_RULES` nor the dotted path of a class."""
    if name in BACKBONE_RULES or "." in name:
        return
    near = difflib.get_close_matches(name, BACKBONE_RULES, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"`backbone` (model.backbone) must be one of {', '.join(BACKBONE_RULES)}, or the dotted "
        f"path of a class. Received: backbone={name!r}.{hint}"
    )


def check_option(name: str, option: str, valid: Collection[str]) -> None:
    """Refuse an option that a backbone does not have."""
    if option not in valid:
        raise ValueError(
            f"The backbone {name} has no option `{option}`. Its options: "
            f"{', '.join(sorted(valid)) or 'none'}."
        )


def check_backbone(name: str, dim: int, num_heads: int, options: Mapping[str, Any]) -> None:
    """Refuse what no backbone can be built from: a name, an option, its value, or the heads.

    A dotted path is left alone: the class checks its arguments when it is built.
    """
    check_name(name)
    if name not in BACKBONE_RULES:
        return
    rules = BACKBONE_RULES[name]
    if rules.uses_heads:
        check_heads(num_heads, dim)
    for option, value in options.items():
        check_option(name, option, rules.options)
        try:
            pydantic.TypeAdapter(rules.options[option]).validate_python(value)
        except pydantic.ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(
                f"`model.options.{option}` of the backbone {name} is wrong: {reason}. "
                f"Received: {option}={value!r}."
            ) from error
