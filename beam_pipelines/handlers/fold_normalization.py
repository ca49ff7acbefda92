"""Batch normalisation and padding, folded into the convolutions beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdsr_tf.keras_internals import inputs_of, readers_of


def fold(network: Any) -> Any:
    """A network with the outputs of `network` at inference, and fewer operations.

    At inference a batch normalisation is a scale and a shift of each channel, and so can be
    part of the kernel and the bias of a convolution without activation that nothing else
    reads. TensorFlow folds those of ordinary convolutions by itself where weights are
    constants, and those of depthwise ones not. Zeros that a layer puts around a picture, where
    they are those of `padding="same"`, are left to the convolution: a copy less.

    Args:
        network: A Functional `keras.Model`, channels last. It is not changed.

    Returns:
        Another model; the given one, where there is nothing to fold.
    """
    import keras

    norms = {
        layer.name: norm for layer in network.layers if (norm := _norm_after(layer)) is not None
    }
    paddings = {
        layer.name: padding
        for layer in network.layers
        if (padding := _padding_before(layer)) is not None
    }
    folded = {layer.name for layer in (*norms.values(), *paddings.values())}
    if not folded:
        return network

    class Nothing(keras.layers.Layer):
        """In place of a folded layer, with its arguments."""

        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return inputs

    def clone(layer: Any) -> Any:
        if layer.name in folded:
            return Nothing(name=layer.name)
        changed: dict[str, Any] = {"use_bias": True} if layer.name in norms else {}
        changed |= {"padding": "same"} if layer.name in paddings else {}
        return type(layer).from_config(layer.get_config() | changed)

    copy = keras.models.clone_model(network, clone_function=clone)
    for layer in network.layers:
        if layer.name in norms:
            copy.get_layer(layer.name).set_weights(_folded(layer, norms[layer.name]))
        elif layer.name not in folded and layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _norm_after(layer: Any) -> Any | None:
    """The batch normalisation that is the only reader of a convolution."""
    import keras

    if not _is_convolution(layer) or layer.activation is not keras.activations.linear:
        return None
    reader = _only_reader(layer)
    if type(reader) is not keras.layers.BatchNormalization or reader.axis not in (-1, 3):
        return None
    return reader


def _padding_before(layer: Any) -> Any | None:
    """The layer of zeros before a convolution that is its only reader and could add them."""
    import keras

    if not _is_convolution(layer) or layer.padding != "valid" or set(layer.dilation_rate) != {1}:
        return None
    padding = inputs_of(layer)[0][0]
    if type(padding) is not keras.layers.ZeroPadding2D or len(inputs_of(padding)) != 1:
        return None
    if padding.data_format != "channels_last" or _only_reader(padding) is not layer:
        return None
    sizes = padding.input.shape[1:3]
    if None in sizes:
        return None
    same = tuple(map(_same_padding, sizes, layer.kernel_size, layer.strides))
    return padding if tuple(map(tuple, padding.padding)) == same else None


def _is_convolution(layer: Any) -> bool:
    import keras

    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and len(inputs_of(layer)) == 1
        and layer.data_format == "channels_last"
    )


def _only_reader(layer: Any) -> Any:
    readers = readers_of(layer)
    return readers[0] if len(readers) == 1 else None


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `size` pixels with `padding="same"`."""
    outputs = -(-size // stride)
    zeros = max((outputs - 1) * stride + kernel - size, 0)
    return zeros // 2, zeros - zeros // 2


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
