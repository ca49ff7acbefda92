"""All backbones by name, and those of one's own by the path of their class."""

from __future__ import annotations

import inspect

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.class_paths import import_subclass
from kdsr_tf.config.backbone_rules import BACKBONE_RULES, check_name, check_option

BACKBONES: dict[str, type[Backbone]] = {
    name: import_subclass(rules.path, Backbone) for name, rules in BACKBONE_RULES.items()
}
"""Names in a configuration and their classes."""


def create_backbone(key: str, options: dict | None = None, **arguments) -> Backbone:
    """A backbone by name.

    Args:
        key: Key of `BACKBONES`, or the dotted path of a subclass of `Backbone`.
        options: Arguments that only this backbone has.
        **arguments: Arguments that every backbone has (see `Backbone`).

    Raises:
        ValueError: for an unknown name or option; the message lists valid ones.
    """
    backbone = find_backbone(key)
    for option in options or {}:
        check_option(key, option, own_options(key))
    return backbone(**arguments, **(options or {}))


def find_backbone(key: str) -> type[Backbone]:
    """The class of a key of `BACKBONES`, or of a path such as `my_backbones.MeanOfHistory`.

    Raises:
        ValueError: for an unknown name, or a path that leads to no such class.
    """
    if key in BACKBONES:
        return BACKBONES[key]
    check_name(key)
    try:
        return import_subclass(key, Backbone)
    except ValueError as error:
        raise ValueError(f"`backbone`: {error}") from error


def own_options(key: str) -> set[str]:
    """Names of the arguments that only this backbone has."""
    own = set(inspect.signature(find_backbone(key).__init__).parameters)
    return own - {"self", "args", "kwargs", *inspect.signature(Backbone.__init__).parameters}
