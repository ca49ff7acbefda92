"""One Adam per group of variables, whose gradients are watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kdsr_tf.keras_internals import GroupOptimizerHooks, moments_of, variables_of
from kdsr_tf.ops.replicas import dense_sum_over_replicas
from kdsr_tf.types import Tensor


def is_rows(gradient: Any) -> bool:
    """Whether a gradient is that of some rows of its variable, a `tf.IndexedSlices`."""
    return hasattr(gradient, "dense_shape") and hasattr(gradient, "indices")


def with_values(gradient: Any, values: Tensor) -> Any:
    """A gradient of the same rows, or a dense one, with other values."""
    if not is_rows(gradient):
        return values
    return type(gradient)(values, gradient.indices, gradient.dense_shape)


def values_of(gradient: Any) -> Tensor:
    """All numbers of a gradient that may differ from 0."""
    return gradient.values if is_rows(gradient) else gradient


def summed_rows(gradient: Any) -> Any:
    """The same `tf.IndexedSlices` with every row once; its norm is that of the dense gradient."""
    import tensorflow as tf

    rows, places = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(rows)[0])
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


@keras.saving.register_keras_serializable(package="kdsr_tf")
class GroupAdam(GroupOptimizerHooks, keras.optimizers.Adam):
    """Adam inside a `GroupedOptimizer`, which hands it sums over all replicas.

    Clipping thus sees the gradient of the global batch, where Keras would clip each
    replica's share.

    A gradient of some rows of a table (`lazy_paths` of the `GroupedOptimizer`) moves those
    rows and their moments and leaves all others as they are (lazy Adam), where Adam would
    decay the moments of every row, and go on moving it, at every step.

    Attributes:
        gradient_norm: L2 norm of the group's last gradient, before clipping.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        self.gradient_norm, self._permit = (
            self.add_variable((), name=name, initializer=start, aggregation="only_first_replica")
            for name, start in (("gradient_norm", "zeros"), ("permit", "ones"))
        )
        super().build(variables)

    def begin_step(self, norm: Tensor, permit: Tensor) -> None:
        """Keep the norm of the step's gradient, and whether it may move anything."""
        self.gradient_norm.assign(norm)
        self._permit.assign(ops.cast(permit, "float32"))

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Keras's update, in one operation where TensorFlow has one.

        Keras writes it as a dozen operations, each of which reads and writes arrays as
        large as the variable.
        """
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        dtype = variable.dtype
        momentum, velocity = moments_of(self, variable)
        rate, first, second, epsilon, step = (
            ops.cast(value, dtype)
            for value in (
                learning_rate, self.beta_1, self.beta_2, self.epsilon, self.iterations + 1
            )
        )  # fmt: skip
        if is_rows(gradient):
            rows, values = gradient.indices, ops.cast(gradient.values, dtype)
            mean = first * momentum.sparse_read(rows) + (1 - first) * values
            square = second * velocity.sparse_read(rows) + (1 - second) * ops.square(values)
            rate = rate * ops.sqrt(1 - ops.power(second, step)) / (1 - ops.power(first, step))
            change = rate * mean / (ops.sqrt(square) + epsilon)
            momentum.scatter_update(tf.IndexedSlices(mean, rows))
            velocity.scatter_update(tf.IndexedSlices(square, rows))
            variable.scatter_sub(tf.IndexedSlices(change, rows))
            return
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=ops.power(first, step),
            beta2_power=ops.power(second, step),
            lr=rate,
            beta1=first,
            beta2=second,
            epsilon=epsilon,
            grad=ops.cast(gradient, dtype),
        )

    def rate_of_step(self, rate: Tensor) -> Tensor:
        return rate * self._permit if self.built else rate

    def clipped(self, gradients: list) -> list:
        if self.global_clipnorm is None or not any(map(is_rows, gradients)):
            return super().clipped(gradients)
        # Keras cannot clip rows. Their norm is known: nothing accumulates where tables are lazy.
        # That of a refused step may be NaN, which would undo that its gradients are zeros.
        norm = ops.where(self._permit > 0, self.gradient_norm, 0.0)
        share = self.global_clipnorm / ops.maximum(norm, self.global_clipnorm)
        return [with_values(g, values_of(g) * share) for g in gradients]


@keras.saving.register_keras_serializable(package="kdsr_tf")
class GroupedOptimizer(keras.optimizers.MultiOptimizer):
    """Updates groups of variables, each with its own `GroupAdam`, or none of them.

    Where any gradient is not finite, the step moves no variable (its learning rates
    are 0 and its gradients count as 0). The same step runs on every backend, under XLA and
    under every distribution strategy.

    Args:
        optimizers: Group to its optimizer.
        paths: Path of every trainable variable to its group.
        lazy_paths: Variables of which a gradient of some rows moves those alone; see
            `GroupAdam`. On TensorFlow, on one replica.
        name: Name of the optimizer.

    Raises:
        ValueError: from `build`, if a variable is in no group.
    """

    def __init__(
        self,
        optimizers: Mapping[str, GroupAdam],
        paths: Mapping[str, str],
        lazy_paths: Sequence[str] = (),
        name: str = "grouped_optimizer",
    ):
        # Exact paths, not patterns: an entry can match neither nothing nor two variables.
        chosen = {path: optimizers[group] for path, group in paths.items()}
        default = next(iter(optimizers.values()))
        super().__init__(keras.optimizers.OptimizerMap(default, chosen), name=name)
        self._groups, self._paths = dict(optimizers), dict(paths)
        self._lazy_paths = tuple(lazy_paths)

    @property
    def gradient_norms(self) -> dict[str, keras.Variable]:
        """L2 norm of the last gradient per group, before clipping; once built."""
        return {n: inner.gradient_norm for n, inner in self._groups.items() if inner.built}

    @property
    def learning_rates(self) -> dict[str, Tensor]:
        """Learning rate per group at the next step."""
        return {name: inner.learning_rate for name, inner in self._groups.items()}

    def build(self, var_list: Sequence[keras.Variable]) -> None:
        for variable in var_list:
            if variable.path not in self._paths:
                raise ValueError(
                    f"The variable `{variable.path}` is in no group. Groups: "
                    f"{', '.join(self._groups)}. Make the optimizer after the model."
                )
        super().build(var_list)

    def apply(self, grads: list, trainable_variables: Sequence | None = None) -> None:
        variables = list(trainable_variables or variables_of(self))
        if not self.built:
            self.build(variables)
        grads = self._summed(grads, variables)
        squares = dict.fromkeys(self._groups, 0.0)
        for gradient, variable in zip(grads, variables, strict=True):
            if gradient is not None:
                group = self._paths[variable.path]
                squares[group] += ops.sum(ops.square(ops.cast(values_of(gradient), "float32")))
        permit = ops.isfinite(sum(squares.values()))
        for name, inner in self._groups.items():
            if inner.built:
                inner.begin_step(ops.sqrt(squares[name]), permit)
        super().apply(_unless_refused(grads, permit), variables)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            "optimizers": {name: serialize(inner) for name, inner in self._groups.items()},
            "paths": dict(self._paths),
            "lazy_paths": list(self._lazy_paths),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> GroupedOptimizer:
        config = dict(config)
        config["optimizers"] = {
            name: keras.saving.deserialize_keras_object(inner, custom_objects)
            for name, inner in config["optimizers"].items()
        }
        return cls(**config)

    def _summed(self, grads: list, variables: Sequence) -> list:
        """Gradients of the global batch; those of lazy tables as rows, each once."""
        lazy = [
            v.path in self._lazy_paths and is_rows(g) for g, v in zip(grads, variables, strict=True)
        ]
        each = list(zip(grads, lazy, strict=True))
        dense = iter(dense_sum_over_replicas([g for g, rows in each if not rows]))
        return [summed_rows(g) if rows else next(dense) for g, rows in each]


def _unless_refused(gradients: list, permit: Tensor) -> list:
    """The gradients, or zeros; None stays None."""
    given = [values_of(g) for g in gradients if g is not None]
    # A branch hands arrays on where choosing number by number would copy them.
    kept = iter(ops.cond(permit, lambda: given, lambda: [ops.zeros_like(g) for g in given]))
    return [None if g is None else with_values(g, next(kept)) for g in gradients]
