"""Which levels of an encoder are kept as states, and what is known of those kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from kdsr_tf.config import StatesConfig
from kdsr_tf.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class StateChoice:
    """The states to keep, as `encode.<modality>.states` says.

    Args:
        key: That configuration key, for errors.
        groups: Number K of groups of layers that keep their last one.
        layers: Levels to keep instead, rising, or None.
        pooling: `mean` or `cls`.
        dtype: `float16` or `float32`.
    """

    key: str
    groups: int
    layers: tuple[int, ...] | None
    pooling: str
    dtype: str

    @classmethod
    def of(cls, section: StatesConfig, key: str) -> StateChoice:
        """The choice of a section of the configuration."""
        layers = None if section.layers is None else tuple(section.layers)
        return cls(key, section.groups, layers, section.pooling, section.dtype)

    def kept(self, last: int, name: str) -> list[int]:
        """Levels to keep of an encoder with the levels `0..last`.

        Raises:
            ConfigError: if it has fewer, naming the encoder.
        """
        if self.layers is None:
            if self.groups > last:
                raise ConfigError(
                    f"`{self.key}.groups` must be at most the layers of the encoder. {name} has "
                    f"{last}. Received: {self.groups}. Set {self.key}.groups={last} or fewer."
                )
            return [0, *last_of_groups(last, self.groups)]
        if self.layers[-1] > last:
            raise ConfigError(
                f"`{self.key}.layers`: {name} has the levels 0 to {last}. "
                f"Received: {self.layers[-1]}. Leave it out."
            )
        return list(self.layers)

    def needs_class_token(self, has_one: bool, name: str) -> None:
        """Refuse `pooling: cls` of an encoder without a class token.

        Raises:
            ConfigError: naming the encoder.
        """
        if self.pooling == "cls" and not has_one:
            raise ConfigError(
                f"`{self.key}.pooling`: {name} has no class token that reads the whole content. "
                f"Received: cls. Set {self.key}.pooling=mean."
            )

    def give(self, layers: Sequence[int], sizes: Sequence[int]) -> States:
        """The states of some levels, by the width of each."""
        return States(tuple(layers), tuple(sizes), self.pooling, self.dtype)

    def refuse(self, name: str, reason: str) -> ConfigError:
        """The error for an encoder that has no states to give."""
        return ConfigError(
            f"`{self.key}`: {name} gives no states: {reason}. Set {self.key}=null, or choose "
            "another encoder."
        )


def last_of_groups(num_layers: int, groups: int) -> list[int]:
    """Last layers of `groups` groups of `num_layers` layers, from the end in equal steps.

    Reproduces every list of layers that is published for IISAN-Versa (arXiv 2411.02992), which
    gives no formula; the first group takes the layers that are left over.

    Args:
        num_layers: Layers L of the encoder.
        groups: Number K of groups, in `1..L`.

    Example:
        >>> last_of_groups(12, 6), last_of_groups(32, 6)
        ([2, 4, 6, 8, 10, 12], [2, 8, 14, 20, 26, 32])
    """
    step = (num_layers - 1) // (groups - 1) if groups > 1 else 0
    return [num_layers - (groups - 1 - group) * step for group in range(groups)]


@dataclasses.dataclass(frozen=True)
class States:
    """The states that an encoder gives: what the manifest says of them.

    Args:
        layers: Level of each, rising.
        sizes: Width of each.
        pooling: `mean` or `cls`.
        dtype: `float16` or `float32`.
    """

    layers: Sequence[int]
    sizes: Sequence[int]
    pooling: str
    dtype: str

    @property
    def size(self) -> int:
        """Numbers of all states together."""
        return sum(self.sizes)

    def described(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "layers": list(self.layers),
            "sizes": list(self.sizes),
            "pooling": self.pooling,
            "dtype": self.dtype,
        }
