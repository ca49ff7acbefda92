"""Methods by name."""

from __future__ import annotations

from collections.abc import Callable

from kdsr_tf.backbones.base import Backbone
from kdsr_tf.backbones.catalogue import find_backbone
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.configured_kdsr import build_kdsr
from kdsr_tf.methods.iisan import build_iisan
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.models.training_model import TrainingModel

Build = Callable[[Config, TrainingInputs, int], TrainingModel]

METHODS: dict[str, Build] = {"kdsr": build_kdsr, "iisan": build_iisan}
"""What builds the model of `model.method`. `kdsr_tf.config.methods` says what each reads."""


def build_model(config: Config, read: TrainingInputs, steps_per_epoch: int = 1) -> TrainingModel:
    """The recommender of a configuration with its objectives, not yet trained.

    Args:
        config: The configuration.
        read: What the method reads.
        steps_per_epoch: Training steps of an epoch, by which weights are annealed.

    Raises:
        ConfigError: if the layers refuse a value of the configuration.
    """
    try:
        return METHODS[config.model.method](config, read, steps_per_epoch)
    except ValueError as error:
        raise ConfigError(f"The section `model` cannot be built: {error}") from error


def backbone_class(config: Config) -> type[Backbone]:
    """The class of `model.backbone`.

    Raises:
        ConfigError: if its path leads to no backbone.
    """
    try:
        return find_backbone(config.model.backbone)
    except ValueError as error:
        raise ConfigError(f"`model.backbone` cannot be used: {error}") from error
