"""A generated boutique in the source format, to try everything without a download."""

from kdsr_tf.datasets.demo.boutique import generate

__all__ = ["generate"]
