"""States of further Keras Hub backbones, without their tokenizers and presets.

`test_text_presets.py` and `test_image_presets.py` compare levels of the families that
`docs/encoders.md` names with those that the backbone gives layer by layer.
"""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipelines.handlers.hidden_states import StateChoice
from beam_pipelines.handlers.network_states import with_states
from beam_pipelines.handlers.text_networks import _mean, _pooled
from kdsr_tf.errors import ConfigError
from tests.nearness import assert_near

SIZES = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}
HEADS = {"num_heads": 2, **SIZES}
GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1, **SIZES}
EXPERTS = {"num_experts": 2, "top_k": 1, **GROUPED}

TEXT = {
    "Falcon": {"num_attention_heads": 2, **SIZES},  # calls its blocks by keyword
    "XLMRoberta": HEADS,
    "OPT": HEADS | {"max_sequence_length": 64},
    "Bloom": HEADS,
    "GPTNeoX": HEADS | {"hidden_dim": 32, "max_sequence_length": 64},
    "Phi3": GROUPED,
    "Mixtral": EXPERTS,
    "QwenMoe": EXPERTS | {"moe_intermediate_dim": 16, "shared_expert_intermediate_dim": 16},
    "Gemma3": GROUPED | {"image_size": 16, "head_dim": 4},
}

PICTURE = {"image_shape": (64, 64, 3)}
IMAGE = {
    "DenseNet": PICTURE | {"stackwise_num_repeats": [1, 1, 1], "growth_rate": 4},
    "ResNet": PICTURE
    | {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [3],
        "stackwise_num_filters": [64, 8],
        "stackwise_num_blocks": [1, 1],
        "stackwise_num_strides": [1, 2],
        "block_type": "bottleneck_block",
        "use_pre_activation": True,
    },
}


def _backbone(kind, options):
    import keras
    import keras_hub

    keras.utils.set_random_seed(4)
    return getattr(keras_hub.models, f"{kind}Backbone")(**options)


def _choice(groups):
    return StateChoice("encode.text.states", groups, None, "mean", "float32")


@pytest.mark.parametrize(
    "kind", [k if k == "Falcon" else pytest.param(k, marks=pytest.mark.slow) for k in TEXT]
)
def test_the_last_level_of_a_text_backbone_is_the_vector(kind):
    import keras_hub

    backbone = _backbone(kind, TEXT[kind])
    network = _pooled(keras_hub, backbone, "mean")
    wide, states = with_states(
        network, backbone, _choice(2), lambda level, inputs: _mean(level, inputs["padding_mask"])
    )
    ids = np.random.default_rng(0).integers(5, 50, (3, 9)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    rows = np.asarray(wide({"token_ids": ids, "padding_mask": mask}))
    vectors = np.asarray(network({"token_ids": ids, "padding_mask": mask}))
    size = vectors.shape[1]
    assert states.layers == (0, 1, 2) and states.sizes == (size,) * 3
    np.testing.assert_array_equal(rows[:, :size], vectors)
    last = rows[:, -size:] / np.linalg.norm(rows[:, -size:], axis=1, keepdims=True)
    assert_near(last, vectors)
    alone = wide({"token_ids": ids[1:2, :5], "padding_mask": mask[1:2, :5]})
    assert_near(np.asarray(alone)[0], rows[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGE)
def test_the_last_stage_of_a_convolutional_backbone_is_its_output(kind):
    import keras
    from keras import ops

    backbone = _backbone(kind, IMAGE[kind])
    network = keras.Model(backbone.input, ops.mean(backbone.output, axis=(1, 2)))
    stages = len(backbone.pyramid_outputs)
    wide, states = with_states(
        network, backbone, _choice(stages - 1), lambda level, _: ops.mean(level, axis=(1, 2))
    )
    assert states.layers == tuple(range(stages))
    pictures = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    rows, vectors = np.asarray(wide(pictures)), np.asarray(network(pictures))
    np.testing.assert_array_equal(rows[:, : vectors.shape[1]], vectors)
    np.testing.assert_array_equal(rows[:, -vectors.shape[1] :], vectors)


def test_a_backbone_that_does_not_name_its_stages_is_refused():
    backbone = _backbone(
        "VGG", PICTURE | {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [8, 8]}
    )
    with pytest.raises(ConfigError, match=r"states`: VGGBackbone gives no states: Keras Hub does"):
        with_states(backbone, backbone, _choice(1), lambda level, _: level)
