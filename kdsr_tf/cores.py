"""What `prepare.k_core` leaves of the interactions, and what other values would leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from kdsr_tf.console import table
from kdsr_tf.splits import k_core

OTHERS = (1, 2, 3, 5, 10)
"""Values of k whose k-core is counted beside the chosen one; 1 keeps everything."""

KINDS = ("users", "items", "interactions")

_LEAST_SHARE = 0.5

Size = Mapping[str, int]
"""`k`, and the number of `users`, `items` and `interactions` that its k-core keeps."""


def core_sizes(users: np.ndarray, items: np.ndarray, chosen: int) -> list[dict[str, int]]:
    """Size of the k-core for the chosen k and for those of `OTHERS`, the smallest k first.

    A larger k keeps a part of what a smaller one keeps, so each core is found in the one before
    it. Users and items are non-negative integer codes `[n]`; a chosen k of 0 or 1 keeps all.
    """
    sizes = []
    for k in sorted({*OTHERS, max(chosen, 1)}):
        kept = k_core(users, items, k)
        users, items = users[kept], items[kept]
        numbers = (int(np.count_nonzero(np.bincount(codes))) for codes in (users, items))
        sizes.append(dict(zip(("k", *KINDS), (k, *numbers, len(users)), strict=True)))
    return sizes


def shares(size: Size, sizes: Sequence[Size]) -> dict[str, float]:
    """Share of all users, items and interactions that a core keeps; 0 of nothing is 0."""
    return {kind: size[kind] / max(sizes[0][kind], 1) for kind in KINDS}


def cores_warning(sizes: Sequence[Size], chosen: int) -> str | None:
    """A sentence where the chosen core keeps less than half of anything, otherwise None."""
    if not sizes or not sizes[0]["interactions"]:
        return None
    by_k = {size["k"]: shares(size, sizes) for size in sizes}
    kept = by_k[max(chosen, 1)]
    if min(kept.values()) >= _LEAST_SHARE:
        return None
    # The first k keeps everything.
    better = max(k for k, found in by_k.items() if min(found.values()) >= _LEAST_SHARE)
    told = ", ".join(f"{share:.1%} of the {kind}" for kind, share in kept.items())
    would = ", ".join(f"{share:.1%} of the {kind}" for kind, share in by_k[better].items())
    return (
        f"prepare.k_core={chosen} keeps only {told}. prepare.k_core={better} would keep {would}. "
        f"To keep more: --set prepare.k_core={better}."
    )


def cores_table(sizes: Sequence[Size], chosen: int) -> Table:
    """A row per k, the chosen one marked."""
    rows = []
    for size in sizes:
        found = shares(size, sizes)
        mark = " (chosen)" if size["k"] == max(chosen, 1) else ""
        cells = (f"{size[kind]:,} ({found[kind]:.1%})" for kind in KINDS)
        rows.append((f"{size['k']}{mark}", *cells))
    return table("What prepare.k_core keeps", ("k", *KINDS), rows)
