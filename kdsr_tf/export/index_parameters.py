"""Parameters of a ScaNN index: a first choice, and the next to try."""

from __future__ import annotations

import dataclasses
import math

MIN_ITEMS_OF_A_TREE = 100_000
"""Below this catalogue size an index has no leaves. At a recall of 0.995 a tree of fewer items
is searched nearly whole, and its answers take longer than those of hashed vectors alone
(`benchmarks/retrieval.py`)."""

MIN_ITEMS_OF_HASHES = 256
"""Below this catalogue size every score is computed exactly; there is too little to learn
hashes from."""

_ITEMS_PER_CANDIDATE = 10
"""An exact score of a candidate takes about ten times as long as one in a matrix product."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexParameters:
    """Parameters of a ScaNN index.

    `num_leaves` are partitions of the catalogue; 0 is an index without a tree, which searches 0.
    `num_reordering_candidates` are those whose scores are computed exactly; all items and no tree
    is a brute-force searcher.
    """

    num_leaves: int
    num_leaves_to_search: int
    num_reordering_candidates: int


def choose_parameters(
    num_items: int,
    retrieve: int,
    num_leaves: int | None = None,
    num_leaves_to_search: int | None = None,
    num_reordering_candidates: int | None = None,
) -> IndexParameters:
    """Parameters of an index from the catalogue's size.

    Below `MIN_ITEMS_OF_HASHES` items every score is exact, whatever is given. Below
    `MIN_ITEMS_OF_A_TREE` no leaves, unless a number of them is given, and one and a
    half times the retrieved items reordered, or all where that is faster. From there on
    the square root of the catalogue in leaves, a tenth of them searched (and enough to
    hold four times the retrieved items), twice the retrieved items reordered.

    Args:
        num_items: Items of the catalogue, >= 1.
        retrieve: Items per query, `1 <= retrieve <= num_items`.
        num_leaves: Overrides the choice.
        num_leaves_to_search: Overrides the choice.
        num_reordering_candidates: Overrides the choice; raised to `retrieve`, because
            ScaNN silently returns no more items than it reorders.

    Example:
        >>> choose_parameters(10_000, 300)
        IndexParameters(num_leaves=0, num_leaves_to_search=0, num_reordering_candidates=450)
        >>> choose_parameters(1_000_000, 300)
        IndexParameters(num_leaves=1000, num_leaves_to_search=100, num_reordering_candidates=600)
    """
    wants_a_tree = num_leaves is not None or num_leaves_to_search is not None
    if num_items < MIN_ITEMS_OF_HASHES:
        return _without_tree(num_items)
    if num_items < MIN_ITEMS_OF_A_TREE and not wants_a_tree:
        if num_reordering_candidates is not None:
            return _without_tree(min(max(num_reordering_candidates, retrieve), num_items))
        return _without_tree(_or_all(math.ceil(1.5 * retrieve), num_items))
    leaves = min(num_leaves or round(math.sqrt(num_items)), num_items)
    enough = math.ceil(4 * retrieve * leaves / num_items)
    search = num_leaves_to_search or max(math.ceil(leaves / 10), enough)
    reorder = num_reordering_candidates or 2 * retrieve
    return IndexParameters(
        num_leaves=leaves,
        num_leaves_to_search=min(search, leaves),
        num_reordering_candidates=min(max(reorder, retrieve), num_items),
    )


def enlarge(
    parameters: IndexParameters, most_leaves_to_search: int, most_candidates: int
) -> IndexParameters:
    """The next parameters to try for more recall, or the same where both limits are reached.

    Twice the leaves; only when no more may be searched, twice the candidates. A query's time
    grows with both, but its recall with the leaves first (`benchmarks/retrieval.py`). A number
    at its limit does not change.
    """
    leaves = min(2 * parameters.num_leaves_to_search, most_leaves_to_search)
    if leaves > parameters.num_leaves_to_search:
        return dataclasses.replace(parameters, num_leaves_to_search=leaves)
    candidates = min(2 * parameters.num_reordering_candidates, most_candidates)
    if parameters.num_leaves == 0:
        candidates = _or_all(candidates, most_candidates)
    candidates = max(candidates, parameters.num_reordering_candidates)
    return dataclasses.replace(parameters, num_reordering_candidates=candidates)


def _without_tree(candidates: int) -> IndexParameters:
    return IndexParameters(
        num_leaves=0, num_leaves_to_search=0, num_reordering_candidates=candidates
    )


def _or_all(candidates: int, num_items: int) -> int:
    """The candidates, or all items where a matrix product with all is faster."""
    return candidates if candidates * _ITEMS_PER_CANDIDATE < num_items else num_items
