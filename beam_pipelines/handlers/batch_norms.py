"""Batch normalisation at inference, folded into the convolutions before it."""

from __future__ import annotations

from typing import Any

import numpy as np


def fold_batch_norms(network: Any) -> Any:
    """A network with the outputs of `network` at inference, and fewer operations.

    At inference a batch normalisation is a scale and a shift of each channel, and so can be
    part of the kernel and the bias of a convolution without activation that nothing else
    reads. TensorFlow folds those of ordinary convolutions by itself where weights are
    constants, and those of depthwise ones not.

    Args:
        network: A Functional `keras.Model`, channels last. It is left as it is.

    Returns:
        Another model; the given one, where there is nothing to fold.
    """
    import keras

    norms = {
        layer.name: norm for layer in network.layers if (norm := _norm_after(layer)) is not None
    }
    if not norms:
        return network
    folded = {norm.name for norm in norms.values()}

    class Nothing(keras.layers.Layer):
        """In place of a normalisation, with its arguments."""

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return inputs

    def clone(layer: Any) -> Any:
        if layer.name in folded:
            return Nothing(name=layer.name)
        changed = {"use_bias": True} if layer.name in norms else {}
        return type(layer).from_config(layer.get_config() | changed)

    copy = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in norms:
            copy.get_layer(layer.name).set_weights(_folded(layer, norms[layer.name]))
        elif layer.name not in folded and layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _norm_after(layer: Any) -> Any | None:
    """The batch normalisation that alone reads a convolution."""
    import keras

    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    if type(layer) not in convolutions or layer.activation is not keras.activations.linear:
        return None
    if len(layer._inbound_nodes) != 1 or layer.data_format != "channels_last":
        return None
    readers = {node.operation for node in layer._outbound_nodes}
    reader = readers.pop() if len(readers) == 1 else None
    if type(reader) is not keras.layers.BatchNormalization or reader.axis not in (-1, 3):
        return None
    return reader


def _folded(layer: Any, norm: Any) -> list[np.ndarray]:
    """Kernel and bias of the convolution with its normalisation."""
    import keras

    kernel, *bias = layer.get_weights()
    scale = 1 / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    shift = (bias[0] if bias else 0) - np.asarray(norm.moving_mean)
    shift = shift * scale + (np.asarray(norm.beta) if norm.center else 0)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # Its channels are the last two axes of the kernel together.
        return [kernel * scale.reshape(kernel.shape[2:]), shift]
    return [kernel * scale, shift]
