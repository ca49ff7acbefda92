"""Asynchronous training: one learning rate per group of variables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import keras
from keras import ops

from kdsr_tf.errors import ConfigError
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.training.grouped_optimizer import GroupAdam, GroupedOptimizer
from kdsr_tf.types import Tensor

DECAYS = ("none", "linear", "cosine")
T = TypeVar("T")

REST = "rest"

PerGroup: TypeAlias = Mapping[str, T] | T
"""A value for all groups, or one per group."""


class Groups(dict[str, list[keras.Variable]]):
    """Trainable variables by group.

    Attributes:
        slow: Names of the groups that start slowly; see `ItemEncoder.slow_groups`.
    """

    slow: Sequence[str] = ()


def variable_groups(model: TrainingModel) -> Groups:
    """The groups that learn at their own rates; together all trainable variables, each once.

    Those of the item encoder (`ItemEncoder.variable_groups`), such as `modality_tables`;
    `rest` holds everything else.

    Raises:
        ConfigError: if a group matches no variable.
    """
    trainable = model.trainable_variables
    own = model.recommender.item_encoder.variable_groups()
    members = {name: {id(v) for v in variables} for name, variables in own.items()}
    groups = Groups((k, [v for v in trainable if id(v) in ids]) for k, ids in members.items())
    groups.slow = model.recommender.item_encoder.slow_groups
    grouped = set().union(*members.values())
    groups[REST] = [v for v in trainable if id(v) not in grouped]
    for name, variables in groups.items():
        if not variables:
            raise ConfigError(
                f"The group `{name}` of variables matches nothing: its learning rate would "
                f"never be used. Trainable variables: {', '.join(v.path for v in trainable)}."
            )
    return groups


@keras.saving.register_keras_serializable(package="kdsr_tf")
class GroupRate(keras.optimizers.schedules.LearningRateSchedule):
    """ε with warm-up, decay and a slow start, which multiply.

    Args:
        learning_rate: ε, > 0.
        warmup_steps: Steps over which the rate rises linearly to ε, >= 0: the first
            step learns at ε over this number.
        decay: After warm-up, to 0 at `total_steps`: `none`, `linear` or `cosine`.
        total_steps: Steps of the whole training; needed to decay.
        slow_start_steps: Steps until the factor of the slow start is 1, >= 0.
        slow_start_factor: That factor in the first step, > 0.

    Call arguments:
        step: Updates done before, a scalar.

    Raises:
        ValueError: for another decay, or one without `total_steps`.

    Example:
        >>> rate = GroupRate(0.1, warmup_steps=2, decay="linear", total_steps=6)
        >>> [round(float(rate(step)), 3) for step in range(7)]
        [0.05, 0.1, 0.1, 0.075, 0.05, 0.025, 0.0]
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_steps: int = 0,
        decay: str = "none",
        total_steps: int | None = None,
        slow_start_steps: int = 0,
        slow_start_factor: float = 0.1,
    ):
        super().__init__()
        if decay not in DECAYS:
            raise ValueError(
                f"`decay` must be one of {', '.join(DECAYS)}. Received: decay={decay!r}."
            )
        if decay != "none" and not total_steps:
            raise ValueError(f"`decay` needs `total_steps`. Received: decay={decay!r} without it.")
        self._config: dict[str, Any] = {
            "learning_rate": learning_rate,
            "warmup_steps": warmup_steps,
            "decay": decay,
            "total_steps": total_steps,
            "slow_start_steps": slow_start_steps,
            "slow_start_factor": slow_start_factor,
        }

    def __call__(self, step: Tensor) -> Tensor:
        config, step = self._config, ops.cast(step, "float32")
        warmup, slow = config["warmup_steps"], config["slow_start_steps"]
        rate = config["learning_rate"] * ops.ones_like(step)
        if warmup:
            rate = rate * ops.minimum((step + 1.0) / warmup, 1.0)
        if slow:
            first = config["slow_start_factor"]
            rate = rate * (first + (1.0 - first) * ops.minimum(step / slow, 1.0))
        if config["decay"] == "none":
            return rate
        done = ops.clip((step - warmup) / max(config["total_steps"] - warmup, 1), 0.0, 1.0)
        left = 1.0 - done if config["decay"] == "linear" else 0.5 + 0.5 * ops.cos(math.pi * done)
        return rate * left

    def get_config(self) -> dict:
        return dict(self._config)


