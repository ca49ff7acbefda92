"""Rows of batches in a form that can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from kdsr_tf import schema


def prefix_rows(batches: Iterable[dict], modality: str = "text") -> list[tuple]:
    """Every row without its padding, sorted: items, target at its end, pairs."""
    rows = []
    for batch in batches:
        for k, items in enumerate(batch[schema.ITEMS]):
            size = int((items > 0).sum())
            if not size:  # a batch may be filled up with empty rows
                continue
            pairs = schema.num_pairs(size)
            target = batch[schema.TARGET][k]
            scores = batch[schema.scores_key(modality)][k]
            codes = batch[schema.codes_key(modality)][k]
            assert not target[: size - 1].any() and not target[size:].any()
            assert not scores[pairs:].any() and not codes[pairs:].any()
            rows.append(
                (
                    *(tuple(v.tolist()) for v in (items[:size], scores[:pairs], codes[:pairs])),
                    tuple(batch[schema.present_key(modality)][k][:size].tolist()),
                    int(target[size - 1]),
                )
            )
    return sorted(rows)
