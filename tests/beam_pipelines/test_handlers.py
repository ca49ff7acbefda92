import importlib
import io
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image, ImageDraw

from beam_pipelines.handlers import encoder as encoders
from beam_pipelines.handlers.decode_pictures import read_picture
from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder
from beam_pipelines.handlers.embedded_text import EmbeddedTextEncoder
from beam_pipelines.handlers.hidden_states import StateChoice
from beam_pipelines.handlers.keras_applications import KerasApplicationsEncoder, ends_of_stages
from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder
from beam_pipelines.handlers.precomputed import PrecomputedEncoder
from kdsr_tf.errors import ConfigError
from tests.beam_pipelines import presets
from tests.nearness import assert_near

WORDS = ["red", "blue", "silk", "tie", "suit", "shirt", "##s", "."]


def _vectors(encoder, contents):
    batch = [encoder.prepare(content) for content in contents]
    return encoder.encode(batch, encoder.load_model())


def _bytes(image, **options):
    file = io.BytesIO()
    image.save(file, **{"format": "PNG"} | options)
    return file.getvalue()


def _product(shape, colour, box=(20, 20, 76, 76)):
    image = Image.new("RGB", (96, 96), (245, 244, 240))
    getattr(ImageDraw.Draw(image), shape)(box, fill=colour)
    return image


# Embedded text


def test_text_vectors_share_words_parts_of_words_and_scripts():
    texts = ["red silk tie", "blue silk ties", "leather boots", "красный галстук", "красная шляпа"]
    vectors = _vectors(EmbeddedTextEncoder(dim=256), texts)
    similar = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(similar), 1.0, rtol=1e-5)
    assert similar[0, 1] > similar[0, 2] + 0.2
    assert similar[3, 4] > similar[3, 2] + 0.1


def test_text_vectors_are_the_same_on_every_machine():
    vector = _vectors(EmbeddedTextEncoder(dim=64), ["Red silk tie, 紅領帶"])[0]
    # Sums of whole numbers: these digits hold wherever the code runs.
    assert vector[:3].tolist() == [-0.13166160881519318, 0.19749240577220917, 0.032915402203798294]


@pytest.mark.parametrize("text", ["!!!", "☂", "a", "ab", "x" * 5000])
def test_any_text_has_a_unit_vector(text):
    vector = _vectors(EmbeddedTextEncoder(dim=32), [text])[0]
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_unusable_texts_are_refused():
    encoder = EmbeddedTextEncoder()
    with pytest.raises(encoders.Unusable, match="longer than"):
        encoder.prepare("x" * (encoders.LONGEST_TEXT + 1))
    with pytest.raises(encoders.Unusable, match="Unicode"):
        encoder.identify("\ud800")


# Pictures and embedded images


def _assert_colour(data, colour):
    picture = read_picture(data, 16, 10_000)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    np.testing.assert_allclose(picture, np.broadcast_to(colour, picture.shape), atol=6)


def test_every_mode_is_decoded_to_rgb():
    red = Image.new("RGB", (40, 30), (200, 30, 40))
    blue = Image.new("RGB", (40, 30), "blue")
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = Image.fromarray(np.full((9, 9), 90 << 8, np.uint16))
    _assert_colour(_bytes(red), (200, 30, 40))
    _assert_colour(_bytes(palette), (200, 30, 40))
    _assert_colour(_bytes(red.convert("CMYK"), format="JPEG"), (200, 30, 40))
    _assert_colour(_bytes(red, format="GIF", save_all=True, append_images=[blue]), (200, 30, 40))
    _assert_colour(_bytes(Image.new("L", (9, 9), 90)), 90)
    _assert_colour(_bytes(deep), 90)
    _assert_colour(_bytes(Image.new("RGBA", (9, 9), (0, 0, 0, 0))), 255)


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (40, 40), "white")
    image.paste("black", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright, turned = (
        read_picture(_bytes(image, format="JPEG", quality=95, **options), 16, 10_000)
        for options in ({}, {"exif": exif})
    )
    assert upright[:4].mean() < 20 and turned[:4].mean() > 235


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not an image"),
        (_bytes(Image.effect_noise((64, 64), 60))[:900], "truncated"),
        (_bytes(Image.effect_noise((64, 64), 60).convert("RGB"), format="JPEG")[:700], "truncated"),
        (_bytes(Image.new("1", (30_000, 30_000))), "more than 10000 pixels"),
        (_bytes(Image.new("RGB", (101, 100))), "more than 10000 pixels"),
    ],
)
def test_bad_pictures_are_refused_with_a_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        read_picture(data, 16, 10_000)


