"""The softmax of this package."""

from __future__ import annotations

from keras import ops

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
