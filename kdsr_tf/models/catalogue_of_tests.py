"""What all items are scored by during a pass over tests."""

from __future__ import annotations

import keras

from kdsr_tf.types import Tensor


class CatalogueOfTests(keras.metrics.Metric):
    """Item vectors `(num_items + 1, dim)` that are made once per pass over tests, not per batch.

    They are state that a pass leaves behind and that is no weight. Keras has one kind of such
    state, that of metrics: a call sees it on all backends but JAX. Nothing is logged, and
    checkpoints leave it out (`training.checkpoints.all_variables`).
    """

    def __init__(self, shape: tuple[int, int]):
        super().__init__(name="catalogue_of_tests", dtype="float32")
        self.vectors = self.add_variable(
            shape, "zeros", aggregation="only_first_replica", name="vectors"
        )

    def fill(self, vectors: Tensor) -> None:
        """Set the vectors of the pass that begins."""
        self.vectors.assign(vectors)

    def update_state(self, *arguments, **kwargs) -> None:
        """Nothing: `fill` is called before the first batch."""

    def reset_state(self) -> None:
        """Nothing: Keras resets metrics after `fill`."""

    def result(self) -> dict[str, Tensor]:
        """Nothing to log."""
        return {}
