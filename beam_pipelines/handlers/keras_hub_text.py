"""Text encoders of Keras Hub."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from beam_pipelines.handlers.encoder import TextEncoder, files_below, local_folder
from beam_pipelines.handlers.keras_models import (
    PRESET_ERRORS,
    from_preset,
    has_accelerator,
    import_keras_hub,
    predict,
    unloadable,
    weights_digest,
)
from kdsr_tf.errors import ConfigError

_KEY = "encode.text.preset"
_BUCKET = 16
"""Token lengths are padded to a multiple of this."""

XLA_ITEMS = 20_000
"""Texts from which compiling every input shape pays on a CPU: compiling takes seconds each."""


@dataclasses.dataclass(frozen=True)
class _Model:
    network: Any
    tokenize: Callable[[Sequence[str]], dict[str, np.ndarray]]


class KerasHubTextEncoder(TextEncoder):
    """A Keras Hub text backbone, one L2-normalised vector per text.

    With `pooling="mean"` a preset that Keras Hub has a `TextEmbedder` for
    (BERT family, sentence-transformers folders, embedding models) uses it, with
    the pooling and projection of its own. Otherwise the backbone's token states
    are pooled here. The texts of a group are tokenised together, sorted by
    length and padded to a multiple of 16 tokens, never to `max_tokens`.

    Args:
        preset: Preset name or local folder (Keras Hub's or Hugging Face's format).
        pooling: `mean`, `cls` (first token) or `last` (last real token).
        max_tokens: Longest token sequence; longer texts are cut.
        batch_size: Texts per call of the model, > 0.
        xla: Whether to compile with XLA on a CPU. An accelerator always does.
    """

    name = "keras_hub_text"

    def __init__(
        self,
        preset: str,
        pooling: str = "mean",
        max_tokens: int = 256,
        batch_size: int = 64,
        xla: bool = False,
    ):
        super().__init__(batch_size)
        self.folder = local_folder(preset, _KEY)
        self.preset = self.folder or preset
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.xla = xla

    def parameters(self) -> dict[str, Any]:
        values = {"pooling": self.pooling, "max_tokens": self.max_tokens}
        return values if self.folder else values | {"preset": self.preset}

    def files(self) -> list[str]:
        return files_below(self.folder) if self.folder else []

    def digest(self) -> str:
        if self.folder:
            return self.identity()
        return weights_digest([self.identity().encode(), *self.load_model().network.get_weights()])

    def build(self) -> _Model:
        hub = import_keras_hub()
        model = None
        if self.pooling == "mean":
            model = self._embedder(hub)
        if model is None:
            model = self._pooled_backbone(hub)
        model.network.jit_compile = self.xla or has_accelerator()
        return model

    def size(self, model: _Model) -> int:
        return int(model.network.output_shape[-1])

    def encode(self, batch: Sequence[str], model: _Model) -> np.ndarray:
        inputs = model.tokenize(batch)
        lengths = inputs["padding_mask"].astype(bool).sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        vectors = np.empty((len(batch), self.size(model)), np.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            width = -(-max(int(lengths[rows[-1]]), 1) // _BUCKET) * _BUCKET
            cut = {name: values[rows, :width] for name, values in inputs.items()}
            vectors[rows] = predict(model.network, cut, self.batch_size)
        return vectors

    def _embedder(self, hub: Any) -> _Model | None:
        """The preset's own text embedder, or None where Keras Hub has none."""
        try:
            embedder = hub.models.TextEmbedder.from_preset(self.preset)
        except ValueError as error:
            if "subclass of TextEmbedder" in str(error):
                return None
            raise unloadable(self.preset, _KEY, error) from error
        except PRESET_ERRORS as error:
            raise unloadable(self.preset, _KEY, error) from error
        preprocessor = embedder.preprocessor
        preprocessor.sequence_length = self._limit(embedder.backbone)
        _strip_accents(preprocessor.tokenizer, self.folder)
        # Texts are tokenised once per group, outside of the network's own calls.
        embedder.preprocessor = None

        def tokenize(texts: Sequence[str]) -> dict[str, np.ndarray]:
            return {name: np.asarray(v) for name, v in preprocessor(list(texts)).items()}

        return _Model(embedder, tokenize)

    def _pooled_backbone(self, hub: Any) -> _Model:
        import keras

        backbone = from_preset(hub.models.Backbone.from_preset, self.preset, _KEY)
        tokenizer = from_preset(hub.models.Tokenizer.from_preset, self.preset, _KEY)
        _strip_accents(tokenizer, self.folder)
        names = set(backbone.input) if isinstance(backbone.input, dict) else set()
        if not {"token_ids", "padding_mask"} <= names:
            raise ConfigError(
                f"`{_KEY}`: {type(backbone).__name__} does not take `token_ids` and "
                f"`padding_mask` only. Its inputs: {', '.join(sorted(names)) or 'unnamed'}."
            )
        states = backbone.output
        if isinstance(states, dict):
            states = states["sequence_output"]
        pooled = _POOLINGS[self.pooling](states, backbone.input["padding_mask"])
        network = keras.Model(backbone.input, keras.ops.normalize(pooled, axis=-1))
        limit = self._limit(backbone)

        def tokenize(texts: Sequence[str]) -> dict[str, np.ndarray]:
            inputs = _pack(tokenizer, texts, limit)
            return {name: inputs[name] for name in names}

        return _Model(network, tokenize)

    def _limit(self, backbone: Any) -> int:
        longest = getattr(backbone, "max_sequence_length", None) or self.max_tokens
        return min(self.max_tokens, longest)


