"""`kdsr check`: leaks and oddities, before training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from kdsr_tf.cli.options import Invocation
from kdsr_tf.console import output, table
from kdsr_tf.evaluation.checks.finding import LEAK, OK, Finding

LEAKS_FOUND = 1


def check(invocation: Invocation, near: float, as_json: bool) -> int:
    """Look for leaks and oddities, and print them.

    Args:
        invocation: What was asked for.
        near: Cosine from which two items are near-duplicates.
        as_json: Print JSON.

    Returns:
        The exit status.
    """
    from kdsr_tf.evaluation.checks.run_checks import check as run_checks

    if invocation.dry_run:
        output.print("check writes nothing.")
        return 0
    found, skipped = run_checks(invocation.config, near)
    leaks = [one for one in found if one.severity == LEAK]
    if as_json:
        findings = [dataclasses.asdict(one) for one in found]
        click.echo(json.dumps({"findings": findings, "not_checked": skipped}, indent=2))
    else:
        _show(found, skipped)
    return LEAKS_FOUND if leaks else 0


def _show(found: Sequence[Finding], skipped: Sequence[str]) -> None:
    notable = [one for one in found if one.severity != OK]
    rows = [(one.severity, one.check, one.count, one.total, one.unit) for one in notable]
    columns = ("severity", "found", "count", "of", "unit")
    output.print(table("Findings", columns, rows) if rows else "Nothing was found.")
    for one in notable:
        output.print(f"{one.severity}: {one.check}", style="bold", markup=False)
        output.print(f"  {one.meaning}", markup=False)
        for example in one.examples:
            output.print(f"  - {example}", markup=False)
    output.print()
    output.print(
        f"Fine: {'; '.join(one.check for one in found if one.severity == OK)}.", markup=False
    )
    for reason in skipped:
        output.print(f"Not checked: {reason}.", markup=False)
    leaks = sum(one.severity == LEAK for one in notable)
    output.print(f"Kinds of leaks: {leaks}." if leaks else "No leak.")
