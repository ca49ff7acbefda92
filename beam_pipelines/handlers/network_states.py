"""The states of a Keras network's layers, beside its vectors and from the same calls."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from beam_pipelines.handlers.hidden_states import StateChoice, States


def with_states(
    network: Any, backbone: Any, choice: StateChoice, pool: Callable[[Any, Any], Any]
) -> tuple[Any, States]:
    """A network that gives the vectors of `network`, and states side by side with them.

    Layers and weights are shared with `network`, and so are the operations of the vectors.

    Args:
        network: Functional `keras.Model` from contents to vectors that calls `backbone`.
        backbone: Keras Hub backbone of the contents.
        choice: Which of its levels are kept.
        pool: From a level and the inputs of the network to one vector per content.

    Returns:
        The new network, float32 `[batch, vector and states]`, and what its states are.

    Raises:
        ConfigError: if the backbone does not have those levels, or none at all.
    """
    import keras
    from keras import ops

    found = _with_levels(network, _blocks_of(backbone, choice))
    vectors, levels = found.output
    if not levels:
        raise choice.refuse(type(backbone).__name__, "its layers do not reach the vectors")
    kept = choice.kept(len(levels) - 1, type(backbone).__name__)
    # In float32: the sum of large states does not fit float16.
    pooled = [pool(ops.cast(levels[level], "float32"), found.input) for level in kept]
    columns = [ops.cast(column, "float32") for column in (vectors, *pooled)]
    wide = keras.Model(found.input, ops.concatenate(columns, axis=-1))
    return wide, choice.give(kept, [column.shape[-1] for column in pooled])


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """The layers of a backbone whose outputs are levels.

    Args:
        layers: Those layers.
        entry: Whether what enters the first one is level 0; otherwise its output is.
        holder: The one layer of the network's graph that holds them all, or None.
    """

    layers: list[Any]
    entry: bool = True
    holder: Any = None

    def __contains__(self, layer: Any) -> bool:
        return any(layer is block for block in self.layers)

    def complete(self, levels: list[Any]) -> bool:
        """Whether the last block has given its level."""
        return len(levels) == len(self.layers) + self.entry


_LISTS = ("encoder_transformer_layers", "transformer_layers", "encoder_layers", "stages")
"""Where Keras Hub 0.32 keeps the blocks of a backbone; of an encoder-decoder, the encoder's."""

_INNER_LISTS = ("encoder_layers", "layers")
"""Where a layer that is a whole encoder keeps them (ViT, DeiT, DINOv2)."""


def _blocks_of(backbone: Any, choice: StateChoice) -> _Blocks:
    import keras

    def found(holder: Any, attributes: tuple[str, ...]) -> list[Any]:
        lists = (getattr(holder, attribute, None) for attribute in attributes)
        return list(next(filter(None, lists), ()))

    def are_layers(blocks: list[Any]) -> bool:
        return bool(blocks) and all(isinstance(block, keras.layers.Layer) for block in blocks)

    name = type(backbone).__name__
    blocks = found(backbone, _LISTS)
    if are_layers(blocks):
        return _Blocks(blocks)
    if blocks:
        raise choice.refuse(name, "its layers share their weights")
    for layer in backbone.layers:
        blocks = found(layer, _INNER_LISTS)
        if not isinstance(layer, keras.Model) and are_layers(blocks):
            return _Blocks(blocks, holder=layer)
    ends = _ends_of_stages(backbone)
    if not ends:
        raise choice.refuse(name, "Keras Hub does not say which of its layers are blocks or stages")
    return _Blocks(ends, entry=False)


def _ends_of_stages(backbone: Any) -> list[Any]:
    """The layers that end the stages of a convolutional backbone, and the one that ends it all."""
    stages = list((getattr(backbone, "pyramid_outputs", None) or {}).values())
    if not stages:
        return []
    if stages[-1].shape == backbone.output.shape:
        stages.pop()
    stages.append(backbone.output)
    by_output = {id(layer.output): layer for layer in backbone.layers}
    ends = [by_output.get(id(stage)) for stage in stages]
    return [] if None in ends else ends


def _with_levels(model: Any, blocks: _Blocks) -> Any:
    """A model with the outputs of `model` and the list of levels in it, inner models included.

    A layer that reads the last level and keeps its shape is the final normalisation: what it
    gives takes the place of that level.
    """
    import keras

    levels: list[Any] = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            output, inner = _with_levels(layer, blocks)(*args, **kwargs)
            levels.extend(inner)
            return output
        entering: Any = next(iter((*args, *kwargs.values())), None)
        if layer is blocks.holder:
            levels.extend(_walk(layer, blocks.layers, entering))
            return levels[-1]
        output = layer(*args, **kwargs)
        if layer in blocks:
            if blocks.entry and not levels:
                levels.append(entering)
            levels.append(_first(output))
        elif blocks.complete(levels) and entering is levels[-1]:
            is_layer = isinstance(layer, keras.layers.Layer)
            if is_layer and getattr(output, "shape", None) == levels[-1].shape:
                levels[-1] = output
        return output

    copy = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    return keras.Model(copy.input, [copy.output, levels])


def _walk(holder: Any, blocks: list[Any], states: Any) -> list[Any]:
    """The levels of a layer that is a whole encoder, the last one after its normalisation."""
    if "output_hidden_states" in inspect.signature(holder.call).parameters:  # DeiT gives them
        normalised, levels, _ = holder(states, output_hidden_states=True)
        return [*levels[:-1], normalised]
    levels = [states]
    for block in blocks:
        levels.append(_first(block(levels[-1])))
    norm = getattr(holder, "layer_norm", None)
    if norm is not None:
        levels[-1] = norm(levels[-1])
    return levels


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) else output