def test_image_vectors_share_colour_and_shape():
    encoder = EmbeddedImageEncoder()
    pictures = [
        _product("ellipse", (190, 40, 50)),
        _product("ellipse", (190, 40, 50), (10, 10, 60, 60)),  # moved and smaller
        _product("rectangle", (190, 40, 50)),
        _product("ellipse", (40, 60, 190)),
        _product("rectangle", (40, 160, 60)),
    ]
    vectors = encoder.encode([np.asarray(picture) for picture in pictures], None)
    similar = vectors @ vectors.T
    assert similar[0, 1] > max(similar[0, 2], similar[0, 3])
    assert min(similar[0, 2], similar[0, 3]) > similar[0, 4] + 0.1


def test_an_image_of_one_colour_has_a_finite_vector():
    for level in (0, 128, 255):
        picture = np.full((1, 32, 32, 3), level, np.uint8)
        vector = EmbeddedImageEncoder().encode(picture, None)
        assert np.isfinite(vector).all() and vector.any()


# Precomputed vectors


def test_precomputed_vectors_are_checked():
    encoder = PrecomputedEncoder("vector", dim=2)
    np.testing.assert_array_equal(encoder.prepare([1, 2.5]), np.float32([1, 2.5]))
    np.testing.assert_array_equal(encoder.prepare("[1, 2.5]"), np.float32([1, 2.5]))
    bad = [[1.0], [1.0, float("nan")], [1.0, 1e39], "red", ["a", "b"], 3]
    for value in bad:
        with pytest.raises(encoders.Unusable):
            encoder.prepare(value)


# Keras


@pytest.fixture(scope="module")
def bert_preset(tmp_path_factory):
    return presets.save_bert(str(tmp_path_factory.mktemp("bert")), WORDS)


