"""Private interfaces of Keras, all read in Keras 3.15 (`setup.cfg` allows no other).

What relies on them, and what to do if a test of this module fails after an upgrade:

- `inputs_of` and `readers_of`: the graph of a Functional model. `fold_normalization` walks it
  to make image networks faster. Look for the new names of nodes in `keras/src/ops/node.py`;
  until then `fold` may return its network unchanged: 15 to 20 % slower, the same vectors.
- `GroupOptimizerHooks`, `moments_of` and `variables_of`: the optimizer. `GroupAdam` must see
  sums over replicas, refuse steps that are not finite and clip per group. Without the hooks
  training would go on with other updates, so a class that lacks one is refused. Look for the
  steps of `apply` in `keras/src/optimizers/base_optimizer.py`.

Nothing here imports Keras.
"""

from __future__ import annotations

from typing import Any

from kdsr_tf.private_interfaces import require

READ_IN = "Keras 3.15"


def inputs_of(layer: Any) -> list[Any]:
    """The layers whose outputs enter a layer of a Functional model; one list per call of it."""
    return [
        [tensor._keras_history.operation for tensor in node.input_tensors]
        for node in layer._inbound_nodes
    ]


def readers_of(layer: Any) -> list[Any]:
    """The distinct layers of a Functional model that read the output of a layer."""
    return list({id(node.operation): node.operation for node in layer._outbound_nodes}.values())


def moments_of(adam: Any, variable: Any) -> tuple[Any, Any]:
    """Mean and mean square of a variable's gradients, as `keras.optimizers.Adam` keeps them."""
    index = adam._get_variable_index(variable)
    return adam._momentums[index].value, adam._velocities[index].value


def variables_of(optimizer: Any) -> list[Any]:
    """The variables that an optimizer was built for."""
    return optimizer._trainable_variables


class GroupOptimizerHooks:
    """Base class before `keras.optimizers.Adam`: steps of `apply` that a subclass may change.

    Gradients are never summed over replicas here: the caller hands sums.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        following = cls.__mro__[cls.__mro__.index(GroupOptimizerHooks) + 1]
        require(
            following,
            "_get_current_learning_rate",
            "_clip_gradients",
            "_get_variable_index",
            read_in=READ_IN,
        )

    def rate_of_step(self, rate: Any) -> Any:
        """The learning rate of a step, from that of the schedule."""
        return rate

    def clipped(self, gradients: list) -> list:
        """Clipped gradients of a step."""
        return super()._clip_gradients(gradients)  # type: ignore[misc]

    def _get_current_learning_rate(self) -> Any:
        return self.rate_of_step(super()._get_current_learning_rate())  # type: ignore[misc]

    def _clip_gradients(self, gradients: list) -> list:
        return self.clipped(gradients)

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        return grads_and_vars
