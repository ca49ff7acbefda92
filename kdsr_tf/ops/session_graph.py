"""The graph of a sequence: its nodes are the distinct items, its edges the steps taken.

`items` are ints `(batch, length)`, right-padded with `PAD`. No shape depends on the data. A node
lives at the first position of its item, and matrices are `(batch, length, length)`: row p speaks
of the node that position p belongs to (so rows of one item are equal), column q is zero unless a
node lives at q.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import real_positions
from kdsr_tf.types import Tensor

SELF, FORWARD, BACKWARD, BOTH = 1, 2, 3, 4
"""Edge types: an item itself; the column's item followed; preceded; both happened."""

NUM_EDGE_TYPES = 4


class Steps(NamedTuple):
    """The edges of some sequences as a list; rows are positions of all sequences, end to end."""

    nodes: Tensor  # Row of each row's node, ints `(rows,)`; of padding, itself
    repeats: Tensor  # Whether any sequence has an item twice, a bool
    is_node: Tensor  # Whether a node lives at a row, bools `(rows,)`
    # Type of the edge from a row's node to that of the next row, FORWARD and above one-hot, floats
    # `(rows - 1, 3)`; 0 where there is none, or an earlier step joined these nodes
    ahead: Tensor
    back: Tensor  # The same of the edge in the other direction
    # Where the edges ahead, those back and those of each row to itself are in flat `(batch, length,
    # length)` matrices, ints `(3 * rows - 2,)`
    entries: Tensor


def node_of_position(items: Tensor) -> Tensor:
    """Which node each position belongs to: 1 at the first position of the row's item, else 0.

    Floats `(batch, length, length)`; rows of padding are 0. The product with states at nodes
    gathers them back to positions.

    Example:
        >>> import numpy as np
        >>> nodes = node_of_position(np.array([[7, 5, 7, 0]]))
        >>> np.asarray(nodes)[0].astype(int).tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    """
    same = _same_item(items)
    position = ops.arange(ops.shape(items)[1], dtype="int32")
    earlier = position[None, :] < position[:, None]
    repeats = ops.any(ops.logical_and(same, earlier), axis=-1)
    nodes = ops.logical_not(repeats)[:, None, :]
    return ops.cast(ops.logical_and(same, nodes), "float32")


def transition_counts(items: Tensor) -> tuple[Tensor, Tensor]:
    """How often the column's item directly preceded, and how often it followed, the row's.

    Returns:
        Two floats `(batch, length, length)`.

    Example:
        >>> import numpy as np
        >>> preceded, followed = transition_counts(np.array([[7, 5, 0]]))
        >>> np.asarray(followed)[0].astype(int).tolist()
        [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    same = ops.cast(_same_item(items), "float32")
    nodes = node_of_position(items)
    preceded = ops.matmul(same[:, :, 1:], nodes[:, :-1, :])
    followed = ops.matmul(same[:, :, :-1], nodes[:, 1:, :])
    return preceded, followed


def edge_types(items: Tensor) -> Tensor:
    """Types of the edges between nodes, as MMSR and KDSR number them.

    An item that directly follows itself has its self edge, no other.

    Returns:
        Ints `(batch, length, length)`: 0 no edge, 1 the node itself, 2 the column's
        item followed the row's, 3 it preceded it, 4 both.

    Example:
        >>> import numpy as np
        >>> np.asarray(edge_types(np.array([[7, 5, 7, 0]])))[0].tolist()
        [[1, 4, 0, 0], [4, 1, 0, 0], [1, 4, 0, 0], [0, 0, 0, 0]]
    """
    preceded, followed = (ops.cast(counts > 0, "int32") for counts in transition_counts(items))
    types = FORWARD * followed + BACKWARD * preceded
    types = ops.where(types == FORWARD + BACKWARD, BOTH, types)
    return ops.where(node_of_position(items) > 0, SELF, types)


def edges_among(edges: Tensor, present: Tensor) -> Tensor:
    """Those of `edge_types` that join two existing nodes.

    Args:
        edges: Result of `edge_types`.
        present: Whether a position's node exists, bools `(batch, length)`.

    Example:
        >>> import numpy as np
        >>> edges = edge_types(np.array([[7, 5]]))
        >>> np.asarray(edges_among(edges, np.array([[False, True]])))[0].tolist()
        [[0, 0], [0, 1]]
    """
    both = ops.logical_and(present[:, :, None], present[:, None, :])
    return ops.where(both, edges, 0)


def session_steps(items: Tensor, edges: Tensor) -> Steps:
    """The edges between nodes (`edge_types`) as a list, in the order of the steps.

    Example:
        >>> import numpy as np
        >>> items = np.array([[7, 5, 7, 0]])
        >>> steps = session_steps(items, edge_types(items))
        >>> np.asarray(steps.nodes).tolist(), np.asarray(steps.ahead).astype(int).tolist()
        ([0, 1, 0, 3], [[0, 0, 1], [0, 0, 0], [0, 0, 0]])
    """
    batch, length = ops.shape(items)
    place = ops.arange(length, dtype="int32")
    real = real_positions(items)
    node = ops.cast(ops.argmax(node_of_position(items), axis=-1), "int32")
    node = ops.where(real, node, place)
    # A step of padding stays where it is, as one does to the same item or taken before.
    after = ops.where(_next(real), _next(node), node)
    pair = ops.minimum(node, after) * length + ops.maximum(node, after)
    earlier = place[None, :] < place[:, None]
    known = ops.any(
        ops.logical_and(ops.equal(pair[:, :, None], pair[:, None, :]), earlier), axis=-1
    )
    after = ops.where(known, node, after)
    start = ops.arange(batch, dtype="int32")[:, None] * length
    of_step = [(start + node) * length + after, (start + after) * length + node]
    of_step = [ops.reshape(entry, (-1,))[:-1] for entry in of_step]
    own = ops.reshape((start + place) * length + place, (-1,))
    ahead, back = (
        ops.one_hot(gather(ops.reshape(edges, (-1,)), entry) - FORWARD, NUM_EDGE_TYPES - 1)
        for entry in of_step
    )
    return Steps(
        ops.reshape(start + node, (-1,)),
        ops.any(ops.not_equal(node, place)),
        ops.reshape(ops.logical_and(real, ops.equal(node, place)), (-1,)),
        ahead,
        back,
        ops.concatenate([*of_step, own]),
    )


def _next(values: Tensor) -> Tensor:
    """Values `(batch, length)` of the next position; 0 after the last one."""
    return ops.pad(values[:, 1:], [[0, 0], [0, 1]])


def _same_item(items: Tensor) -> Tensor:
    """Whether two positions are real and hold the same item."""
    equal = ops.equal(items[:, :, None], items[:, None, :])
    return ops.logical_and(equal, real_positions(items)[:, :, None])
