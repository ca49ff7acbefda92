"""What learns beside frozen encoders: from the states of an item to its vector."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
from keras import ops

from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.layers.seeded_dense import seeded_dense
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.layers.side_levels import SideLevels
from kdsr_tf.layers.side_towers import JointSideTower, SideTower
from kdsr_tf.types import Tensor

INTRA, INTER = TOWERS = ("intra", "inter")
HEADS = ("merged", "paper")


class SideOptions(NamedTuple):
    """How a side network is built.

    Attributes:
        towers: `intra`, a tower per modality; `inter`, one over both modalities; or both. None
            is all that the modalities allow.
        hidden: Units of an adapter, > 0.
        activation: Activation of an adapter.
        gate_temperature: Divisor of θ in a gate, > 0; gates learn faster the smaller it is.
        first: What enters the first adapter of a modality; see `SideTower`.
        normalise: See `SideLevels`.
        head: What makes the vector of an item from the ends of towers, a linear map in both
            cases: `merged`, one matrix per tower; `paper`, two per tower and one over all.
        width: Width that all levels are mapped to. None keeps the levels of an encoder that are
            of one width, and maps those of an encoder with several to the width of the result.
        dtl_rank: Inner width of the maps of the wider encoder; see `JointSideTower`.
    """

    towers: tuple[str, ...] | None = None
    hidden: int = 64
    activation: str = "relu"
    gate_temperature: float = 0.1
    first: str = "gated"
    normalise: str = "level"
    head: str = "merged"
    width: int | None = None
    dtl_rank: int | None = None


@keras.saving.register_keras_serializable(package="kdsr_tf")
class SideNetwork(ConfiguredLayer):
    """Vectors of items from the states of their frozen encoders (IISAN-Versa).

    Per modality m the end of its `SideTower` and, with two modalities, that of the
    `JointSideTower` become z of width `dim`; the vector of an item is a linear map of all z.
    Nothing behind the last adapter is non-linear.

    An item without a modality has a learnt vector in place of its z; see `JointSideTower` for
    what the inter-modal tower makes of it.

    Args:
        dim: Size of the result, > 0.
        sizes: Per modality, the width of every level; see `SideLevels`.
        options: How it is built, a `SideOptions` or its values by name; None for the defaults.
        modality_dropout: Share of the items with two modalities that lose one of them in a
            training step, each with the same probability, in [0, 1).
        seed: Seed of all weights and of that dropout.

    Call arguments:
        states: Per modality, floats `(batch, sum of its sizes)`.
        present: Per modality, which items have it, bools `(batch,)`.
        training: Whether modalities are dropped.

    Returns:
        `item`: floats `(batch, dim)`; and, with intra-modal towers, z per modality,
        `(batch, dim)`, whatever is dropped: other objectives read it.

    Raises:
        ValueError: for unknown towers or another head, and for an inter-modal tower without two
            modalities.

    Example:
        >>> import numpy as np
        >>> network = SideNetwork(4, {"text": (3, 3)})
        >>> found = network({"text": np.ones((5, 6), "float16")}, {"text": np.ones(5, bool)})
        >>> {name: tuple(vectors.shape) for name, vectors in found.items()}
        {'text': (5, 4), 'item': (5, 4)}

    Reference:
        - [IISAN, arXiv 2404.02059](https://arxiv.org/abs/2404.02059)
        - [IISAN-Versa, arXiv 2411.02992](https://arxiv.org/abs/2411.02992)
    """

    ITEM = "item"

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, Sequence[int]],
        options: SideOptions | Mapping | None = None,
        modality_dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if not isinstance(options, SideOptions):
            options = SideOptions(**(options or {}))
        self.dim = dim
        self.sizes = {modality: tuple(levels) for modality, levels in sizes.items()}
        towers = None if options.towers is None else tuple(options.towers)
        self.options = options._replace(towers=towers)
        self.modality_dropout = modality_dropout
        self.seed = seed
        self.towers = _towers(options.towers, tuple(self.sizes))
        if options.head not in HEADS:
            raise ValueError(
                f"`head` must be one of {', '.join(HEADS)}. Received: head={options.head!r}."
            )
        self._draws = keras.random.SeedGenerator(derive_seed(seed, "modality_dropout"))

    def build(self, *shapes) -> None:
        options, policy = self.options, self.dtype_policy
        shared = {key: getattr(options, key) for key in ("hidden", "activation")}
        shared |= {"gate_temperature": options.gate_temperature, "dtype": policy}
        self.levels, self.intra, self._absent, ends = {}, {}, {}, {}
        for m, sizes in self.sizes.items():
            width = options.width or (sizes[0] if len(set(sizes)) == 1 else self.dim)
            seed = derive_seed(self.seed, m)
            self.levels[m] = SideLevels(
                sizes, width, options.normalise, seed, dtype=policy, name=f"{m}_levels"
            )
            self.levels[m].build()
            if INTRA in self.towers:
                self.intra[m] = SideTower(
                    len(sizes), width, options.first, seed=seed, name=f"{m}_tower", **shared
                )
                self.intra[m].build()
                self._absent[m] = self.add_weight(
                    shape=(self.dim,), initializer="zeros", name=f"{m}_absent"
                )
                ends[m] = width
        self.inter = None
        if INTER in self.towers:
            self.inter = JointSideTower(
                [len(sizes) for sizes in self.sizes.values()],
                [levels.width for levels in self.levels.values()],
                options.dtl_rank,
                seed=derive_seed(self.seed, INTER),
                name="inter_tower",
                **shared,
            )
            self.inter.build()
            ends[INTER] = self.inter.width
        self._add_head(ends)
        self.built = True

    def call(
        self,
        states: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        kept = present
        if training and self.modality_dropout and len(self.sizes) > 1:
            kept = self._drop(present)
        levels = {m: layer(states[m]) for m, layer in self.levels.items()}
        found, parts = {}, []
        for m, tower in self.intra.items():
            z = self._projected(m, tower(levels[m]))
            absent = ops.cast(self._absent[m], z.dtype)
            found[m] = ops.where(present[m][:, None], z, absent)
            parts.append(ops.where(kept[m][:, None], z, absent))
        if self.inter is not None:
            joint = self.inter(*levels.values(), *(kept[m] for m in levels))
            parts.append(self._projected(INTER, joint))
        if self._join is None:
            item = sum(parts) + ops.cast(self._bias, parts[0].dtype)
        else:
            item = self._join(ops.concatenate(parts, axis=-1))
        return {**found, self.ITEM: item}

    def adapter_variables(self) -> list[keras.Variable]:
        """The weights of all adapters, which the paper trains at a rate of their own."""
        towers = [*self.intra.values(), *([] if self.inter is None else [self.inter])]
        adapters = [adapter for tower in towers for adapter in tower.adapters]
        return [variable for adapter in adapters for variable in adapter.trainable_variables]

    def get_config(self) -> dict:
        sizes = {modality: list(levels) for modality, levels in self.sizes.items()}
        return {**super().get_config(), "sizes": sizes, "options": self.options._asdict()}

    def _add_head(self, ends: Mapping[str, int]) -> None:
        """The maps from the ends of the towers, of given widths, to the vector of an item."""
        merged = self.options.head == "merged"
        self._maps = {}
        for name, width in ends.items():
            inner = width if name == INTER else self.dim
            units = [self.dim] if merged else [inner, self.dim]
            # Scores begin with a variance of about 1 where levels have one: the joint tower adds
            # its levels up. Otherwise the first epochs would only unlearn how sure they are.
            small = functools.partial(
                keras.initializers.RandomNormal,
                stddev=(width * self.dim) ** -0.5
                / (min(map(len, self.sizes.values())) if name == INTER else 1),
            )
            start = small if merged else keras.initializers.GlorotUniform
            self._maps[name] = [
                seeded_dense(self, f"{name}_head_{k}", count, start, use_bias=not merged)
                for k, count in enumerate(units)
            ]
            for layer, size in zip(self._maps[name], [width, inner], strict=False):
                layer.build((None, size))
        self._join = None
        if merged:
            self._bias = self.add_weight(shape=(self.dim,), initializer="zeros", name="bias")
        else:
            self._join = seeded_dense(self, "join", self.dim)
            self._join.build((None, self.dim * len(ends)))

    def _projected(self, name: str, states: Tensor) -> Tensor:
        for layer in self._maps[name]:
            states = layer(states)
        return states

    def _drop(self, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first, second = present
        place = keras.random.uniform(ops.shape(present[first]), seed=self._draws)
        both = ops.logical_and(present[first], present[second])
        half = self.modality_dropout / 2
        dropped = {
            first: place < half,
            second: ops.logical_and(place >= half, place < self.modality_dropout),
        }
        return {
            m: ops.logical_and(has, ops.logical_not(ops.logical_and(both, dropped[m])))
            for m, has in present.items()
        }


def _towers(towers: Sequence[str] | None, modalities: Sequence[str]) -> tuple[str, ...]:
    """The towers that are built."""
    if towers is None:
        return TOWERS if len(modalities) == len(TOWERS) else (INTRA,)
    unknown = [name for name in towers if name not in TOWERS]
    if unknown or not towers:
        raise ValueError(
            f"`towers` must be some of {', '.join(TOWERS)}. Received: towers={list(towers)}."
        )
    if INTER in towers and len(modalities) != len(TOWERS):
        raise ValueError(
            "The `inter` tower needs two modalities. Received: "
            f"{', '.join(modalities) or 'none'}. Leave it out of `towers` (side.towers), or "
            "give another encoder."
        )
    return tuple(towers)
