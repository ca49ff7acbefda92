"""The interface of all objectives, and weights of terms that fade."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras

from kdsr_tf.items.known_items import ItemVectors, KnownItems
from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.types import Tensor

Weight = float | keras.optimizers.schedules.LearningRateSchedule
"""Weight of a term: a number >= 0, or one that follows the training step."""


class Term(NamedTuple):
    """One term of the loss of this replica, not weighted."""

    total: Tensor  # Sum over what it counts, a scalar
    count: Tensor  # What the sum over all replicas is divided by, a scalar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """What objectives see of one batch."""

    inputs: Mapping[str, Tensor]  # The batch
    vectors: ItemVectors  # Item vectors, `(batch, length, ...)` each
    states: Tensor  # What the backbone made of them, floats `(batch, length, dim)`
    users: Tensor  # User vectors that are to predict targets, floats `(count, dim)`
    targets: Tensor  # Their targets, ints `(count,)`, 0 for none
    rows: Tensor  # The window of each, ints `(count,)`
    windows: Tensor  # What terms that are means over windows are divided by, a scalar
    # The items whose vectors the step knows: the catalogue, or those of the batch where they are
    # computed
    known: KnownItems
    # Vectors `(num_items + 1, dim)` of all items in a test; None where targets are compared as in
    # training
    scored_by: Tensor | None
    training: bool  # Whether the step learns
    # Whether shapes may depend on the data, so that only what the loss reads is computed. True on
    # TensorFlow without XLA.
    dynamic: bool


class Objective(ConfiguredLayer):
    """Named terms of the training loss, and what tests measure beside them.

    It reads a `Step` and the recommender and changes neither. Its weights exist in training
    only.

    Attributes:
        default_weights: Weight of every term.
        reads_catalogue: Whether a training step reads the vectors of all items, so that the
            gradients of tables are dense.
    """

    default_weights: Mapping[str, float]
    reads_catalogue = False

    def build(self, input_shape=None) -> None:
        """Nothing: an objective with layers of its own builds them here."""
        self.built = True

    def check(self, recommender: Recommender) -> None:
        """Refuse a recommender that cannot learn by it.

        Raises:
            ValueError: saying why.
        """

    def terms(
        self, step: Step, recommender: Recommender
    ) -> tuple[dict[str, Term], dict[str, Tensor]]:
        """The terms of one step.

        Args:
            step: The batch and what the recommender made of it.
            recommender: The model that is trained.

        Returns:
            Terms by name; and tensors by any names that `measure` reads, none in training.
        """
        raise NotImplementedError

    def metrics_of_tests(self) -> Sequence[keras.metrics.Metric]:
        """Metrics that `measure` updates."""
        return ()

    def measure(self, found: Mapping[str, Tensor]) -> None:
        """Update the metrics of tests with the second result of `terms`."""


def annealed(
    weight: float, final: float, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A weight of a term that changes linearly, then stays.

    Args:
        weight: Weight in the first step, >= 0.
        final: Weight in step `steps` and after, as a share of `weight`, >= 0.
        steps: Training steps, > 0.
    """
    return keras.optimizers.schedules.PolynomialDecay(weight, steps, final * weight, power=1.0)
