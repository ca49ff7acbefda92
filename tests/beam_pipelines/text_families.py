"""Tiny Keras Hub text backbones of every family, with their tokenizers."""

from __future__ import annotations

import functools
import io

import numpy as np

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
        lambda t: _backbone("T5", t, **HEADS),
        (None, "</s>", "mean"),
    ),
}


def save(family, folder):
    """Write a tiny preset of a family with random weights; returns its backbone and tokenizer."""
    import keras

    keras.utils.set_random_seed(5)
    new_tokenizer, new_backbone, _ = FAMILIES[family]
    tokenizer = new_tokenizer()
    backbone = new_backbone(tokenizer)
    draws = np.random.default_rng(5)
    backbone.set_weights([w + draws.normal(0, 0.1, w.shape) for w in backbone.get_weights()])
    backbone.save_to_preset(folder)
    tokenizer.save_to_preset(folder)
    return backbone, tokenizer
