"""Operations with gradients of our own, each in a file beside its plain form.

A kernel is here because a training step on a CPU takes at least 5 % more processor time, or far
more memory, with the plain form; docs/performance.md has the figures. A test holds each to the
values and gradients of its plain form.
"""

from __future__ import annotations

from typing import Any

import keras


def chunks_fit(dynamic: bool, values: Any) -> bool:
    """Whether a loss may be summed a chunk at a time, of float32 values.

    Args:
        dynamic: Whether shapes may depend on the data; a compiled step unrolls no loop.
        values: What the loss is computed from.
    """
    return dynamic and keras.backend.standardize_dtype(values.dtype) == "float32"
