"""Type aliases of the package."""

from __future__ import annotations

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the active Keras backend."""

Summary: TypeAlias = dict[str, Any]
"""Rows of a stage's summary table: label to value."""
