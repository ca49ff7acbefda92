"""Checks of the catalogue: items that are missing something, and items that are twins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import schema
from kdsr_tf.artifacts import find_files
from kdsr_tf.evaluation.checks.finding import NOTE, WARNING, Finding, finding
from kdsr_tf.evaluation.checks.interaction_log import Log
from kdsr_tf.sources.html_text import has_entities

_MOST_QUERIES = 20_000
_MOST_NEIGHBOURS = 100_000
_ROWS_AT_ONCE = 4096


class _Contents(NamedTuple):
    """What was encoded: the items with a vector, ascending, and groups of those of equal content.

    `usable` says whether a vector is finite and not all zero. `sample` are rows of the items whose
    vectors `(sample, size)` are kept: all of a small catalogue.
    """

    items: np.ndarray
    groups: np.ndarray
    usable: np.ndarray
    sample: np.ndarray
    vectors: np.ndarray


def check_titles(log: Log) -> Finding:
    """Items that people cannot tell apart."""
    groups: dict[str, list[int]] = {}
    for index, title in enumerate(log.titles):
        if title not in ("", log.item_ids[index]):
            groups.setdefault(title.strip().casefold(), []).append(index)
    same = [group for group in groups.values() if len(group) > 1]
    return finding(
        "items with the same title",
        NOTE,
        sum(map(len, same)),
        log.num_items,
        "items",
        (_twins(log, group) for group in same),
        "One product under several ids divides its interactions. Merge ids in the source.",
    )


def check_entities(log: Log) -> Finding:
    """Titles as a web page writes them, which people and text encoders see as they are."""
    escaped = [index for index, title in enumerate(log.titles) if has_entities(title)]
    return finding(
        "titles with HTML entities",
        WARNING,
        len(escaped),
        log.num_items,
        "items",
        map(log.item, escaped),
        "Entities such as &amp; and &#39; are shown and encoded as they stand. Decode them in "
        "the source, or import it with `kdsr data import --unescape-html`.",
    )


def check_features(
    log: Log, modality: str, directory: str, near: float, seed: int
) -> Iterator[Finding]:
    """Check the `features/<modality>/` in `directory`.

    `near` is the cosine from which two items are near-duplicates, `seed` that of the sample of a
    large catalogue.
    """
    rng = np.random.default_rng([seed, 13])
    contents = _read(directory, log.num_items, rng)
    missing = np.setdiff1d(np.arange(1, log.num_items + 1), contents.items)
    yield finding(
        f"items without {modality}",
        NOTE,
        len(missing),
        log.num_items,
        "items",
        map(log.item, missing),
        f"They count in no {modality} pair; see the slice target_{modality}.",
    )
    yield finding(
        f"{modality} vectors that say nothing",
        WARNING,
        np.count_nonzero(~contents.usable),
        len(contents.items),
        "items",
        map(log.item, contents.items[~contents.usable]),
        "All zero or not a number: every cosine with them is 0 or undefined. Look at the encoder.",
    )
    sizes = np.bincount(contents.groups)
    copied = [contents.items[contents.groups == group] for group in np.flatnonzero(sizes > 1)[:3]]
    yield finding(
        f"items with the same {modality}",
        WARNING,
        sizes[sizes > 1].sum(),
        len(contents.items),
        "items",
        (_twins(log, group.tolist()) for group in copied),
        "No modality can tell them apart: copies of one product, or a placeholder.",
    )
    yield _twin_targets(log, modality, contents)
    yield _near_duplicates(log, modality, contents, near, rng)


def _read(directory: str, num_items: int, rng: np.random.Generator) -> _Contents:
    """Every content, and the vectors of as many items as are compared."""
    kept = np.zeros(num_items + 1, bool)
    kept[1 + rng.permutation(num_items)[:_MOST_NEIGHBOURS]] = True
    numbers: dict[bytes, int] = {}
    parts = []
    for path in find_files(directory, "vectors-*.parquet"):
        with fsspec.open(path, "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
                items = batch.column(schema.ITEM).to_numpy()
                flat = batch.column(schema.VECTOR).flatten().to_numpy(zero_copy_only=False)
                vectors = flat.reshape(len(items), -1)
                contents = batch.column("content").to_pylist()
                groups = np.array([numbers.setdefault(one, len(numbers)) for one in contents])
                usable = np.isfinite(vectors).all(axis=1) & np.any(vectors, axis=1)
                parts.append((items, groups, usable, vectors[kept[items]]))
    if not parts:
        none = np.zeros(0, np.int64)
        return _Contents(none, none, none > 0, none, np.zeros((0, 1), np.float32))
    items, groups, usable, vectors = map(np.concatenate, zip(*parts, strict=True))
    chosen = np.flatnonzero(kept[items])
    order = np.argsort(items)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return _Contents(items[order], groups[order], usable[order], place[chosen], vectors)


def _twin_targets(log: Log, modality: str, contents: _Contents) -> Finding:
    """Test points whose answer looks exactly like something in the history."""
    content = np.full(log.num_items + 1, -1)
    content[contents.items] = contents.groups
    has_twin = np.bincount(contents.groups, minlength=1)[contents.groups] > 1
    twins = np.zeros(log.num_items + 1, bool)
    twins[contents.items] = has_twin
    found = []
    for place in np.flatnonzero(log.is_test_point & twins[log.items]):
        history = log.items[log.starts[log.users[place]] : place]
        target = log.items[place]
        if np.any((content[history] == content[target]) & (history != target)):
            found.append(place)
    return finding(
        f"test targets whose {modality} is that of an item in the history",
        WARNING,
        len(found),
        log.is_test_point.sum(),
        "test points",
        map(log.point, found),
        "Copying the history's look is enough to hit them. Merge copies in the source.",
    )


def _near_duplicates(
    log: Log, modality: str, contents: _Contents, near: float, rng: np.random.Generator
) -> Finding:
    """Items of different content whose vectors are almost the same; large catalogues by sample."""
    from sklearn.neighbors import NearestNeighbors

    _, one_each = np.unique(contents.groups[contents.sample], return_index=True)
    one_each = one_each[contents.usable[contents.sample[one_each]]]
    items, vectors = contents.items[contents.sample[one_each]], contents.vectors[one_each]
    asked = np.sort(rng.permutation(len(items))[:_MOST_QUERIES])
    pairs: list[tuple[int, int]] = []
    if len(items) > 1:
        index = NearestNeighbors(n_neighbors=2, metric="cosine", algorithm="brute")
        distances, found = index.fit(vectors).kneighbors(vectors[asked])
        # Among equal vectors, an item need not be its own first neighbour.
        column = (found[:, 0] == asked).astype(int)[:, None]
        close = np.take_along_axis(distances, column, axis=1)[:, 0] <= 1 - near
        other = np.take_along_axis(found, column, axis=1)[:, 0]
        pairs = list(zip(items[asked[close]].tolist(), items[other[close]].tolist(), strict=True))
    whole = len(asked) == len(items) and len(contents.sample) == len(contents.items)
    sampled = "" if whole else ", sampled"
    return finding(
        f"near-duplicates by {modality} (cosine from {near:g}{sampled})",
        NOTE,
        len(pairs),
        len(asked),
        "items",
        (_twins(log, pair) for pair in dict.fromkeys(tuple(sorted(pair)) for pair in pairs)),
        "Sizes, colours or resales of one product: the modality hardly tells them apart.",
    )


def _twins(log: Log, group: Sequence[int]) -> str:
    more = [f"{len(group) - 2} more"] if len(group) > 2 else []
    return " = ".join([*map(log.item, group[:2]), *more])
