"""Layers whose configuration is what their constructor took."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras


class ConfiguredLayer(keras.layers.Layer):
    """A layer that keeps every argument of its constructor in an attribute of the same name.

    `get_config` reads them there, those of its base classes too. A subclass adds to the result
    what it keeps in another form.
    """

    def get_config(self) -> dict:
        config, kept = super().get_config(), vars(self)
        for kind in type(self).__mro__:
            if issubclass(kind, ConfiguredLayer) and "__init__" in vars(kind):
                # Not a set: files of equal models shall be equal.
                for name in filter(kept.__contains__, inspect.signature(kind.__init__).parameters):
                    value = kept[name]
                    config[name] = list(value) if isinstance(value, tuple) else value
        return config


def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, from its `locals()` as it begins."""
    return {k: v for k, v in values.items() if k not in ("self", "kwargs", "__class__")}
