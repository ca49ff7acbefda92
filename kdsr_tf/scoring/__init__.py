"""Scorers: what is compared with what, so that a score is one inner product."""
