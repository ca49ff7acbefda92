"""The typed configuration: one section per stage, one default per key.

A configuration is read from YAML, overridden by `a.b=value` assignments and
validated here. Layers and losses take plain arguments and never see it.
"""

from __future__ import annotations

from kdsr_tf.config.data_sections import (
    ImageEncoderConfig,
    PrepareConfig,
    SourceConfig,
    StatesConfig,
    TeachConfig,
    TextEncoderConfig,
)
from kdsr_tf.config.loading import dump_config, load_config, override, select
from kdsr_tf.config.root import Config

__all__ = [
    "Config",
    "ImageEncoderConfig",
    "PrepareConfig",
    "SourceConfig",
    "StatesConfig",
    "TeachConfig",
    "TextEncoderConfig",
    "dump_config",
    "load_config",
    "override",
    "select",
]
