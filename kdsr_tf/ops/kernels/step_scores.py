"""Scores of the edges of session graphs, along the steps that were taken."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.session_graph import BACKWARD, BOTH, FORWARD, SELF, Steps
from kdsr_tf.types import Tensor


def step_scores(
    states: Tensor, relations: Tensor, steps: Steps, training: bool | None = None
) -> Tensor:
    """a_rᵀ (h_i ⊙ h_j) for every edge of type r from node i to node j.

    A sequence of n items has no more than n - 1 steps and n nodes: h_i ⊙ h_j is made for
    those alone, in place of a product of all nodes for every type. The gradient is written
    out: it reads the rows of neighbours as they lie, and scatters none of them unless an
    item occurs twice.

    Args:
        states: h, floats `(batch, length, dim)`; of an item's positions the first counts.
        relations: a by type, floats `(types, dim)`.
        steps: Steps of the sequences.
        training: Whether a gradient will be taken.

    Returns:
        Floats `(batch, length, length)`; 0 where there is no edge.

    Example:
        >>> import numpy as np
        >>> from kdsr_tf.ops.session_graph import edge_types, session_steps
        >>> items, states = np.array([[7, 5]]), np.array([[[1.0], [2.0]]], "float32")
        >>> relations = np.array([[1.0], [10.0], [20.0], [30.0]], "float32")
        >>> scores = step_scores(states, relations, session_steps(items, edge_types(items)))
        >>> np.asarray(scores)[0].tolist()
        [[1.0, 20.0], [40.0, 4.0]]
    """
    batch, length, dim = ops.shape(states)
    kinds = [ops.cast(kind, states.dtype) for kind in (steps.ahead, steps.back)]
    is_node = ops.cast(steps.is_node, states.dtype)[:, None]

    def along(rows: Tensor, relations: Tensor) -> tuple[Tensor, Callable]:
        rows = _of_nodes(rows, steps)
        own, others = relations[: FORWARD - 1], relations[FORWARD - 1 :]
        # The step from a row to the next one; what leads to another sequence is no edge.
        products, squares = rows[:-1] * rows[1:], rows * rows
        by_kind = ops.matmul(products, ops.transpose(others))
        values = [ops.sum(by_kind * kind, axis=-1) for kind in kinds]
        values.append((ops.matmul(squares, ops.transpose(own)) * is_node)[:, 0])
        scores = ops.scatter(
            steps.entries[:, None], ops.concatenate(values), (batch * length * length,)
        )

        def gradients(*arguments, upstream=None):
            (upstream,) = arguments or (upstream,)
            given = gather(ops.reshape(upstream, (-1,)), steps.entries)[:, None]
            count = ops.shape(products)[0]
            by_kind = given[:count] * kinds[0] + given[count : 2 * count] * kinds[1]
            by_node = given[2 * count :] * is_node
            edge = [[1, 1], [0, 0]]
            slopes, beside = ops.matmul(ops.pad(by_kind, edge), others), ops.pad(rows, edge)
            by_row = slopes[1:] * beside[2:] + slopes[:-1] * beside[:-2]
            by_row = by_row + ops.matmul(2.0 * by_node, own) * rows
            by_relation = [
                ops.matmul(ops.transpose(by_node), squares),
                ops.matmul(ops.transpose(by_kind), products),
            ]
            return _to_nodes(by_row, steps), ops.concatenate(by_relation, axis=0)

        return ops.reshape(scores, (batch, length, length)), gradients

    rows = ops.reshape(states, (-1, dim))
    if training:
        return ops.custom_gradient(along)(rows, relations)
    return along(rows, relations)[0]


def plain_step_scores(states: Tensor, relations: Tensor, edges: Tensor) -> Tensor:
    """Scores `(batch, length, length)` of the edges of any graph, from products of all nodes.

    Args:
        states: As in `step_scores`, of every node.
        relations: As in `step_scores`.
        edges: Types of the edges, ints `(batch, length, length)`; 0 for none.
    """
    # A self edge needs no product of all pairs.
    own = ops.matmul(states * states, relations[SELF - 1][:, None])
    scores = own * ops.cast(ops.equal(edges, SELF), states.dtype)
    for relation in (FORWARD, BACKWARD, BOTH):
        among = ops.matmul(states * relations[relation - 1], ops.transpose(states, (0, 2, 1)))
        scores = scores + among * ops.cast(ops.equal(edges, relation), states.dtype)
    return scores


def _of_nodes(rows: Tensor, steps: Steps) -> Tensor:
    """For each position the row of its node."""
    return ops.cond(steps.repeats, lambda: gather(rows, steps.nodes), lambda: rows)


def _to_nodes(rows: Tensor, steps: Steps) -> Tensor:
    """For each node the sum over its positions; the gradient of `_of_nodes`."""

    def summed() -> Tensor:
        return ops.scatter(steps.nodes[:, None], rows, ops.shape(rows))

    return ops.cond(steps.repeats, summed, lambda: rows)
