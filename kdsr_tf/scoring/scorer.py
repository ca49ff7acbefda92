"""The interface of all scorers."""

from __future__ import annotations

from kdsr_tf.items.known_items import ItemVectors
from kdsr_tf.layers.configured_layer import ConfiguredLayer
from kdsr_tf.types import Tensor


class Scorer(ConfiguredLayer):
    """Makes the two vectors whose inner product is the score of an item.

    A score is always one inner product of `dim` numbers, so that any index of vectors
    retrieves the best items.

    Attributes:
        dim: Width of both vectors.
        sources: Sources of item vectors that it reads.
        reads_last: Whether `user_vectors` reads the last item of the history.
    """

    dim: int
    sources: tuple[str, ...] = ()
    reads_last = False

    def build(self, input_shape=None) -> None:
        """Nothing: a scorer with weights adds them here."""
        self.built = True

    def item_vectors(self, vectors: ItemVectors) -> Tensor:
        """Vectors by which items are scored.

        Args:
            vectors: Result of `KnownItems.scored` or `KnownItems.catalogue`.

        Returns:
            Floats `(..., dim)`.
        """
        raise NotImplementedError

    def user_vectors(
        self, representations: Tensor, last: ItemVectors | None, training: bool | None = None
    ) -> Tensor:
        """Vectors with which items are scored.

        Args:
            representations: Result of the prediction head, floats `(..., dim)`; zeros at
                padding.
            last: Vectors of the items that the histories end with, as they are scored; None
                unless `reads_last`.
            training: Whether to drop units.

        Returns:
            Floats `(..., dim)`; zeros at padding.
        """
        raise NotImplementedError

    def folded(self, vectors: ItemVectors) -> tuple[Scorer, Tensor]:
        """A scorer of one source that makes the same user vectors; only where `reads_last`.

        Args:
            vectors: As in `item_vectors`.

        Returns:
            The scorer, and what it is to read of each item, floats `(..., dim)`.
        """
        raise NotImplementedError
