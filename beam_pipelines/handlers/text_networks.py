"""From a Keras Hub preset to a network that turns token ids into one vector per text."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from beam_pipelines.handlers.hidden_states import StateChoice, States
from beam_pipelines.handlers.keras_models import (
    PRESET_ERRORS,
    from_preset,
    import_keras_hub,
    unloadable,
)
from beam_pipelines.handlers.network_states import with_states
from kdsr_tf.errors import ConfigError

PRESET = "encode.text.preset"
BUCKET = 16
"""Token lengths are padded to a multiple of this."""

_INPUTS = {"token_ids", "padding_mask", "segment_ids"}


@dataclasses.dataclass(frozen=True)
class TextNetwork:
    """A network over tokens and what makes its tokens.

    Args:
        network: `keras.Model` from `token_ids` and `padding_mask`, int32
            `[batch, length]`, to float `[batch, size]`, the states included.
        tokenizer: Keras Hub tokenizer of the preset.
        limit: Longest token sequence.
        states: What the states beside the vectors are, or None.
    """

    network: Any
    tokenizer: Any
    limit: int
    states: States | None = None

    def tokenize(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Token ids between start and end tokens, where the tokenizer has them, right-padded.

        Returns:
            `token_ids` and `padding_mask`, int32 `[len(texts), length]`; the length
            is a multiple of `BUCKET` or `limit`.
        """
        tokens = self.tokenizer(list(texts))
        tokens = tokens.to_list() if hasattr(tokens, "to_list") else tokens
        last = getattr(self.tokenizer, "end_token_id", None)
        start = _start_tokens(self.tokenizer)
        end = [] if last is None else [last]
        room = self.limit - len(start) - len(end)
        rows = [[*start, *ids[:room], *end] for ids in tokens]
        # A backbone's bucket may be wider than the longest text of the group.
        width = min(self.limit, -(-max(map(len, rows)) // BUCKET) * BUCKET)
        pad = getattr(self.tokenizer, "pad_token_id", None) or 0
        ids = np.full((len(rows), width), pad, np.int32)
        mask = np.zeros((len(rows), width), np.int32)
        for row, values in enumerate(rows):
            ids[row, : len(values)] = values
            mask[row, : len(values)] = 1
        return {"token_ids": ids, "padding_mask": mask}


def _start_tokens(tokenizer: Any) -> list[int]:
    """The token before every text, where there is one."""
    first = getattr(tokenizer, "start_token_id", None)
    # T5 names its end token as start token too; its encoder knows no start.
    is_end = first == getattr(tokenizer, "end_token_id", None)
    return [] if first is None or is_end else [first]


def load_text_network(
    preset: str, pooling: str, max_tokens: int, chosen: StateChoice | None = None
) -> TextNetwork:
    """Load a preset and pool its token states.

    Of an encoder-decoder (T5, BART) the encoder is taken; its decoder is left out
    of the network.

    Args:
        preset: Preset name or local folder (Keras Hub's or Hugging Face's format).
        pooling: `auto`, `mean`, `cls` or `last`, as in `encode.text.pooling`.
        max_tokens: Longest token sequence, if the model takes as many.
        chosen: States to give beside the vectors, or None.

    Raises:
        ConfigError: if the preset cannot be loaded, does not take text alone or does not have
            those states.
    """
    hub = import_keras_hub()
    embedder = _embedder(hub, preset) if pooling == "auto" else None
    if embedder is not None:
        backbone, tokenizer = embedder.backbone, embedder.preprocessor.tokenizer
    else:
        backbone = from_preset(hub.models.Backbone.from_preset, preset, PRESET)
        tokenizer = from_preset(hub.models.Tokenizer.from_preset, preset, PRESET)
    _check_bytes(hub, tokenizer, preset)
    _strip_accents(tokenizer, preset)
    longest = getattr(backbone, "max_sequence_length", None) or max_tokens
    network = _pooled(hub, backbone, pooling) if embedder is None else _over_tokens(embedder)
    limit = min(max_tokens, longest)
    if chosen is None:
        return TextNetwork(network, tokenizer, limit)
    has_class_token = bool(_start_tokens(tokenizer)) and not _is_causal(hub, backbone)
    chosen.needs_class_token(has_class_token, type(backbone).__name__)
    pool = _POOLINGS[chosen.pooling]
    network, states = with_states(
        network, backbone, chosen, lambda level, inputs: pool(level, inputs["padding_mask"])
    )
    return TextNetwork(network, tokenizer, limit, states)


def _embedder(hub: Any, preset: str) -> Any | None:
    """The preset's own text embedder, or None where Keras Hub has none."""
    try:
        return hub.models.TextEmbedder.from_preset(preset)
    except ValueError as error:
        if "subclass of TextEmbedder" in str(error):
            return None
        raise unloadable(preset, PRESET, error) from error
    except PRESET_ERRORS as error:
        raise unloadable(preset, PRESET, error) from error


def _pooled(hub: Any, backbone: Any, pooling: str) -> Any:
    """A backbone's states, pooled to unit length."""
    import keras

    if pooling == "auto":
        encoder = "encoder_token_ids" in _names(backbone)
        pooling = "last" if _is_causal(hub, backbone) and not encoder else "mean"
    states = _over_tokens(backbone)
    mask = states.input["padding_mask"]
    pooled = _POOLINGS[pooling](states.output, mask)
    return keras.Model(states.input, keras.ops.normalize(pooled, axis=-1))


def _over_tokens(model: Any) -> Any:
    """A backbone or embedder as a model of `token_ids` and `padding_mask` only."""
    import keras

    names = _names(model)
    prefix = "encoder_" if "encoder_token_ids" in names else ""
    if prefix:
        inputs = {name: model.input[name] for name in names if name.startswith(prefix)}
        model = keras.Model(inputs, model.output["encoder_sequence_output"])
        names = set(inputs)
    taken = {name.removeprefix(prefix) for name in names}
    if not {"token_ids", "padding_mask"} <= taken <= _INPUTS:
        raise ConfigError(
            f"`{PRESET}`: {type(model).__name__} does not take `token_ids` and "
            f"`padding_mask` only. Its inputs: {', '.join(sorted(names)) or 'unnamed'}. "
            "Choose the preset of a text model."
        )
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    given = {"token_ids": ids, "padding_mask": mask, "segment_ids": keras.ops.zeros_like(ids)}
    output = model({f"{prefix}{name}": given[name] for name in sorted(taken)})
    if isinstance(output, dict):
        output = output["sequence_output"]
    return keras.Model({"token_ids": ids, "padding_mask": mask}, output)


def _names(model: Any) -> set[str]:
    return set(model.input) if isinstance(model.input, dict) else set()


def _is_causal(hub: Any, backbone: Any) -> bool:
    """Whether Keras Hub generates text with this kind of backbone."""

    def kinds(task: Any) -> Iterator[Any]:
        yield task
        for kind in task.__subclasses__():
            yield from kinds(kind)

    return any(kind.backbone_cls is type(backbone) for kind in kinds(hub.models.CausalLM))


def _check_bytes(hub: Any, tokenizer: Any, preset: str) -> None:
    """Refuse a vocabulary that Keras Hub reads as byte-level BPE, but is not.

    Hugging Face folders of Llama 2 and its kin spell a space "▁" instead of "Ġ". Keras
    Hub 0.32 would drop spaces and every letter outside ASCII, without an error.
    """
    byte_pairs = isinstance(tokenizer, hub.tokenizers.BytePairTokenizer)
    if byte_pairs and "Ġ" not in tokenizer.get_vocabulary():
        raise ConfigError(
            f"`{PRESET}`: the tokenizer of {preset!r} is no byte-level BPE, the only kind "
            f"that Keras Hub reads for {type(tokenizer).__name__} in this format. Choose "
            "the model's preset in Keras Hub's own format."
        )


def _strip_accents(tokenizer: Any, preset: str) -> None:
    """Make a lower-casing WordPiece tokeniser drop accents, as BERT's own does.

    Uncased vocabularies hold no accented letters; Keras Hub 0.32 keeps accents,
    so that every accented word would be unknown. A Hugging Face folder that
    asks for accents explicitly keeps them.
    """
    if not getattr(tokenizer, "lowercase", False) or not hasattr(tokenizer, "strip_accents"):
        return
    settings: dict[str, Any] = {}
    path = os.path.join(preset, "tokenizer_config.json")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    tokenizer.strip_accents = settings.get("strip_accents") is not False


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
