"""The least time a training step can take: its matrix products at full speed.

The floor of an epoch is the operations of all matrix products over the rate of large float32
products that keep all processors busy, measured in the same process. Operations are counted
at real positions, targets and pairs only, and a backward pass counts as two forward passes:

    3 * (2 T N d  +  sum over windows of F(n)  +  sum over modalities of H)
    H = 2 R d^2  +  K (2 d  +  2 d^2  +  2 d x)

T targets, N items (or sampled negatives), d the size of embeddings, R real positions,
K pairs that are compared, x codes. F(n) are the products of the backbone and the
prediction head for one window of n items. They are read off the student's own graph,
where they are a polynomial of the second degree in n.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student

RATE_SIZE = 2_048
RATE_REPEATS = 7


@dataclasses.dataclass(kw_only=True)
class Counts:
    """What an epoch holds.

    Args:
        windows: Rows of all batches.
        positions: Real positions R.
        squares: Sum of squared lengths of the windows.
        padded: Positions with padding.
        targets: Targets T.
        pairs: Pairs K per modality that a step compares.
    """

    windows: int = 0
    positions: int = 0
    squares: int = 0
    padded: int = 0
    targets: int = 0
    pairs: dict[str, int] = dataclasses.field(default_factory=dict)


def count(batches: Iterable[dict[str, Any]], model: KDSR) -> Counts:
    """Count some batches as `KDSR` trains on them."""
    counts = Counts(pairs=dict.fromkeys(model.modalities, 0))
    most_pairs = model.get_config()["pairs_per_window"]
    for batch in batches:
        items, target = np.asarray(batch[schema.ITEMS]), np.asarray(batch[schema.TARGET])
        lengths = (items > 0).sum(axis=1)
        counts.windows += len(items)
        counts.positions += int(lengths.sum())
        counts.squares += int((lengths**2).sum())
        counts.padded += items.size
        counts.targets += int((target > 0).sum())
        for modality in model.modalities:
            present = np.asarray(batch[schema.present_key(modality)], bool)
            first, second = schema.pair_positions(items.shape[1])
            usable = np.where(present, items, 0)
            left, right = usable[:, first], usable[:, second]
            pairs = ((left > 0) & (right > 0) & (left != right)).sum(axis=1)
            counts.pairs[modality] += int(
                np.minimum(pairs, most_pairs or pairs.max(initial=0)).sum()
            )
    return counts


def operations(model: KDSR, counts: Counts) -> dict[str, float]:
    """Operations of the matrix products of an epoch, forward and backward, by part."""
    student, config = model.student, model.get_config()
    dim, columns = student.dim, config["negatives"] or student.num_items
    constant, linear, square = _per_window(student)
    forward = {
        "softmax": 2.0 * counts.targets * columns * dim,
        "backbone": counts.windows * constant + counts.positions * linear + counts.squares * square,
        "pairs": 0.0,
    }
    for pairs in counts.pairs.values():
        per_pair = 2 * dim + 2 * dim**2 + 2 * dim * config["num_codes"]
        forward["pairs"] += 2.0 * counts.positions * dim**2 + pairs * per_pair
    return {part: 3.0 * value for part, value in forward.items()}


def matmul_rate() -> tuple[float, float]:
    """Operations per second, and per second of processor time, of a large product.

    Where an operation may use some of the processors only, several products run at once, so
    that the rate is always that of all processors.
    """
    number = products_at_once()
    matrices = [tf.random.stateless_normal((RATE_SIZE,) * 2, (0, i)) for i in range(number)]

    @tf.function
    def products() -> list[tf.Tensor]:
        return [tf.matmul(matrix, matrix) for matrix in matrices]

    products()
    taken = []
    for _ in range(RATE_REPEATS):
        started = time.perf_counter(), time.process_time()
        for product in products():
            product.numpy()
        taken.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    wall, processor = np.median(taken, axis=0)
    operations = 2.0 * RATE_SIZE**3 * number
    return operations / wall, operations / processor


def products_at_once() -> int:
    """How many products it takes to keep all processors busy."""
    chosen = tf.config.threading.get_intra_op_parallelism_threads()
    threads = chosen or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
    return math.ceil(len(os.sched_getaffinity(0)) / threads) if threads else 1


def _per_window(student: Student) -> np.ndarray:
    """F(n) as its coefficients of 1, n and n^2."""
    lengths = np.unique(np.linspace(2, student.max_length, 3).astype(int))
    values = [_products(student, int(length)) for length in lengths]
    return np.polynomial.polynomial.polyfit(lengths, values, 2)


def _products(student: Student, length: int) -> float:
    step = tf.function(lambda items: student(items, training=False))
    graph = step.get_concrete_function(tf.TensorSpec((1, length), tf.int32)).graph
    return float(sum(_operations_of(op) for op in graph.get_operations()))


def _operations_of(op: tf.Operation) -> int:
    if op.type in ("While", "StatelessWhile"):
        raise SystemExit("The floor of a backbone with a loop over positions is not known.")
    if op.type not in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
        return 0
    transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
    contracted = op.inputs[0].shape[-2 if transposed else -1]
    return 2 * contracted * op.outputs[0].shape.num_elements()