def _strip_accents(tokenizer: Any, folder: str | None) -> None:
    """Make a lower-casing WordPiece tokeniser drop accents, as BERT's own does.

    Uncased vocabularies hold no accented letters; Keras Hub 0.32 keeps accents,
    so that every accented word would be unknown. A Hugging Face folder that
    asks for accents explicitly keeps them.
    """
    if not getattr(tokenizer, "lowercase", False) or not hasattr(tokenizer, "strip_accents"):
        return
    settings: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        if folder:
            with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
                settings = json.load(file)
    tokenizer.strip_accents = settings.get("strip_accents") is not False


def _pack(tokenizer: Any, texts: Sequence[str], limit: int) -> dict[str, np.ndarray]:
    """Token ids with start and end tokens where the tokenizer has them, right-padded."""
    tokens = tokenizer(list(texts))
    tokens = tokens.to_list() if hasattr(tokens, "to_list") else tokens
    start, end = (
        [] if token is None else [token]
        for token in (
            getattr(tokenizer, "start_token_id", None),
            getattr(tokenizer, "end_token_id", None),
        )
    )
    room = limit - len(start) - len(end)
    rows = [[*start, *ids[:room], *end] for ids in tokens]
    longest = max(map(len, rows))
    # A backbone's bucket may be wider than the longest text of the group.
    width = min(limit, -(-longest // _BUCKET) * _BUCKET)
    pad = getattr(tokenizer, "pad_token_id", None) or 0
    ids = np.full((len(rows), width), pad, np.int32)
    mask = np.zeros((len(rows), width), np.int32)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}


def _mean(states: Any, mask: Any) -> Any:
    from keras import ops

    mask = ops.cast(mask, states.dtype)[..., None]
    return ops.sum(states * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)


def _cls(states: Any, mask: Any) -> Any:
    return states[:, 0]


def _last(states: Any, mask: Any) -> Any:
    from keras import ops

    mask = ops.cast(mask, "int32")
    following = ops.pad(mask[:, 1:], [[0, 0], [0, 1]])
    ends = ops.cast(mask * (1 - following), states.dtype)[..., None]
    return ops.sum(states * ends, axis=1)


_POOLINGS = {"mean": _mean, "cls": _cls, "last": _last}
