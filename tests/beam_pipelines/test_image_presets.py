"""Keras Hub image presets, tiny and saved on the spot, through the real loading code."""

import numpy as np
import PIL.Image
import pytest

from beam_pipelines.handlers.encoder import Unusable
from beam_pipelines.handlers.keras_hub_image import KerasHubImageEncoder
from kdsr_tf.errors import ConfigError
from tests.nearness import assert_near

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


def _save(family, folder):
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


def _pictures(count=3, size=SIZE):
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def _found(encoder, pictures):
    return encoder.encode(pictures, encoder.load_model())


def _expected(backbone, pictures, pool):
    scaled = np.stack(pictures) * np.float32(SCALE) + np.float32(OFFSET)
    tower = getattr(backbone, "vision_encoder", backbone)
    named = isinstance(tower.input, dict)
    return pool(np.asarray(tower({"images": scaled} if named else scaled)))


@pytest.mark.parametrize(
    "family",
    [
        "ResNet",
        "ViT",
        "CLIP",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("SwinTransformer", "DeiT", "DINOV2")),
    ],
)
def test_pooling_is_what_numpy_makes_of_the_backbone(family, tmp_path):
    backbone = _save(family, str(tmp_path))
    pictures = _pictures()
    for pooling, pool in FAMILIES[family][1].items():
        encoder = KerasHubImageEncoder(str(tmp_path), pooling, image_size=SIZE, batch_size=2)
        found = _found(encoder, pictures)
        expected = _expected(backbone, pictures, pool)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)
        assert found.shape[1] == encoder.size(encoder.load_model())


@pytest.mark.parametrize("family", ["CLIP", pytest.param("SigLIP", marks=pytest.mark.slow)])
def test_of_picture_and_text_models_only_the_pictures_half_is_run(family, tmp_path):
    backbone = _save(family, str(tmp_path))
    pictures = _pictures()
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    scaled = np.stack(pictures) * np.float32(SCALE) + np.float32(OFFSET)
    expected = np.asarray(backbone.get_vision_embeddings(scaled))
    assert_near(_found(encoder, pictures), expected)
    network = encoder.load_model().network
    assert network.count_params() < backbone.count_params()
    assert [tensor.name for tensor in network.inputs] == ["images"]


def test_vectors_do_not_depend_on_batch_mates_and_are_repeatable(tmp_path):
    _save("ViT", str(tmp_path))
    pictures = _pictures(5)
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    together = _found(encoder, pictures)
    for picture, vector in zip(pictures, together, strict=True):
        assert_near(_found(encoder, [picture])[0], vector)
    np.testing.assert_array_equal(_found(encoder, pictures), together)


@pytest.mark.slow
def test_dinov2_takes_pictures_of_another_size(tmp_path):
    _save("DINOV2", str(tmp_path))
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=48, batch_size=2)
    found = _found(encoder, _pictures(size=48))
    assert found.shape == (3, 8) and np.isfinite(found).all()


def test_a_wrong_preset_size_or_pooling_is_named(tmp_path):
    import keras_hub

    _save("ViT", str(tmp_path / "vit"))
    with pytest.raises(ConfigError, match=r"image_size`: .*32 x 32. Received: 64"):
        KerasHubImageEncoder(str(tmp_path / "vit"), image_size=64).load_model()
    _save("ResNet", str(tmp_path / "resnet"))
    with pytest.raises(ConfigError, match=r"pooling`: ResNetBackbone gives no class token"):
        KerasHubImageEncoder(str(tmp_path / "resnet"), "cls", image_size=SIZE).load_model()
    with pytest.raises(ConfigError, match=r"preset`: cannot load the preset 'resnet_of_nobody'"):
        KerasHubImageEncoder("resnet_of_nobody", image_size=SIZE).load_model()
    with pytest.raises(ConfigError, match=r"preset`: there is no folder /no/where"):
        KerasHubImageEncoder("/no/where", image_size=SIZE)
    text = keras_hub.models.BertBackbone(
        vocabulary_size=8, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=8
    )
    text.save_to_preset(str(tmp_path / "text"))
    with pytest.raises(ConfigError, match=r"`encode.image.preset`"):
        KerasHubImageEncoder(str(tmp_path / "text"), image_size=SIZE).load_model()


def test_bad_pictures_leave_the_others_in_their_places(tmp_path):
    """Also where a call has only bad ones, and none is at the start of its call."""
    _save("ResNet", str(tmp_path / "preset"))
    encoder = KerasHubImageEncoder(str(tmp_path / "preset"), "mean", image_size=SIZE, batch_size=2)
    pictures = _pictures(4)
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(str(tmp_path / f"{number}.png"))
        PIL.Image.fromarray(picture).save(paths[-1])
    bad = str(tmp_path / "none.png")
    contents = [paths[0], bad, bad, bad, paths[1], paths[2], bad, paths[3]]
    found = encoder.run_inference(contents, encoder.load_model())
    assert [isinstance(value, Unusable) for value in found] == [path == bad for path in contents]
    vectors = np.stack([value for value in found if not isinstance(value, Unusable)])
    np.testing.assert_allclose(vectors, _found(encoder, pictures), rtol=1e-5, atol=1e-6)
