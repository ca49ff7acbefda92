"""What a check reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import SupportsInt

LEAK, WARNING, NOTE, OK = "leak", "warning", "note", "ok"
SEVERITIES = (LEAK, WARNING, NOTE, OK)
"""From what makes every figure worthless to what is fine."""

_MOST_EXAMPLES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check.

    Args:
        check: What was looked for.
        severity: `leak`, `warning` or `note`; `ok` where nothing was found.
        count: How many were found.
        total: Out of how many.
        unit: What is counted, such as `users`.
        examples: A few of them, for people.
        meaning: Why it matters and what to do.
    """

    check: str
    severity: str
    count: int
    total: int
    unit: str
    examples: tuple[str, ...]
    meaning: str


def finding(
    check: str,
    severity: str,
    count: SupportsInt,
    total: SupportsInt,
    unit: str,
    examples: Iterable[str],
    meaning: str,
) -> Finding:
    """A `Finding`, which is `ok` where nothing was counted; keeps the first examples."""
    kept = [example for example, _ in zip(examples, range(_MOST_EXAMPLES), strict=False)]
    return Finding(
        check=check,
        severity=severity if count else OK,
        count=int(count),
        total=int(total),
        unit=unit,
        examples=tuple(kept),
        meaning=meaning if count else "",
    )
