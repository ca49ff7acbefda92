"""How hard each term of the loss pulls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
from keras import ops

from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.types import Tensor


def term_gradient_norms(model: TrainingModel, batch: Mapping[str, Tensor]) -> dict[str, float]:
    """L2 norm, over all trainable variables, of each term's gradient times its next weight.

    A term whose weight times gradient is small moves nothing, whatever its value:
    `score_loss: paper` at λ1 = 1 is one. The model, which is built, is called as in tests: all
    pairs, all items, no dropout, and no state of it changes. It takes one forward pass and a
    backward pass per term: meant for one batch per epoch, outside a strategy's scope.
    """
    weights = model.term_weights

    def weighted(outputs: dict) -> dict[str, Tensor]:
        terms = model.loss_terms(batch, outputs)
        return {
            name: weights[name] * value / ops.maximum(count, 1.0)
            for name, (value, count) in terms.items()
        }

    batch = {name: ops.convert_to_tensor(value) for name, value in batch.items()}
    gradients = _on_jax if keras.backend.backend() == "jax" else _on_tensorflow
    norms = {}
    for name, found in gradients(model, batch, weighted).items():
        squares = [ops.sum(ops.square(g)) for g in found if g is not None]
        norms[name] = float(ops.sqrt(sum(squares)))
    return norms


def _on_jax(model: TrainingModel, batch: dict, weighted: Callable[[dict], dict]) -> dict[str, list]:
    import jax

    model.jax_state_sync()
    fixed = [v.value for v in model.non_trainable_variables]

    def values(variables: list) -> dict[str, Tensor]:
        outputs, _ = model.stateless_call(variables, fixed, batch, training=False)
        return weighted(outputs)

    # One pass forward; backward, one per term.
    found, pull = jax.vjp(values, [v.value for v in model.trainable_variables])
    return {
        term: pull({name: ops.full_like(v, name == term) for name, v in found.items()})[0]
        for term in found
    }


def _on_tensorflow(
    model: TrainingModel, batch: dict, weighted: Callable[[dict], dict]
) -> dict[str, list]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        terms = weighted(model(batch, training=False))
    variables = [v.value for v in model.trainable_variables]
    gradients = {name: tape.gradient(term, variables) for name, term in terms.items()}
    return {
        name: [g if g is None else tf.convert_to_tensor(g) for g in found]
        for name, found in gradients.items()
    }
