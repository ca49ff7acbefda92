"""Hugging Face folders written by hand, against NumPy forward passes over their tensors."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder
from kdsr_tf.errors import ConfigError
from tests.nearness import assert_near

LAYERS, HEADS, KV_HEADS, SIZE, INNER = 2, 4, 2, 16, 24
HEAD = SIZE // HEADS
TEXTS = ["red silk tie", "tie", "red " * 20]


def _vectors(folder, *options):
    encoder = KerasHubTextEncoder(str(folder), *options, max_tokens=64, batch_size=2)
    return encoder.encode(TEXTS, encoder.load_model())


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _softmax(values):
    values = np.exp(values - values.max(axis=-1, keepdims=True))
    return values / values.sum(axis=-1, keepdims=True)


def _attend(query, key, value, causal):
    """Attention over `[length, heads, head]`, back to `[length, heads * head]`."""
    scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(query.shape[-1])
    if causal:
        scores = np.where(np.tri(len(query), dtype=bool), scores, -np.inf)
    return np.einsum("hqk,khd->qhd", _softmax(scores), value).reshape(len(query), -1)


def _write(folder, tensors, **files):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))


# Llama


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    draws = np.random.default_rng(7)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + k) for k in range(256 - len(plain))]
    vocabulary = {letter: k for k, letter in enumerate(letters)} | {"re": 256, "red": 257}
    special = {"<|begin_of_text|>": 258, "<|eot_id|>": 259}
    shapes = {
        "self_attn.q_proj": (SIZE, SIZE),
        "self_attn.k_proj": (KV_HEADS * HEAD, SIZE),
        "self_attn.v_proj": (KV_HEADS * HEAD, SIZE),
        "self_attn.o_proj": (SIZE, SIZE),
        "mlp.gate_proj": (INNER, SIZE),
        "mlp.up_proj": (INNER, SIZE),
        "mlp.down_proj": (SIZE, INNER),
        "input_layernorm": (SIZE,),
        "post_attention_layernorm": (SIZE,),
    }
    tensors = {
        f"model.layers.{layer}.{name}.weight": draws.normal(0, 0.5, shape)
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }
    tensors["model.embed_tokens.weight"] = draws.normal(0, 1, (260, SIZE))
    tensors["model.norm.weight"] = draws.normal(1, 0.2, SIZE)
    tensors = {name: values.astype(np.float32) for name, values in tensors.items()}
    folder = tmp_path_factory.mktemp("llama")
    _write(
        folder,
        tensors,
        config={
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 260,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "hidden_size": SIZE,
            "intermediate_size": INNER,
            "rope_theta": 10_000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
        tokenizer={
            "model": {"type": "BPE", "vocab": vocabulary, "merges": ["r e", "re d"]},
            "added_tokens": [{"content": name, "id": k} for name, k in special.items()],
        },
        tokenizer_config={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    )
    return folder, tensors, vocabulary | special


def _llama_states(tensors, ids):
    def rms(x, name):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * tensors[f"{name}.weight"]

    angles = np.arange(len(ids))[:, None] * 10_000.0 ** (-np.arange(0, HEAD, 2) / HEAD)
    angles = np.concatenate([angles, angles], axis=1)[:, None]

    def rotate(x):
        first, second = np.split(x, 2, axis=-1)
        return x * np.cos(angles) + np.concatenate([-second, first], axis=-1) * np.sin(angles)

    states = tensors["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"

        def project(x, name, at=at):
            return x @ tensors[f"{at}.{name}.weight"].T

        x = rms(states, f"{at}.input_layernorm")
        query, key, value = (
            project(x, f"self_attn.{name}_proj").reshape(len(ids), -1, HEAD) for name in "qkv"
        )
        key, value = (np.repeat(part, HEADS // KV_HEADS, axis=1) for part in (rotate(key), value))
        x = _attend(rotate(query), key, value, causal=True)
        states = states + project(x, "self_attn.o_proj")
        x = rms(states, f"{at}.post_attention_layernorm")
        gate = project(x, "mlp.gate_proj")
        x = gate / (1 + np.exp(-gate)) * project(x, "mlp.up_proj")
        states = states + project(x, "mlp.down_proj")
    return rms(states, "model.norm")


def _llama_ids(vocabulary, text):
    pieces = text.replace(" ", "Ġ").replace("red", "\0")
    ids = [vocabulary["red" if piece == "\0" else piece] for piece in pieces]
    return [vocabulary["<|begin_of_text|>"], *ids, vocabulary["<|eot_id|>"]]


def test_llama_folders_give_the_last_token_of_a_causal_network(llama):
    folder, tensors, vocabulary = llama
    states = [_llama_states(tensors, _llama_ids(vocabulary, text)) for text in TEXTS]
    last = _unit(np.stack([values[-1] for values in states]))
    assert_near(_vectors(folder), last)
    mean = _unit(np.stack([values.mean(axis=0) for values in states]))
    assert_near(_vectors(folder, "mean"), mean)


def test_llama_folders_with_another_kind_of_tokenizer_are_refused(llama, tmp_path):
    shutil.copytree(llama[0], tmp_path / "old")
    vocabulary = {"<s>": 0, "</s>": 1, "▁": 2, "r": 3, "e": 4, "d": 5, "re": 6, "red": 7}
    tokenizer = {"model": {"vocab": vocabulary, "merges": ["r e", "re d"]}, "added_tokens": []}
    (tmp_path / "old" / "tokenizer.json").write_text(json.dumps(tokenizer))
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "old" / "tokenizer_config.json").write_text(json.dumps(ends))
    with pytest.raises(ConfigError, match=r"`encode.text.preset`: .* is no byte-level BPE"):
        _vectors(tmp_path / "old")


# BERT


def _bert(folder, **pooling):
    draws = np.random.default_rng(9)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "silk", "tie"]
    shapes = {
        "attention.self.query": (SIZE, SIZE),
        "attention.self.key": (SIZE, SIZE),
        "attention.self.value": (SIZE, SIZE),
        "attention.output.dense": (SIZE, SIZE),
        "attention.output.LayerNorm": (SIZE,),
        "intermediate.dense": (INNER, SIZE),
        "output.dense": (SIZE, INNER),
        "output.LayerNorm": (SIZE,),
    }
    tensors = {
        "embeddings.word_embeddings.weight": draws.normal(0, 1, (len(vocabulary), SIZE)),
        "embeddings.position_embeddings.weight": draws.normal(0, 1, (64, SIZE)),
        "embeddings.token_type_embeddings.weight": draws.normal(0, 1, (2, SIZE)),
        "embeddings.LayerNorm.weight": draws.normal(1, 0.2, SIZE),
        "embeddings.LayerNorm.bias": draws.normal(0, 0.2, SIZE),
        "pooler.dense.weight": draws.normal(0, 1, (SIZE, SIZE)),
        "pooler.dense.bias": draws.normal(0, 1, SIZE),
    }
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            at = f"encoder.layer.{layer}.{name}"
            tensors[f"{at}.weight"] = draws.normal(0, 0.4, shape)
            tensors[f"{at}.bias"] = draws.normal(0, 0.2, shape[0])
    tensors = {name: values.astype(np.float32) for name, values in tensors.items()}
    _write(
        folder,
        tensors,
        config={
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": len(vocabulary),
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "hidden_size": SIZE,
            "intermediate_size": INNER,
            "max_position_embeddings": 64,
        },
        tokenizer_config={"do_lower_case": True},
        **pooling,
    )
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    ids = [[2, *(vocabulary.index(word) for word in text.split()), 3] for text in TEXTS]
    return [_bert_states(tensors, row) for row in ids]


def _bert_states(tensors, ids):
    def norm(x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-12)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def dense(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    states = tensors["embeddings.word_embeddings.weight"][ids]
    states = states + tensors["embeddings.position_embeddings.weight"][: len(ids)]
    states = states + tensors["embeddings.token_type_embeddings.weight"][0]
    states = norm(states, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            dense(states, f"{at}.attention.self.{name}").reshape(len(ids), HEADS, HEAD)
            for name in ("query", "key", "value")
        )
        x = _attend(query, key, value, causal=False)
        x = dense(x, f"{at}.attention.output.dense")
        states = norm(states + x, f"{at}.attention.output.LayerNorm")
        x = dense(states, f"{at}.intermediate.dense")
        # Keras Hub approximates GELU by tanh; Hugging Face's default is exact.
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        states = norm(states + dense(x, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return states


def test_bert_folders_without_a_pooling_of_their_own_are_averaged(tmp_path):
    states = _bert(tmp_path)
    mean = _unit(np.stack([values.mean(axis=0) for values in states]))
    assert_near(_vectors(tmp_path), mean)


def test_sentence_transformers_folders_say_their_own_pooling(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    # No Normalize module: the vectors keep their length.
    states = _bert(tmp_path, modules=[{"type": "sentence_transformers.models.Pooling"}])
    first = np.stack([values[0] for values in states])
    assert_near(_vectors(tmp_path), first, 1e-4)
    assert_near(_vectors(tmp_path, "cls"), _unit(first))


def test_a_folder_of_an_unknown_model_type_is_named(tmp_path):
    _write(tmp_path, {"x": np.zeros(1, np.float32)}, config={"model_type": "abacus"})
    with pytest.raises(ConfigError, match=r"`encode.text.preset`: cannot load .*abacus"):
        _vectors(tmp_path)
