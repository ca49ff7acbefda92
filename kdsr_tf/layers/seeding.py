"""Seeds of the parts of a model."""

from __future__ import annotations

from typing import Any

import keras

from kdsr_tf.hashing import stable_hash


def derive_seed(seed: int, part: str) -> int:
    """Seed of one part of a model.

    Parts are named, so that adding one leaves the random numbers of the others
    as they were, and neighbouring seeds share none.

    Args:
        seed: Seed of the whole.
        part: Name of the part, such as `"block_0/attention"`.

    Returns:
        An int in `0..2**31 - 1`.

    Example:
        >>> derive_seed(0, "query") != derive_seed(0, "key")
        True
    """
    return stable_hash(f"{seed}/{part}") % 2**31


def seeded_part(layer: keras.layers.Layer, name: str) -> dict[str, Any]:
    """Arguments `seed`, `dtype` and `name` of a part of a layer that has a `seed`."""
    return {"seed": derive_seed(layer.seed, name), "dtype": layer.dtype_policy, "name": name}


def seeded_dropout(layer: keras.layers.Layer, name: str = "dropout") -> keras.layers.Dropout:
    """A part that drops the share `dropout` of a layer."""
    return keras.layers.Dropout(layer.dropout, **seeded_part(layer, name))
