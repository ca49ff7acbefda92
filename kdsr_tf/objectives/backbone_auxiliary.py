"""What a backbone's paper learns beside the next item."""

from __future__ import annotations

import keras
from keras import ops

from kdsr_tf.models.recommender import Recommender
from kdsr_tf.objectives.objective import Objective, Step, Term
from kdsr_tf.types import Tensor


class BackboneAuxiliary(Objective):
    """Terms of a backbone of its own, means over windows.

    Args:
        auxiliary: Result of `Backbone.make_auxiliary`: a layer that is called with the
            input and the output of the backbone and returns a loss per window by term.
    """

    def __init__(self, auxiliary: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.auxiliary = auxiliary
        self.default_weights = dict(auxiliary.term_weights)

    def build(self, input_shape=None) -> None:
        self.auxiliary.build()
        self.built = True

    def terms(
        self, step: Step, recommender: Recommender
    ) -> tuple[dict[str, Term], dict[str, Tensor]]:
        losses = self.auxiliary(step.vectors, step.states)
        return {name: Term(ops.sum(loss), step.windows) for name, loss in losses.items()}, {}
