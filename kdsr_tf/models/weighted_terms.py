"""A model whose loss is a weighted sum of named terms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
from keras import ops

from kdsr_tf.objectives.objective import Weight
from kdsr_tf.ops.replicas import sum_over_replicas
from kdsr_tf.types import Tensor

NORM = "gradient_norm_"


class WeightedTerms(keras.Model):
    """Adds up terms by their weights, and logs them.

    Each term is logged under its name as it is, and weighted under `{term}_weighted`;
    `loss` is the weighted total. A subclass says what the terms are (`loss_terms`), gives
    their weights to `weigh` before it is built, and calls `build` of this class.

    The norms that an optimizer keeps as `gradient_norms`, group to variable
    (`training.grouped_optimizer.GroupedOptimizer`), are logged as `gradient_norm_{group}`, also
    where Keras's loss scaling wraps it. Other optimizers add nothing.
    """

    def weigh(self, weights: Mapping[str, Weight]) -> None:
        """Take the weight of every term that `loss_terms` returns; to be called once."""
        self._weights = dict(weights)
        self._terms = {name: keras.metrics.Mean(name=name) for name in weights}
        self._weighted = {name: keras.metrics.Mean(name=f"{name}_weighted") for name in weights}

    def build(self, input_shape=None) -> None:
        self._step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="step",
        )
        self.built = True

    @property
    def term_weights(self) -> dict[str, float]:
        """The weight of each term at the next training step."""
        return {name: float(self._weight(name)) for name in self._weights}

    def loss_terms(
        self, x: Mapping[str, Tensor], y_pred: dict
    ) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Every term of this replica, not weighted.

        Args:
            x: The batch.
            y_pred: Result of the call.

        Returns:
            Term to its sum and to the count that divides the sum of all replicas.
        """
        raise NotImplementedError

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The weighted total, and an update of the terms' metrics."""
        total = 0.0
        for name, (value, count) in self.loss_terms(x, y_pred).items():
            count = sum_over_replicas(count)
            divisor = ops.maximum(count, 1.0)
            # Keras averages what replicas log, so each logs the global value.
            everywhere = sum_over_replicas(value) / divisor
            weight = self._weight(name)
            self._terms[name].update_state(everywhere, sample_weight=count)
            self._weighted[name].update_state(weight * everywhere, sample_weight=count)
            total = total + weight * value / divisor
        if training:
            self._step.assign_add(1)
        return total * ops.where(ops.isfinite(total), 1.0, math.nan)

    def make_train_function(self, force: bool = False) -> None:
        """As Keras does, with the optimizer built: making its variables costs a second trace."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def train_step(self, *arguments):
        """Keras's step on the active backend, with the norms among its logs."""
        result = super().train_step(*arguments)
        norms = {f"{NORM}{group}": norm for group, norm in self.gradient_norms.items()}
        if keras.backend.backend() != "jax":
            return result | {name: ops.copy(norm) for name, norm in norms.items()}
        # The step is a function: what the optimizer kept is in the state it returns.
        logs, state = result
        kept = {id(v): value for v, value in zip(self.optimizer.variables, state[2], strict=True)}
        return logs | {name: kept[id(norm)] for name, norm in norms.items()}, state

    @property
    def gradient_norms(self) -> dict[str, keras.Variable]:
        """L2 norm of the last gradient per group, before clipping."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return getattr(optimizer, "gradient_norms", {})

    def finite_report(self) -> dict[str, list[str]]:
        """Names of what is not finite in training.

        `terms` since the epoch began, and `groups` of variables whose last gradient was such, where
        the optimizer keeps norms.
        """
        if keras.backend.backend() == "jax":
            self.jax_state_sync()
        terms = {name: metric.result() for name, metric in self._terms.items()}
        return {
            kind: [name for name, value in values.items() if not math.isfinite(float(value))]
            for kind, values in (("terms", terms), ("groups", self.gradient_norms))
        }

    def term_logs(self) -> dict[str, Tensor]:
        """`loss` and every term, as it is and weighted."""
        logged = (*self._terms.values(), *self._weighted.values())
        return {"loss": self._total()} | {metric.name: metric.result() for metric in logged}

    def get_metrics_result(self) -> dict:
        """All metrics. `loss` is the sum of the weighted terms: Keras's own would weigh the
        replicas of a batch alike even where one has more windows.
        """
        return {**super().get_metrics_result(), "loss": self._total()}

    def _total(self) -> Tensor:
        return sum(metric.result() for metric in self._weighted.values())

    def _weight(self, name: str) -> float | Tensor:
        weight = self._weights[name]
        return weight(self._step) if callable(weight) else weight
