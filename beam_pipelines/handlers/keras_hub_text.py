"""Text encoders of Keras Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.handlers.encoder import TextEncoder
from beam_pipelines.handlers.hidden_states import States
from beam_pipelines.handlers.keras_models import (
    HubPreset,
    for_each,
    has_accelerator,
    in_precision,
    predict,
    vector_size,
)
from beam_pipelines.handlers.text_networks import (
    BUCKET,
    PRESET,
    TextNetwork,
    load_text_network,
)

TOKENS_PER_TEXT = 16
"""Tokens that one text of `batch_size` stands for."""


class Call(NamedTuple):
    """One call of the network.

    Args:
        rows: Positions of its texts in the group.
        width: Tokens of each, padding included.
        most: Rows of a full call of this width.
    """

    rows: np.ndarray
    width: int
    most: int


class KerasHubTextEncoder(HubPreset, TextEncoder):
    """A Keras Hub text backbone, one L2-normalised vector per text.

    With `pooling="auto"` a preset that Keras Hub has a `TextEmbedder` for (BERT,
    sentence-transformers folders, Qwen3 and Gemma3 embedding models) uses it, with
    the pooling and projection of its own; of any other preset the last token of a
    causal backbone is taken, the mean of the tokens of any other.

    The texts of a group are tokenised together and sorted by length. A call of the
    network takes as many as fit into `16 * batch_size` tokens, padded to the longest
    of them and never to `max_tokens`: many short texts or few long ones. On a CPU one
    graph serves every shape, because compiling with XLA gains an eighth and its
    padding to few shapes costs more; an accelerator compiles one shape per multiple
    of 16 tokens.

    Args:
        preset: Preset name or local folder (Keras Hub's or Hugging Face's format).
        pooling: `auto`, or over the tokens of the backbone `mean`, `cls` (the first)
            or `last` (the last real one).
        max_tokens: Longest token sequence; longer texts are cut.
        batch_size: Texts of 16 tokens per call of the model, > 0.
        precision: Keras dtype policy: `float32`, `mixed_float16` or `mixed_bfloat16`.
    """

    name = "keras_hub_text"

    group_size = 2048

    def __init__(
        self,
        preset: str,
        pooling: str = "auto",
        max_tokens: int = 256,
        batch_size: int = 64,
        precision: str = "float32",
    ):
        super().__init__(preset, PRESET, batch_size)
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.precision = precision

    def parameters(self) -> dict[str, Any]:
        return super().parameters() | {
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "precision": self.precision,
        }

    @in_precision
    def build(self) -> TextNetwork:
        model = load_text_network(self.preset, self.pooling, self.max_tokens, self.chosen)
        model.network.jit_compile = has_accelerator()
        if not model.network.jit_compile:
            _compile_for_all_shapes(model.network)
        return model

    def size(self, model: TextNetwork) -> int:
        return vector_size(model)

    def states(self, model: TextNetwork) -> States | None:
        return model.states

    def encode(self, batch: Sequence[str], model: TextNetwork) -> np.ndarray:
        inputs = model.tokenize(batch)
        lengths = inputs["padding_mask"].sum(axis=1)
        vectors = np.empty((len(batch), model.network.output_shape[-1]), np.float32)
        fixed = model.network.jit_compile

        def run(call: Call) -> None:
            cut = {name: values[call.rows, : call.width] for name, values in inputs.items()}
            vectors[call.rows] = predict(
                model.network.predict_on_batch, cut, call.most if fixed else None
            )

        for_each(
            run, plan_calls(lengths, self.batch_size * TOKENS_PER_TEXT, BUCKET if fixed else 1)
        )
        return vectors


def _compile_for_all_shapes(network: Any) -> None:
    """Let TensorFlow compile one graph for every shape of a call.

    It compiles the first shape that it sees for itself and the second for all others, and the
    two round differently. Without this, vectors would show which call was the first, and so
    how many workers and threads there were.
    """
    for size in (2, 3):
        ones = np.ones((size, size), np.int32)
        network.predict_on_batch({"token_ids": ones, "padding_mask": ones})


def plan_calls(lengths: np.ndarray, tokens: int, bucket: int) -> list[Call]:
    """Cut the texts of a group into calls of about equal work, longest texts first.

    Args:
        lengths: Number of tokens of each text.
        tokens: Most tokens of a call, padding included; a longer text has its own.
        bucket: Widths are multiples of this.

    Example:
        >>> [call.rows.tolist() for call in plan_calls(np.array([3, 9, 2, 8]), 20, 1)]
        [[1, 3], [0, 2]]
    """
    order = np.argsort(-lengths, kind="stable")
    calls, start = [], 0
    while start < len(order):
        width = -(-max(int(lengths[order[start]]), 1) // bucket) * bucket
        most = max(1, tokens // width)
        calls.append(Call(order[start : start + most], width, most))
        start += most
    return calls
