"""Gradients on the active backend, for tests that run on each of them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops


def value_and_gradients(function: Callable, *arguments: np.ndarray) -> tuple[float, list]:
    """A scalar function's value and its gradient for every argument, as NumPy."""
    if keras.backend.backend() == "jax":
        import jax

        positions = tuple(range(len(arguments)))
        value, gradients = jax.value_and_grad(function, positions)(*arguments)
    else:
        import tensorflow as tf

        tensors = [tf.constant(argument) for argument in arguments]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors)
    return float(value), [ops.convert_to_numpy(gradient) for gradient in gradients]
