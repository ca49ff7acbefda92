"""Classes of a user's own, named by their dotted path."""

from __future__ import annotations

import importlib
import inspect
from typing import TypeVar

T = TypeVar("T")


def import_subclass(path: str, base: type[T]) -> type[T]:
    """Import a class from its dotted path, such as `my_package.encoders.MyEncoder`."""
    module, _, name = path.rpartition(".")
    if not module:
        raise ValueError(
            "must be the dotted path of a class, such as my_package.my_module.MyClass. "
            f"Received: {path}."
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"cannot import {path}: {error}. Install its package, or add its folder to PYTHONPATH."
        ) from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ValueError(
            f"{path} must be a subclass of {base.__module__}.{base.__name__}. Received: {found!r}."
        )
    return found
