"""Keras Hub text presets, tiny and saved on the spot, through the real loading code."""

import functools

import numpy as np
import pytest

from beam_pipelines.handlers.hidden_states import StateChoice
from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder
from kdsr_tf.errors import ConfigError
from tests.beam_pipelines.text_families import FAMILIES, TEXTS, save
from tests.nearness import assert_near

FAST = ("Bert", "Llama3", "T5")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saves a family once: its folder, backbone and tokenizer."""

    @functools.cache
    def save_once(family):
        folder = str(tmp_path_factory.mktemp(family))
        return folder, *save(family, folder)

    return save_once


def _vectors(encoder, texts):
    batch = [encoder.prepare(text) for text in texts]
    return encoder.encode(batch, encoder.load_model())


def _inputs(family, backbone, tokenizer, text):
    """The inputs of a backbone for one text without any padding."""
    first, last, _ = FAMILIES[family][2]
    ids = [int(token) for token in np.asarray(tokenizer(text))]
    start = [] if first is None else [tokenizer.token_to_id(first)]
    ids = np.array([[*start, *ids, tokenizer.token_to_id(last)]], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    if isinstance(backbone.output, dict) and "encoder_sequence_output" in backbone.output:
        # The decoder's own inputs do not matter to the encoder.
        inputs = {f"{side}_{k}": v for k, v in inputs.items() for side in ("encoder", "decoder")}
    elif "segment_ids" in backbone.input:
        inputs["segment_ids"] = np.zeros_like(ids)
    return inputs


def _states(family, backbone, tokenizer, text):
    """Token states of one text, `[length, size]`."""
    output = backbone(_inputs(family, backbone, tokenizer, text))
    if isinstance(output, dict):
        output = output.get("encoder_sequence_output", output.get("sequence_output"))
    return np.asarray(output)[0]


_POOL = {"mean": lambda s: s.mean(axis=0), "cls": lambda s: s[0], "last": lambda s: s[-1]}


@pytest.mark.parametrize(
    "family",
    [f if f in FAST else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)
def test_pooling_is_what_numpy_makes_of_unpadded_token_states(saved, family):
    folder, backbone, tokenizer = saved(family)
    texts = TEXTS[2:5]
    states = [_states(family, backbone, tokenizer, text) for text in texts]
    poolings = {"auto": _POOL[FAMILIES[family][2][2]]}
    if family == "Bert":
        poolings["cls"] = _POOL["cls"]
    for pooling, pool in poolings.items():
        expected = np.stack([pool(values) for values in states])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        encoder = KerasHubTextEncoder(folder, pooling, max_tokens=64, batch_size=4)
        assert_near(_vectors(encoder, texts), expected, 2e-5)


BLOCKS = {
    "DebertaV3": "disentangled_attention_encoder_layer_0",
    "Gemma": "decoder_block_0",
    "T5": "transformer_encoder_layer_0",
    "Bart": "transformer_encoder_layer_0",
}
"""Names of the first block where it is not `transformer_layer_0`."""


def _first_levels(family, backbone, inputs):
    """What enters the first block and what leaves it, `[length, size]` each."""
    import keras

    block = backbone.get_layer(BLOCKS.get(family, "transformer_layer_0"))
    entering, leaving = (
        tensors[0] if isinstance(tensors, (list, tuple)) else tensors
        for tensors in (block.input, block.output)
    )
    found = keras.Model(backbone.input, [entering, leaving])(inputs)
    return [np.asarray(level)[0] for level in found]


def _choice(**changed):
    return StateChoice(
        **{"key": "encode.text.states", "groups": 2, "layers": None}
        | {"pooling": "mean", "dtype": "float16"}
        | changed
    )


def _levels(encoder, texts, count):
    """The vectors and the states of texts, `[texts, count, size]`."""
    rows = _vectors(encoder, texts)
    size = encoder.size(encoder.load_model())
    assert rows.shape[1] == size + encoder.states(encoder.load_model()).size
    return rows[:, :size], rows[:, size:].reshape(len(texts), count, -1)


@pytest.mark.parametrize(
    "family",
    [
        f if f in FAST else pytest.param(f, marks=pytest.mark.slow)
        for f in FAMILIES
        if f != "Albert"
    ],
)
def test_states_are_the_levels_of_the_backbone(saved, family):
    folder, backbone, tokenizer = saved(family)
    encoder = KerasHubTextEncoder(folder, "mean", max_tokens=64, batch_size=4)
    plain = _vectors(encoder, TEXTS)
    encoder.chosen = _choice()
    vectors, levels = _levels(encoder, TEXTS, 3)
    np.testing.assert_array_equal(vectors, plain)
    assert encoder.states(encoder.load_model()).layers == (0, 1, 2)
    # The last level, pooled and normalised as the vector is, is the vector.
    last = levels[:, 2] / np.linalg.norm(levels[:, 2], axis=1, keepdims=True)
    assert_near(last, vectors)
    inputs = _inputs(family, backbone, tokenizer, TEXTS[0])
    expected = [level.mean(axis=0) for level in _first_levels(family, backbone, inputs)]
    assert_near(levels[0, :2], np.stack(expected), 2e-5)
    # Alone, and beside a text that pads it to 64 tokens.
    for texts in (TEXTS[:1], [TEXTS[0], "red " * 64]):
        assert_near(_levels(encoder, texts, 3)[1][0], levels[0], 2e-5)
    encoder.chosen = _choice(layers=(1,))
    np.testing.assert_array_equal(_levels(encoder, TEXTS, 1)[1], levels[:, 1:2])


def test_class_tokens_as_states_are_those_of_encoders_that_have_one(saved):
    encoder = KerasHubTextEncoder(saved("Bert")[0], "cls", max_tokens=64)
    encoder.chosen = _choice(pooling="cls")
    vectors, levels = _levels(encoder, TEXTS, 3)
    last = levels[:, 2] / np.linalg.norm(levels[:, 2], axis=1, keepdims=True)
    assert_near(last, vectors)
    # Before the first layer it has read nothing.
    np.testing.assert_array_equal(levels[:, 0], np.broadcast_to(levels[0, 0], levels[:, 0].shape))
    for family in ("T5", "Llama3"):  # without one, or with one that sees itself only
        encoder = KerasHubTextEncoder(saved(family)[0])
        encoder.chosen = _choice(pooling="cls")
        with pytest.raises(ConfigError, match=rf"{family}Backbone has no class token"):
            encoder.load_model()


def test_layers_that_share_their_weights_and_too_many_groups_are_refused(saved):
    albert = KerasHubTextEncoder(saved("Albert")[0])
    albert.chosen = _choice()
    message = r"AlbertBackbone gives no states: its layers share their weights.*states=null"
    with pytest.raises(ConfigError, match=message):
        albert.load_model()
    bert = KerasHubTextEncoder(saved("Bert")[0])
    bert.chosen = _choice(groups=6)
    with pytest.raises(ConfigError, match=r"BertBackbone has 2\. Received: 6"):
        bert.load_model()


def test_of_an_encoder_decoder_no_decoder_weight_is_kept(saved):
    folder, backbone, _ = saved("T5")
    network = KerasHubTextEncoder(folder, max_tokens=64).load_model().network
    assert set(network.input) == {"token_ids", "padding_mask"}
    assert not any("decoder" in weight.path for weight in network.weights)
    assert network.count_params() < backbone.count_params()


def test_vectors_do_not_depend_on_batch_mates_padding_or_the_call(saved):
    encoder = KerasHubTextEncoder(saved("Llama3")[0], max_tokens=64, batch_size=4)
    together = _vectors(encoder, TEXTS)
    np.testing.assert_array_equal(_vectors(encoder, TEXTS), together)
    assert_near(_vectors(encoder, TEXTS[::-1])[::-1], together)
    alone = _vectors(encoder, TEXTS[:1])[0]
    # Beside a text of 64 tokens the same text is padded to 64.
    beside = _vectors(encoder, [TEXTS[0], "red " * 64])[0]
    assert_near(alone, together[0])
    assert_near(beside, together[0])


def test_vectors_do_not_depend_on_which_call_was_the_first(saved):
    encoder = KerasHubTextEncoder(saved("Bert")[0], max_tokens=64)
    at_once, later = encoder.build(), encoder.build()
    encoder.encode(TEXTS[3:], later)
    encoder.encode(["red " * 40], later)
    expected = encoder.encode(TEXTS[:3], at_once)
    np.testing.assert_array_equal(encoder.encode(TEXTS[:3], later), expected)


def test_texts_in_any_script_differ(saved):
    vectors = _vectors(KerasHubTextEncoder(saved("Llama3")[0], "mean"), TEXTS)
    similar = vectors @ vectors.T - np.eye(len(TEXTS))
    assert np.isfinite(vectors).all() and similar.max() < 0.9999
    bert = _vectors(KerasHubTextEncoder(saved("Bert")[0]), ["红色领带", "cafe\u0301", "cafe", "☂"])
    assert np.isfinite(bert).all()
    assert_near(bert[1], bert[2])
    assert np.abs(bert[0] - bert[3]).max() > 1e-3


def test_long_texts_are_cut_to_max_tokens(saved):
    encoder = KerasHubTextEncoder(saved("Llama3")[0], max_tokens=16)
    cut, other = _vectors(encoder, ["red " * 500, "red " * 14])
    assert_near(cut, other)


def test_presets_that_take_no_text_alone_are_refused(tmp_path):
    import keras_hub

    keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    ).save_to_preset(str(tmp_path))
    with pytest.raises(ConfigError, match=r"`encode.text.preset`"):
        KerasHubTextEncoder(str(tmp_path)).load_model()
    with pytest.raises(ConfigError, match=r"cannot load the preset 'bert_of_nobody'"):
        KerasHubTextEncoder("bert_of_nobody").load_model()