TEXTS = ["Red silk tie.", "blue suits", "tie", " ".join(["red shirt"] * 30), "blue silk tie ."]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_keras_hub_text_does_not_depend_on_its_batch(bert_preset, pooling):
    encoder = pickle.loads(
        pickle.dumps(KerasHubTextEncoder(bert_preset, pooling, max_tokens=64, batch_size=2))
    )
    together = _vectors(encoder, TEXTS)
    alone = np.concatenate([_vectors(encoder, [text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), encoder.size(encoder.load_model())) == (5, 8)
    assert_near(together, alone)
    assert_near(np.linalg.norm(together, axis=1), 1.0)


def test_keras_hub_text_pools_token_states_as_numpy_does(bert_preset):
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(bert_preset)
    # [CLS] red silk tie . [SEP]
    ids = np.array([[2, 5, 7, 8, 12, 3]], np.int32)
    inputs = {"token_ids": ids, "padding_mask": ids > 0, "segment_ids": np.zeros_like(ids)}
    states = np.asarray(backbone(inputs)["sequence_output"])[0]
    pooled = {"mean": states.mean(axis=0), "cls": states[0], "last": states[-1]}
    for pooling, expected in pooled.items():
        found = _vectors(KerasHubTextEncoder(bert_preset, pooling), ["Red silk tie."])[0]
        assert_near(found, expected / np.linalg.norm(expected))


def test_keras_hub_text_reads_accented_words_as_bert_does(bert_preset):
    plain, accented, unknown = _vectors(
        KerasHubTextEncoder(bert_preset), ["red tie", "Réd tiê", "xyz tie"]
    )
    assert_near(plain, accented)
    assert np.abs(plain - unknown).max() > 1e-3


def test_keras_hub_text_without_an_embedder_class_pools_the_backbone(tmp_path):
    import keras_hub

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    keras_hub.models.DistilBertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=40,
    ).save_to_preset(str(tmp_path))
    tokenizer = keras_hub.models.DistilBertTokenizer(vocabulary=vocabulary, lowercase=True)
    tokenizer.save_to_preset(str(tmp_path))
    vectors = _vectors(KerasHubTextEncoder(str(tmp_path), batch_size=2), TEXTS)
    assert vectors.shape == (5, 8) and np.isfinite(vectors).all()


@pytest.fixture(scope="module")
def mobilenet_weights(tmp_path_factory):
    import keras

    keras.utils.set_random_seed(2)
    path = str(tmp_path_factory.mktemp("weights") / "tiny.weights.h5")
    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    network.save_weights(path)
    return path


def test_keras_applications_pools_the_preprocessed_network(mobilenet_weights):
    import keras

    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    uri = "memory://weights/mobile [1].weights.h5"
    with fsspec.open(uri, "wb") as file:
        file.write(Path(mobilenet_weights).read_bytes())
    encoder = KerasApplicationsEncoder(
        "MobileNetV2", uri, {"alpha": 0.35}, image_size=32, batch_size=2
    )
    found = encoder.encode(pictures, encoder.load_model())
    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    network.load_weights(mobilenet_weights)
    maps = np.asarray(network(np.stack(pictures) / 127.5 - 1.0))
    assert_near(found, maps.mean(axis=(1, 2)), 1e-4)


MOBILENET_STAGES = {
    "Conv1_relu": 16,
    "block_2_add": 8,
    "block_5_add": 16,
    "block_9_add": 24,
    "block_12_add": 32,
    "block_15_add": 56,
    "out_relu": 1280,
}
"""The layers that end the stages of MobileNetV2, alpha 0.35, and their widths."""


def test_keras_applications_gives_its_stages_as_states(tmp_path):
    import keras

    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    draws = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([draws.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    path = str(tmp_path / "tiny.weights.h5")
    network.save_weights(path)
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8))
    encoder = KerasApplicationsEncoder(
        "MobileNetV2", path, {"alpha": 0.35}, image_size=32, batch_size=2
    )
    plain = encoder.encode(pictures, encoder.load_model())
    encoder.chosen = StateChoice("encode.image.states", 6, None, "mean", "float16")
    model = encoder.load_model()
    # Folded as the network without states is.
    norms = [lay for lay in model.network.layers if "BatchNormalization" in type(lay).__name__]
    assert norms == []
    states = encoder.states(model)
    assert states.sizes == tuple(MOBILENET_STAGES.values()) and states.layers == (*range(7),)
    rows = encoder.encode(pictures, model)
    np.testing.assert_array_equal(rows[:, :1280], plain)
    np.testing.assert_array_equal(rows[:, -1280:], plain)
    outputs = [network.get_layer(name).output for name in MOBILENET_STAGES]
    maps = keras.Model(network.input, outputs)(np.stack(pictures) / 127.5 - 1.0, training=False)
    expected = np.concatenate([np.asarray(m).mean(axis=(1, 2)) for m in maps], axis=1)
    np.testing.assert_allclose(rows[:, 1280:], expected, rtol=1e-4, atol=1e-5)
    encoder.chosen = StateChoice("encode.image.states", 2, None, "cls", "float16")
    with pytest.raises(ConfigError, match="MobileNetV2 has no class token"):
        encoder.load_model()


def test_stages_of_other_networks_end_with_sums_or_with_sizes():
    import keras

    picture = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="early")(picture)
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(6, 4, strides=2, name="middle")(x)
    plain = keras.Model(picture, keras.layers.MaxPooling2D(name="late")(x))
    assert [stage.shape[1:] for stage in ends_of_stages(plain)] == [
        (16, 16, 4),
        (8, 8, 6),
        (4, 4, 6),
    ]
    x = keras.layers.ReLU()(keras.layers.Conv2D(4, 3, strides=2, padding="same")(picture))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
    for _ in range(2):
        x = x * ((x + 3.0) / 6.0) + keras.layers.Conv2D(4, 1)(x)
    stage = x
    x = keras.layers.Conv2D(5, 2, strides=2)(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(5, 1)(x)])
    residual = keras.Model(picture, keras.layers.ReLU()(x))
    stages = ends_of_stages(residual)
    assert [end.shape[1:] for end in stages] == [(8, 8, 4), (4, 4, 4), (2, 2, 5)]
    assert stages[1] is stage and stages[2] is residual.output