def grouped_adam(
    groups: Groups,
    learning_rate: PerGroup[float],
    slow_start_steps: int = 0,
    slow_start_factor: float = 0.1,
    weight_decay: PerGroup[float] = 0.0,
    clip_norm: PerGroup[float | None] = None,
    warmup_steps: int = 0,
    decay: str = "none",
    total_steps: int | None = None,
    accumulation_steps: int = 1,
    lazy: Sequence[keras.Variable] = (),
) -> GroupedOptimizer:
    """Adam per group; some groups start slowly.

    Those (`Groups.slow`), such as tables that start from a teacher, learn at
    `slow_start_factor`·ε in the first step and reach ε linearly after `slow_start_steps` steps;
    all other variables learn at ε. The paper gives neither the number of epochs nor the shape
    within an epoch. Warm-up and decay change ε itself, for all groups.

    Args:
        groups: Result of `variable_groups`.
        learning_rate: ε, > 0; for all groups, or one per group (that of `rest` where absent).
        slow_start_steps: Steps until the slow groups learn at ε, >= 0; 0 switches the slow
            start off.
        slow_start_factor: First rate of the slow groups over ε, > 0.
        weight_decay: Decoupled decay per step over the learning rate, >= 0; a number
            for all groups, or one per group (0 where absent).
        clip_norm: Largest norm of a group's gradient, > 0, or None for no limit; for
            all groups, or one per group (None where absent).
        warmup_steps: Steps over which ε rises linearly, >= 0.
        decay: Decay of ε, to 0 at `total_steps`: `none`, `linear` or `cosine`.
        total_steps: Steps of the whole training; needed to decay.
        accumulation_steps: Batches whose gradients are averaged into an update, > 0.
            All other numbers of steps count batches.
        lazy: Tables of which a step moves only the rows that it has read (lazy Adam), where
            it reads but some: for large catalogues with sampled negatives. On TensorFlow, one
            replica, without weight decay and accumulation.

    Returns:
        The optimizer; it refuses gradients that are not finite and keeps their norm
        per group.

    Raises:
        ConfigError: for a weight decay or clip of a group that there is not.
        ValueError: if two variables share a path, so that a rate could not be
            assigned to one of them alone; for lazy tables with weight decay, accumulation
            or another backend than TensorFlow.

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.3.
    """
    paths = [variable.path for group in groups.values() for variable in group]
    if len(set(paths)) < len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"Variables must have distinct paths. Received twice: {', '.join(twice)}.")
    usual = learning_rate[REST] if isinstance(learning_rate, Mapping) else None
    rates = _per_group("learning_rate", learning_rate, groups, usual)
    decays = _per_group("weight_decay", weight_decay, groups, 0.0)
    clips = _per_group("clip_norm", clip_norm, groups, None)
    backend = keras.backend.backend()
    if lazy and (backend != "tensorflow" or any(decays.values()) or accumulation_steps > 1):
        raise ValueError(
            "Lazy tables need TensorFlow, no weight decay and no accumulation, which move every "
            f"row. Received: backend={backend}, weight_decay={decays}, "
            f"accumulation_steps={accumulation_steps}. Make `lazy` empty."
        )
    optimizers = {}
    for name in groups:
        slow = slow_start_steps if name in groups.slow else 0
        rate: float | GroupRate = rates[name]
        if slow or warmup_steps or decay != "none":
            rate = GroupRate(rates[name], warmup_steps, decay, total_steps, slow, slow_start_factor)
        optimizers[name] = GroupAdam(
            rate,
            weight_decay=decays[name] or None,
            global_clipnorm=clips[name],
            gradient_accumulation_steps=accumulation_steps if accumulation_steps > 1 else None,
            name=name,
        )
    return GroupedOptimizer(
        optimizers,
        {v.path: name for name, group in groups.items() for v in group},
        [variable.path for variable in lazy],
    )


def current_rates(optimizer: keras.optimizers.Optimizer) -> dict[str, float]:
    """Learning rate of each group at the next step.

    `optimizer` is the result of `grouped_adam`, or Keras's loss scaling around it.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return {
        name: float(ops.convert_to_numpy(rate)) for name, rate in optimizer.learning_rates.items()
    }


def _per_group(key: str, value: Any, groups: Groups, default: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(groups, value)
    unknown = [name for name in value if name not in groups]
    if unknown:
        raise ConfigError(
            f"`{key}` has no group `{unknown[0]}`. Groups of this model: {', '.join(groups)}."
        )
    return dict.fromkeys(groups, default) | dict(value)
