"""Keras Hub text presets, tiny and saved on the spot, through the real loading code."""

import functools
import io

import numpy as np
import pytest

from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder
from kdsr_tf.errors import ConfigError
from tests.nearness import assert_near

TEXTS = [
    "red silk tie",
    "a blue suit",
    "tie",
    "red red shirt, blue tie and a silk suit",
    "حذاء أحمر",
    "红色领带",
    "लाल टाई",
    "☂ 👔🏽",
    "cafe\u0301",
]
SIZES = {"num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}
HEADS = {"num_heads": 2, **SIZES}
GROUPED = {"num_query_heads": 2, "num_key_value_heads": 1, **SIZES}


@functools.cache
def _pieces(*special):
    """A SentencePiece model over words of `TEXTS`; it spells what it does not know in bytes."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS[:4] * 4),
        model_writer=model,
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        control_symbols=list(special),
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        unk_id=0,
    )
    return model.getvalue()


def _bytes_of_bpe():
    """The 256 letters that byte-level BPE writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + k) for k in range(len(others))]


def _byte_pairs(*special):
    merges = ["r e", "re d", "t i", "ti e", "Ġ red"]
    words = [*special, *_bytes_of_bpe(), *(merge.replace(" ", "") for merge in merges)]
    return {"vocabulary": {word: k for k, word in enumerate(words)}, "merges": merges}


def _word_pieces(kind):
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "silk", "tie", "blue", ","]
    words += letters + [f"##{letter}" for letter in letters] + list("红色领带")
    return getattr(_hub(), f"{kind}Tokenizer")(vocabulary=words, lowercase=True)


def _hub():
    import keras_hub

    return keras_hub.models


def _backbone(kind, tokenizer, **options):
    return getattr(_hub(), f"{kind}Backbone")(
        vocabulary_size=tokenizer.vocabulary_size(), **options
    )


# Per family: tokenizer, backbone, first and last token of a text, pooling of `auto`.
FAMILIES = {
    "Bert": (
        lambda: _word_pieces("Bert"),
        lambda t: _backbone("Bert", t, **HEADS, max_sequence_length=64),
        ("[CLS]", "[SEP]", "mean"),
    ),
    "DistilBert": (
        lambda: _word_pieces("DistilBert"),
        lambda t: _backbone("DistilBert", t, **HEADS, max_sequence_length=64),
        ("[CLS]", "[SEP]", "mean"),
    ),
    "Roberta": (
        lambda: _hub().RobertaTokenizer(**_byte_pairs("<s>", "<pad>", "</s>", "<mask>")),
        lambda t: _backbone("Roberta", t, **HEADS, max_sequence_length=64),
        ("<s>", "</s>", "mean"),
    ),
    "Albert": (
        lambda: _hub().AlbertTokenizer(proto=_pieces("<pad>", "[CLS]", "[SEP]", "[MASK]")),
        lambda t: _backbone("Albert", t, **HEADS, embedding_dim=8, max_sequence_length=64),
        ("[CLS]", "[SEP]", "mean"),
    ),
    "DebertaV3": (
        lambda: _hub().DebertaV3Tokenizer(proto=_pieces("[PAD]", "[CLS]", "[SEP]", "[MASK]")),
        lambda t: _backbone("DebertaV3", t, **HEADS, max_sequence_length=64, bucket_size=8),
        ("[CLS]", "[SEP]", "mean"),
    ),
    "Bart": (
        lambda: _hub().BartTokenizer(**_byte_pairs("<s>", "<pad>", "</s>", "<mask>")),
        lambda t: _backbone("Bart", t, **HEADS, max_sequence_length=64),
        ("<s>", "</s>", "mean"),
    ),
    "Llama": (
        lambda: _hub().LlamaTokenizer(proto=_pieces("<s>", "</s>")),
        lambda t: _backbone("Llama", t, **GROUPED),
        ("<s>", "</s>", "last"),
    ),
    "Llama3": (
        lambda: _hub().Llama3Tokenizer(
            **_byte_pairs(
                "<|begin_of_text|>",
                "<|end_of_text|>",
                "<|eot_id|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
            )
        ),
        lambda t: _backbone("Llama3", t, **GROUPED),
        ("<|begin_of_text|>", "<|end_of_text|>", "last"),
    ),
    "Mistral": (
        lambda: _hub().MistralTokenizer(proto=_pieces("<s>", "</s>")),
        lambda t: _backbone("Mistral", t, **GROUPED, sliding_window=16),
        ("<s>", "</s>", "last"),
    ),
    "Gemma": (
        lambda: _hub().GemmaTokenizer(proto=_pieces("<pad>", "<bos>", "<eos>")),
        lambda t: _backbone("Gemma", t, **GROUPED, head_dim=4),
        ("<bos>", "<eos>", "last"),
    ),
    "Qwen": (
        lambda: _hub().QwenTokenizer(**_byte_pairs("<|endoftext|>", "<|im_end|>")),
        lambda t: _backbone("Qwen", t, **GROUPED),
        (None, "<|endoftext|>", "last"),
    ),
    "Qwen3": (
        lambda: _hub().Qwen3Tokenizer(**_byte_pairs("<|endoftext|>", "<|im_end|>")),
        lambda t: _backbone("Qwen3", t, **GROUPED, head_dim=4),
        (None, "<|im_end|>", "last"),
    ),
    "GPT2": (
        lambda: _hub().GPT2Tokenizer(**_byte_pairs("<|endoftext|>")),
        lambda t: _backbone("GPT2", t, **HEADS, max_sequence_length=64),
        (None, "<|endoftext|>", "last"),
    ),
    "T5": (
        lambda: _hub().T5Tokenizer(proto=_pieces("<pad>", "</s>")),
        lambda t: _backbone("T5", t, **HEADS | {"num_layers": 1}),
        (None, "</s>", "mean"),
    ),
}
FAST = ("Bert", "Llama3", "T5")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saves a family once: its folder, backbone and tokenizer."""

    @functools.cache
    def save(family):
        import keras

        keras.utils.set_random_seed(5)
        folder = str(tmp_path_factory.mktemp(family))
        new_tokenizer, new_backbone, _ = FAMILIES[family]
        tokenizer = new_tokenizer()
        backbone = new_backbone(tokenizer)
        draws = np.random.default_rng(5)
        backbone.set_weights([w + draws.normal(0, 0.1, w.shape) for w in backbone.get_weights()])
        backbone.save_to_preset(folder)
        tokenizer.save_to_preset(folder)
        return folder, backbone, tokenizer

    return save


def _vectors(encoder, texts):
    batch = [encoder.prepare(text) for text in texts]
    return encoder.encode(batch, encoder.load_model())


def _states(family, backbone, tokenizer, text):
    """Token states of one text without any padding, `[length, size]`."""
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
    output = backbone(inputs)
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
