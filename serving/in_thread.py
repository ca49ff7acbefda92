"""Work too long for the event loop, which all callers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_MOST_BYTES_AT_ONCE = 1 << 16


async def in_thread(size: int, function: Callable[..., T], *arguments: Any) -> T:
    """The result of a function: computed at once, or on a thread where it works on many bytes."""
    if size <= _MOST_BYTES_AT_ONCE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
