"""Rules and defaults that the configuration and the Python objects share.

Each stands here once, free of Keras, so that both refuse the same values with the same text.
"""

from __future__ import annotations

from typing import Literal, get_args

Correlation = Literal["cosine", "dot", "euclidean", "manhattan"]
"""Kinds of ξ. Distances are positive, so a small one means alike."""

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
"""Dtype policies of Keras."""

MAX_PIXELS = 50_000_000
"""Pictures with more pixels are not decoded, unless another limit is given."""


def check_correlation(kind: str) -> None:
    """Refuse an unknown kind of ξ."""
    if kind not in get_args(Correlation):
        raise ValueError(
            f"`kind` must be one of {', '.join(get_args(Correlation))}. Received: kind={kind!r}."
        )


def check_heads(num_heads: int, dim: int) -> None:
    """Refuse attention heads that do not share a vector equally."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(
            "`num_heads` must divide `dim` (model.num_heads, model.dim). "
            f"Received: num_heads={num_heads}, dim={dim}."
        )


def check_smoothing(label_smoothing: float, negatives: int | None) -> None:
    """Refuse label smoothing with drawn negatives."""
    if label_smoothing and negatives:
        raise ValueError(
            "`label_smoothing` spreads over all items, which `negatives` does not compute. "
            f"Received: label_smoothing={label_smoothing}, negatives={negatives}. Set "
            "label_smoothing to 0 or negatives to None "
            "(train.label_smoothing=0, train.negatives=null)."
        )


def check_drawn_pairs(pairs_per_window: int | None, score_loss: str | None) -> None:
    """Refuse a drawing of pairs that means nothing: none at all, or for a loss that needs them all.

    `score_loss` is None where no pairs are compared.
    """
    if pairs_per_window is None:
        return
    if pairs_per_window < 1:
        raise ValueError(
            f"`pairs_per_window` must be > 0. Received: pairs_per_window={pairs_per_window}."
        )
    if score_loss == "frobenius":
        raise ValueError(
            "`frobenius` is the norm of all pairs of a window, which drawn pairs do not "
            f"estimate without bias. Received: pairs_per_window={pairs_per_window}. Set "
            "pairs_per_window to None or score_loss to `paper` "
            "(distillation.pairs_per_window=null, distillation.score_loss=paper)."
        )
