"""Sequence encoders behind one interface; `catalogue` has them by name."""
