"""Tiny Keras Hub image backbones of every family."""

from __future__ import annotations

import numpy as np

SIZE = 32
SCALE, OFFSET = 1 / 127.5, -1.0
TRANSFORMER = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8}
PATCHES = {"patch_size": 8, "image_shape": (SIZE, SIZE, 3)}


def _resnet(hub):
    return hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 8],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )


def _swin(hub):
    return hub.models.SwinTransformerBackbone(
        image_shape=(SIZE, SIZE, 3),
        embed_dim=4,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=4,
        patch_size=4,
    )


def _vit(hub):
    return hub.models.ViTBackbone(**PATCHES, **TRANSFORMER, mlp_dim=16)


def _deit(hub):
    return hub.models.DeiTBackbone(**PATCHES, **TRANSFORMER, intermediate_dim=16)


def _dinov2(hub):
    return hub.models.DINOV2Backbone(
        **PATCHES,
        **TRANSFORMER,
        intermediate_dim=16,
        num_register_tokens=2,
        position_embedding_shape=(SIZE, SIZE, 3),
    )


def _clip(hub):
    text = hub.models.CLIPTextEncoder(
        vocabulary_size=20,
        embedding_dim=8,
        hidden_dim=8,
        num_layers=1,
        num_heads=2,
        intermediate_dim=16,
        max_sequence_length=8,
    )
    vision = hub.models.CLIPVisionEncoder(**PATCHES, **TRANSFORMER, intermediate_dim=16)
    return hub.models.CLIPBackbone(vision_encoder=vision, text_encoder=text, projection_dim=6)


def _siglip(hub):
    text = hub.models.SigLIPTextEncoder(
        vocabulary_size=20,
        embedding_dim=8,
        hidden_dim=8,
        num_layers=1,
        num_heads=2,
        intermediate_dim=16,
        max_sequence_length=8,
    )
    vision = hub.models.SigLIPVisionEncoder(**PATCHES, **TRANSFORMER, intermediate_dim=16)
    return hub.models.SigLIPBackbone(vision_encoder=vision, text_encoder=text)


def _space(states):
    return states.mean(axis=(1, 2))


def _all_tokens(states):
    return states.mean(axis=1)


def _first_token(states):
    return states[:, 0]


FAMILIES = {
    "ResNet": (_resnet, {"auto": _space, "mean": _space}),
    "SwinTransformer": (_swin, {"auto": _all_tokens, "mean": _all_tokens}),
    "ViT": (_vit, {"auto": _first_token, "cls": _first_token, "mean": lambda s: s[:, 1:].mean(1)}),
    "DeiT": (_deit, {"auto": _first_token, "mean": lambda s: s[:, 2:].mean(1)}),
    "DINOV2": (_dinov2, {"auto": _first_token, "mean": lambda s: s[:, 3:].mean(1)}),
    "CLIP": (_clip, {"cls": _first_token, "mean": lambda s: s[:, 1:].mean(1)}),
    "SigLIP": (_siglip, {}),
}


def save(family, folder):
    import keras
    import keras_hub

    keras.utils.set_random_seed(3)
    backbone = FAMILIES[family][0](keras_hub)
    # Zero initial values (class tokens, biases) would hide a mistake.
    draws = np.random.default_rng(3)
    backbone.set_weights([w + draws.normal(0, 0.1, w.shape) for w in backbone.get_weights()])
    backbone.save_to_preset(folder)
    converter = getattr(keras_hub.layers, f"{family}ImageConverter")
    converter(image_size=(SIZE, SIZE), scale=SCALE, offset=OFFSET).save_to_preset(folder)
    return backbone


def draw(count=3, size=SIZE):
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))
