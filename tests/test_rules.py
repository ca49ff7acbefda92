"""The configuration and the Python objects refuse the same values with the same text."""

from __future__ import annotations

import keras
import pytest

from kdsr_tf.backbones.catalogue import create_backbone
from kdsr_tf.config import load_config
from kdsr_tf.config.data_sections import ImageEncoderConfig
from kdsr_tf.errors import ConfigError
from kdsr_tf.layers.causal_attention import CausalAttention
from kdsr_tf.losses.score_loss import ScoreLoss
from kdsr_tf.objectives.next_item import next_item
from kdsr_tf.objectives.pair_distillation import PairDistillation
from kdsr_tf.rules import MAX_PIXELS

BACKBONE = {"dim": 128, "max_length": 4}


@pytest.mark.parametrize(
    ("overrides", "build"),
    [
        (["model.num_heads=3"], lambda: create_backbone("sasrec", num_heads=3, **BACKBONE)),
        (["model.num_heads=3"], lambda: CausalAttention(128, 3)),
        (["model.backbone=sasreck"], lambda: create_backbone("sasreck", **BACKBONE)),
        (
            ["model.backbone=nova", "model.options.fusio=add"],
            lambda: create_backbone("nova", {"fusio": "add"}, **BACKBONE),
        ),
        (
            ["train.label_smoothing=0.1", "train.negatives=3"],
            lambda: next_item(9, 3, "uniform", 0.1, 0, keras.config.dtype_policy()),
        ),
    ],
)
def test_one_rule_one_text(overrides, build):
    with pytest.raises(ConfigError) as of_configuration:
        load_config(overrides=overrides)
    with pytest.raises(ValueError) as of_object:
        build()
    assert str(of_configuration.value) == str(of_object.value)


def test_drawn_pairs_need_another_loss_everywhere():
    overrides = ["distillation.score_loss=frobenius", "distillation.pairs_per_window=3"]
    with pytest.raises(ConfigError) as of_configuration:
        load_config(overrides=overrides)
    with pytest.raises(ValueError) as of_object:
        PairDistillation({}, ScoreLoss("frobenius"), pairs_per_window=3)
    assert str(of_configuration.value) == str(of_object.value)


def test_the_limit_of_pixels_is_one():
    assert ImageEncoderConfig().max_pixels == MAX_PIXELS
