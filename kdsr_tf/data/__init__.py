"""Input of training and evaluation: `examples` (tf.data) and `arrays` (NumPy)."""
