"""The windows of a batch without their padding, and in groups of like length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops

from kdsr_tf.ops.masking import real_positions
from kdsr_tf.types import Tensor

NUM_GROUPS = 5


class WindowGroups:
    """Rows for what treats every position alike, groups of windows for what does not.

    Split, the rows are the real positions of all windows end to end, after one row of
    padding that stands for all padding: nothing may read its result. There are groups
    for `max_length` and a half, a quarter, ... of it; a window belongs to the smallest
    one that holds it. How many windows a group has is known at run time only; each has an
    empty one more, because not every operation of TensorFlow takes an array of no rows.
    Not split, the rows are all positions, and the batch is one group.

    Attributes:
        starts: First row of each window, ints `(batch,)`.
        squares: Where its matrix of products begins among those of all groups, ints
            `(batch,)`; see `products`.
        lengths: Length of its group, ints `(batch,)`.
        shapes: Windows and length of each group.
        places: Place of each row in its window, ints `(rows,)`; only where split.

    Args:
        items: Ints `(batch, length)`, right-padded with 0.
        max_length: Largest possible `length`.
        split: Whether to split the batch at all.
    """

    def __init__(self, items: Tensor, max_length: int, split: bool) -> None:
        self._items = items
        self._real: Tensor | None = None
        batch, width = ops.shape(items)
        window = ops.arange(batch, dtype="int32")
        if not split:
            self.starts, self.squares = window * width, window * width * width
            self.lengths = ops.zeros_like(window) + width
            self.shapes = [(batch, width)]
            return
        real = real_positions(items)
        self._real = ops.cast(ops.nonzero(ops.reshape(real, (-1,)))[0], "int32")
        sizes = ops.sum(ops.cast(real, "int32"), axis=1)
        self.starts = 1 + ops.cumsum(sizes) - sizes
        highs = sorted({-(-max_length // 2**k) for k in range(NUM_GROUPS)})
        self._groups, firsts = self._make_groups(sizes, width, highs)
        self.shapes = [ops.shape(rows) for rows in self._groups]
        self.places = ops.pad(self._real % width, [[1, 0]])
        # The last place of all belongs to an empty window.
        firsts = ops.take(firsts, self._real // width)
        self._back = self.places + ops.concatenate([ops.reshape(self._last_place, (1,)), firsts])

    def rows(self, values: Tensor) -> Tensor:
        """Values of all positions that have a row.

        Args:
            values: `(batch, length)`.

        Returns:
            `(rows,)`; 0 for padding.
        """
        values = ops.reshape(values, (-1,))
        if self._real is None:
            return values
        return ops.pad(ops.take(values, self._real, axis=0), [[1, 0]])

    def split(self, values: Tensor) -> list[Tensor]:
        """The windows of each group.

        Args:
            values: `(rows,)` or `(rows, dim)`.

        Returns:
            `(windows, length of the group, ...)` of each group.
        """
        if self._real is None:
            return [ops.reshape(values, (*ops.shape(self._items), *values.shape[1:]))]
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(values.dtype)):
            return self._spread(values)

        @ops.custom_gradient
        def spread(values: Tensor):
            return self._spread(values), lambda *upstream: self._collected(upstream)

        return list(spread(values))

    def split_each(self, values: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """A dict per group, with its part of every value; see `split`."""
        parts = zip(*(self.split(value) for value in values.values()), strict=True)
        return [dict(zip(values, part, strict=True)) for part in parts]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The rows of all groups: the opposite of `split`.

        Args:
            parts: Floats `(windows, length of the group, dim)` of each group.

        Returns:
            Floats `(rows, dim)`.
        """
        if self._real is None:
            (part,) = parts
            return ops.reshape(part, (-1, part.shape[-1]))

        # Every row has one place, so that the gradient reads where others would add up.
        @ops.custom_gradient
        def collect(*parts: Tensor):
            return self._collected(parts), lambda upstream: self._spread(upstream)

        return collect(*parts)

    def split_parts(self, values: Tensor, parts: int) -> list[Tensor]:
        """The windows of each group, with parts of every row apart, such as heads.

        One reading of rows, where `split` and moving the parts apart are three. It has no
        gradient of its own: `join_parts` is the other way round.

        Args:
            values: Floats `(rows, parts * size)`.
            parts: Parts of a row, > 0.

        Returns:
            `(parts, windows, length of the group, size)` of each group.
        """
        size = values.shape[-1] // parts
        if self._real is None:
            apart = ops.reshape(values, (*ops.shape(self._items), parts, size))
            return [ops.transpose(apart, (2, 0, 1, 3))]
        values = ops.reshape(values, (-1, size))
        part = ops.arange(parts, dtype="int32")[:, None, None]
        return [ops.take(values, rows * parts + part, axis=0) for rows in self._groups]

    def join_parts(self, groups: Sequence[Tensor]) -> Tensor:
        """The rows of all groups with their parts side by side: the opposite of `split_parts`.

        Args:
            groups: Floats `(parts, windows, length of the group, size)` of each group.

        Returns:
            Floats `(rows, parts * size)`.
        """
        parts, size = groups[0].shape[0], groups[0].shape[-1]
        if self._real is None:
            (group,) = groups
            return ops.reshape(ops.transpose(group, (1, 2, 0, 3)), (-1, parts * size))
        flat = ops.concatenate([ops.reshape(g, (parts, -1, size)) for g in groups], axis=1)
        part = ops.arange(parts, dtype="int32") * ops.shape(flat)[1]
        rows = ops.take(ops.reshape(flat, (-1, size)), self._back[:, None] + part, axis=0)
        return ops.reshape(rows, (-1, parts * size))

    def map(self, function: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """A function of whole windows, applied to each group.

        Args:
            function: Takes a part of every value, `(windows, length, dim)`, and returns
                one of the same first two sizes.
            *values: Floats `(rows, dim)`.

        Returns:
            Floats `(rows, dim)`.
        """
        parts = zip(*(self.split(value) for value in values), strict=True)
        return self.join([function(*part) for part in parts])

    def products(self, values: Tensor, places: Tensor) -> Tensor:
        """Inner products of pairs of positions in one window.

        Args:
            values: Floats `(rows, dim)`.
            places: Entries of the windows' matrices of products, end to end; see
                `squares`. Ints `(pairs,)`.

        Returns:
            Floats `(pairs,)`.
        """

        # A pair has one entry, and both its rows a share in it: one product per group where
        # the two factors of the forward one have a product each.
        @ops.custom_gradient
        def of_pairs(values: Tensor):
            parts = self.split(values)
            grams = [ops.matmul(part, ops.transpose(part, (0, 2, 1))) for part in parts]
            entries = ops.concatenate([ops.reshape(gram, (-1,)) for gram in grams])

            def gradient(*arguments, upstream=None):
                (upstream,) = arguments or (upstream,)
                given = ops.scatter(places[:, None], upstream, ops.shape(entries))
                back, start = [], 0
                for part, gram in zip(parts, grams, strict=True):
                    size = ops.size(gram)
                    share = ops.reshape(ops.slice(given, (start,), (size,)), ops.shape(gram))
                    back.append(ops.matmul(share + ops.transpose(share, (0, 2, 1)), part))
                    start = start + size
                return self.join(back)

            return ops.take(entries, places), gradient

        return of_pairs(values)

    def _make_groups(self, sizes, width, highs) -> tuple[list[Tensor], Tensor]:
        """Rows of each group `(windows, length)`, and each window's first place in all."""
        empty = ops.shape(sizes)[0] + ops.zeros((1,), "int32")
        starts, padded = (ops.pad(part, [[0, 1]]) for part in (self.starts, sizes))
        groups, order, firsts, squares, lengths = [], [], [], [], []
        low, first, square = -1, 0, 0
        for high in highs:
            chosen = ops.nonzero(ops.logical_and(sizes > low, sizes <= high))[0]
            chosen = ops.concatenate([ops.cast(chosen, "int32"), empty])
            length = min(high, width) if isinstance(width, int) else ops.minimum(high, width)
            start, size = (ops.take(part, chosen)[:, None] for part in (starts, padded))
            place = ops.arange(length, dtype="int32")
            groups.append(ops.where(place < size, start + place, 0))
            window = ops.arange(ops.shape(chosen)[0], dtype="int32")
            order.append(chosen)
            firsts.append(first + window * length)
            squares.append(square + window * length * length)
            lengths.append(ops.zeros_like(window) + length)
            first = first + ops.shape(chosen)[0] * length
            square = square + ops.shape(chosen)[0] * length * length
            low = high
        self._last_place = first - 1
        by_window = ops.argsort(ops.concatenate(order))[: ops.shape(sizes)[0]]
        firsts, self.squares, self.lengths = (
            ops.take(ops.concatenate(part), by_window) for part in (firsts, squares, lengths)
        )
        return groups, firsts

    def _spread(self, values: Tensor) -> list[Tensor]:
        return [ops.take(values, rows, axis=0) for rows in self._groups]

    def _collected(self, parts: Sequence[Tensor]) -> Tensor:
        flat = [ops.reshape(part, (-1, *part.shape[2:])) for part in parts]
        return ops.take(ops.concatenate(flat), self._back, axis=0)
