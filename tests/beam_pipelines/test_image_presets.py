"""Keras Hub image presets, tiny and saved on the spot, through the real loading code."""

import numpy as np
import PIL.Image
import pytest

from beam_pipelines.handlers.encoder import Unusable
from beam_pipelines.handlers.hidden_states import StateChoice
from beam_pipelines.handlers.keras_hub_image import KerasHubImageEncoder
from kdsr_tf.errors import ConfigError
from tests.beam_pipelines.image_families import FAMILIES, OFFSET, SCALE, SIZE, draw, save
from tests.nearness import assert_near


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
    backbone = save(family, str(tmp_path))
    pictures = draw()
    for pooling, pool in FAMILIES[family][1].items():
        encoder = KerasHubImageEncoder(str(tmp_path), pooling, image_size=SIZE, batch_size=2)
        found = _found(encoder, pictures)
        expected = _expected(backbone, pictures, pool)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)
        assert found.shape[1] == encoder.size(encoder.load_model())


@pytest.mark.parametrize("family", ["CLIP", pytest.param("SigLIP", marks=pytest.mark.slow)])
def test_of_picture_and_text_models_only_the_pictures_half_is_run(family, tmp_path):
    backbone = save(family, str(tmp_path))
    pictures = draw()
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    scaled = np.stack(pictures) * np.float32(SCALE) + np.float32(OFFSET)
    expected = np.asarray(backbone.get_vision_embeddings(scaled))
    assert_near(_found(encoder, pictures), expected)
    network = encoder.load_model().network
    assert network.count_params() < backbone.count_params()
    assert [tensor.name for tensor in network.inputs] == ["images"]


def _choice(**changed):
    return StateChoice(
        **{"key": "encode.image.states", "groups": 2, "layers": None}
        | {"pooling": "mean", "dtype": "float16"}
        | changed
    )


def _levels(encoder, pictures):
    """The vectors of pictures, and each of their states."""
    rows = _found(encoder, pictures)
    model = encoder.load_model()
    sizes = [encoder.size(model), *encoder.states(model).sizes]
    vectors, *states = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    assert [part.shape[1] for part in (vectors, *states)] == sizes
    return vectors, states


def _tokens_of_first_levels(family, backbone, scaled):
    """What enters the first block of a transformer and what leaves it."""
    import keras

    tower = getattr(backbone, "vision_encoder", backbone)
    name = {"ViT": "vit_encoder", "DeiT": "deit_encoder", "DINOV2": "encoder"}.get(family)
    block = tower.get_layer(name or ("stage_0" if "Swin" in family else "encoder_block_0"))
    entering = np.asarray(keras.Model(tower.input, block.input)(scaled))
    if name is not None:
        block = (block.layers if family == "DINOV2" else block.encoder_layers)[0]
    leaving = block(entering)
    return entering, np.asarray(leaving[0] if isinstance(leaving, tuple) else leaving)


EXTRA = {"ViT": 1, "DeiT": 2, "DINOV2": 3, "CLIP": 1, "SigLIP": 0, "SwinTransformer": 0}
"""Class and register tokens of a transformer."""


@pytest.mark.parametrize(
    "family",
    [f if f in ("ViT", "CLIP") else pytest.param(f, marks=pytest.mark.slow) for f in EXTRA],
)
def test_states_are_the_levels_of_the_transformer(family, tmp_path):
    backbone = save(family, str(tmp_path))
    pictures, extra = draw(), EXTRA[family]
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    plain = _found(encoder, pictures)
    encoder.chosen = _choice()
    vectors, states = _levels(encoder, pictures)
    np.testing.assert_array_equal(vectors, plain)
    assert encoder.states(encoder.load_model()).layers == (0, 1, 2)
    scaled = np.stack(pictures) * np.float32(SCALE) + np.float32(OFFSET)
    tower = getattr(backbone, "vision_encoder", backbone)
    inputs = {"images": scaled} if isinstance(tower.input, dict) else scaled
    for state, tokens in zip(
        states, _tokens_of_first_levels(family, backbone, inputs), strict=False
    ):
        assert_near(state, tokens[:, extra:].mean(axis=1), 2e-5)
    if family == "SigLIP":  # a head pools the last level
        import keras

        last = keras.Model(tower.input, tower.get_layer("post_layer_norm").output)(inputs)
    else:
        last = np.asarray(tower(inputs))
    assert_near(states[2], np.asarray(last)[:, extra:].mean(axis=1), 2e-5)
    cls = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    cls.chosen = _choice(pooling="cls", layers=(0, 2))
    if not extra:
        with pytest.raises(ConfigError, match=r"has no class token"):
            cls.load_model()
        return
    _, (first, token) = _levels(cls, pictures)
    assert_near(first, np.broadcast_to(first[0], first.shape))
    if family == "CLIP":
        token = np.asarray(backbone.vision_projection(token))
    assert_near(token, vectors, 2e-5)


def test_states_of_a_convolutional_network_are_its_stages(tmp_path):
    import keras

    backbone = save("ResNet", str(tmp_path))
    pictures = draw()
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    plain = _found(encoder, pictures)
    encoder.chosen = _choice(groups=1)
    vectors, states = _levels(encoder, pictures)
    np.testing.assert_array_equal(vectors, plain)
    scaled = np.stack(pictures) * np.float32(SCALE) + np.float32(OFFSET)
    maps = keras.Model(backbone.input, list(backbone.pyramid_outputs.values()))(scaled)
    assert [state.shape[1] for state in states] == [64, 8] and len(maps) == 2
    for state, feature_map in zip(states, maps, strict=True):
        expected = np.asarray(feature_map).mean(axis=(1, 2))
        np.testing.assert_allclose(state, expected, atol=1e-5, rtol=1e-4)
    np.testing.assert_array_equal(states[1], vectors)
    encoder.chosen = _choice(groups=2)
    with pytest.raises(ConfigError, match=r"ResNetBackbone has 1\. Received: 2"):
        encoder.load_model()


def test_vectors_do_not_depend_on_batch_mates_and_are_repeatable(tmp_path):
    save("ViT", str(tmp_path))
    pictures = draw(5)
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=SIZE, batch_size=2)
    together = _found(encoder, pictures)
    for picture, vector in zip(pictures, together, strict=True):
        assert_near(_found(encoder, [picture])[0], vector)
    np.testing.assert_array_equal(_found(encoder, pictures), together)


@pytest.mark.slow
def test_dinov2_takes_pictures_of_another_size(tmp_path):
    save("DINOV2", str(tmp_path))
    encoder = KerasHubImageEncoder(str(tmp_path), image_size=48, batch_size=2)
    found = _found(encoder, draw(size=48))
    assert found.shape == (3, 8) and np.isfinite(found).all()


def test_a_wrong_preset_size_or_pooling_is_named(tmp_path):
    import keras_hub

    save("ViT", str(tmp_path / "vit"))
    with pytest.raises(ConfigError, match=r"image_size`: .*32 x 32. Received: 64"):
        KerasHubImageEncoder(str(tmp_path / "vit"), image_size=64).load_model()
    save("ResNet", str(tmp_path / "resnet"))
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
    save("ResNet", str(tmp_path / "preset"))
    encoder = KerasHubImageEncoder(str(tmp_path / "preset"), "mean", image_size=SIZE, batch_size=2)
    pictures = draw(4)
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
