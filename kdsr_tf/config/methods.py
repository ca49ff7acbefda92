"""What each method's training reads, known without importing Keras.

`kdsr_tf.methods` holds what the methods are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kdsr_tf.config.root import Config


class Needs(NamedTuple):
    """What training reads beside sequences.

    Attributes:
        teachers: Modalities whose teacher's vectors start a table.
        pairs: Modalities whose pairs are distilled.
        content: Modalities whose vectors a batch brings, because items are computed from them.
        states: Modalities whose states a batch brings, likewise.
        sections: Sections of the configuration that it reads beside `model` and `train`: a
            changed value there makes a student outdated.
        options: Keys of `train` that only some methods read and this one does; see `OPTIONS`.
        learning_rates: Rates of groups of variables that are not `train.learning_rate`.
        reads_few_rows: Whether a step reads few rows of its tables, though no negatives are
            drawn, so that `train.lazy_tables` needs none.
    """

    teachers: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    learning_rates: Mapping[str, float] = {}
    reads_few_rows: bool = False


OPTIONS = ("negatives", "label_smoothing")
"""Keys of `train` that a method refuses unless it names them among its `Needs.options`."""


def needs_of(config: Config) -> Needs:
    """What the method of a configuration reads; no stage runs for anything else."""
    return NEEDS[config.model.method](config)


def _needs_of_kdsr(config: Config) -> Needs:
    tables = config.modalities if config.model.modality_tables != "off" else ()
    pairs = tables if config.distillation.enabled else ()
    return Needs(teachers=tables, pairs=pairs, sections=("distillation",), options=OPTIONS)


def _needs_of_iisan(config: Config) -> Needs:
    pairs = config.modalities if config.side.distil else ()
    own = config.side.learning_rate
    return Needs(
        teachers=pairs,
        pairs=pairs,
        states=config.modalities,
        sections=("side", "distillation") if pairs else ("side",),
        learning_rates={} if own is None else {"side": own},
        reads_few_rows=config.side.ids,
    )


NEEDS = {"kdsr": _needs_of_kdsr, "iisan": _needs_of_iisan}
"""What training reads, by `model.method`."""