@pytest.mark.slow
@pytest.mark.parametrize("model", ["EfficientNetV2B0", "ConvNeXtTiny", "DenseNet121"])
def test_any_keras_application_gets_its_own_preprocessing(model, tmp_path):
    import keras

    function = getattr(keras.applications, model)
    network = function(input_shape=(64, 64, 3), include_top=False, weights=None)
    network.save_weights(str(tmp_path / "tiny.weights.h5"))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    encoder = KerasApplicationsEncoder(
        model, str(tmp_path / "tiny.weights.h5"), image_size=64, batch_size=2
    )
    found = encoder.encode(list(pictures), encoder.load_model())
    preprocess = importlib.import_module(function.__module__).preprocess_input
    expected = np.asarray(network(preprocess(pictures.astype(np.float32)))).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


def test_the_digest_follows_weights_and_parameters_not_the_path(mobilenet_weights, tmp_path):
    def digest(path, **options):
        return KerasApplicationsEncoder("MobileNetV2", str(path), **options).digest()

    data = Path(mobilenet_weights).read_bytes()
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / "tiny.weights.h5"
    moved.write_bytes(data)
    assert digest(moved) == digest(mobilenet_weights)
    assert digest(moved, image_size=64) != digest(mobilenet_weights)
    assert digest(moved, max_pixels=100) != digest(mobilenet_weights)
    moved.write_bytes(data[:-1] + b"x")
    assert digest(moved) != digest(mobilenet_weights)


def test_a_file_written_anew_is_another_model(tmp_path):
    class WeightsEncoder(encoders.TextEncoder):
        def files(self):
            return [str(tmp_path / "weights.txt")]

        def build(self):
            return (tmp_path / "weights.txt").read_text()

    (tmp_path / "weights.txt").write_text("old")
    assert WeightsEncoder().load_model() == "old"
    assert WeightsEncoder().load_model() is WeightsEncoder().load_model()
    (tmp_path / "weights.txt").write_text("newer")
    assert WeightsEncoder().load_model() == "newer"


def test_an_encoder_that_loses_a_row_is_named():
    class LossyEncoder(encoders.TextEncoder):
        def encode(self, batch, model):
            return np.zeros((len(batch) - 1, 2), np.float32)

    with pytest.raises(ConfigError, match=r"LossyEncoder must return one vector.*: 1 for 2\."):
        LossyEncoder().run_inference(["a", "b"], None)


def test_what_cannot_be_loaded_is_named(mobilenet_weights, tmp_path):
    with pytest.raises(ConfigError, match=r"`encode.image.weights`: there is no file /no/where"):
        KerasApplicationsEncoder("MobileNetV2", "/no/where")
    with pytest.raises(ConfigError, match=r"`encode.image.weights` must be set"):
        KerasApplicationsEncoder("MobileNetV2", None)
    with pytest.raises(ConfigError, match=r"has no 'MobileNetV9'. Valid names: .*MobileNetV2"):
        KerasApplicationsEncoder("MobileNetV9", mobilenet_weights).load_model()
    with pytest.raises(ConfigError, match="does not fit MobileNetV2"):
        KerasApplicationsEncoder("MobileNetV2", mobilenet_weights, {"alpha": 1.0}).load_model()
    with pytest.raises(ConfigError, match=r"`encode.text.preset`: there is no folder /no/where"):
        KerasHubTextEncoder("/no/where")
    with pytest.raises(ConfigError, match=r"`encode.text.preset`: cannot load the preset"):
        KerasHubTextEncoder(str(tmp_path)).load_model()
