"""Softmaxes, and which positions of right-padded sequences are real.

`items` are ints `(batch, length)`, right-padded with `PAD`.
"""

from __future__ import annotations

from keras import ops

from kdsr_tf.schema import PAD
from kdsr_tf.types import Tensor


def softmax(scores: Tensor, axis: int = -1) -> Tensor:
    """Weights that add up to 1 over an axis of finite floats; one entry alone has all of it.

    `keras.ops.softmax` gives the same, and warns that an axis of one entry looks like a
    mistake. Here it is none: a history of one item attends to that item.

    Example:
        >>> import numpy as np
        >>> float(softmax(np.array([[-3.0]]))[0, 0])
        1.0
    """
    # Not `ones_like`: with no gradient at all, Keras warns of the kernels behind the scores.
    return scores * 0 + 1 if scores.shape[axis] == 1 else ops.softmax(scores, axis=axis)


def real_positions(items: Tensor) -> Tensor:
    """Whether a position holds an item, bools of the shape of `items`."""
    return ops.not_equal(items, PAD)


def zero_padding(states: Tensor, items: Tensor) -> Tensor:
    """States `(..., dim)` with zeros where the sequence, ints `(...)`, is padding."""
    return states * ops.cast(real_positions(items), states.dtype)[..., None]


def count_windows(items: Tensor) -> Tensor:
    """How many windows hold an item, a float scalar."""
    return ops.sum(ops.cast(real_positions(items[:, 0]), "float32"))


def at_last_real(states: Tensor, items: Tensor) -> Tensor:
    """The state at the last real position, floats `(batch, dim)`; zeros for an empty sequence.

    Args:
        states: Floats `(batch, length, dim)`.
        items: The sequences.

    Example:
        >>> import numpy as np
        >>> states = np.array([[[1.0], [2.0], [3.0]]], "float32")
        >>> float(at_last_real(states, np.array([[5, 7, 0]]))[0, 0])
        2.0
    """
    lengths = ops.sum(ops.cast(real_positions(items), "int32"), axis=1)
    index = ops.maximum(lengths - 1, 0)[:, None, None]
    last = ops.squeeze(ops.take_along_axis(states, index, axis=1), axis=1)
    return last * ops.cast(lengths > 0, last.dtype)[:, None]


def masked_softmax(scores: Tensor, mask: Tensor, axis: int = -1) -> Tensor:
    """A softmax that gives masked entries no weight.

    Where everything is masked, the weights are finite and mean nothing.

    Args:
        scores: Floats, far above -3e4.
        mask: Bools, broadcast to the shape of `scores`; false entries get 0.
        axis: Axis over which weights add up to 1.

    Example:
        >>> import numpy as np
        >>> weights = masked_softmax(np.array([2.0, 2.0, 9.0]), np.array([True, True, False]))
        >>> [float(weight) for weight in weights]
        [0.5, 0.5, 0.0]
    """
    # -3e4 is finite in float16 and leaves no weight after the softmax.
    scores = ops.where(mask, scores, ops.cast(-3e4, scores.dtype))
    return softmax(scores, axis=axis)
