"""What `kdsr check` found, as a table and sentences, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from kdsr_tf.console import output, table
from kdsr_tf.evaluation.checks.finding import LEAK, OK, Finding


def show_findings(found: Sequence[Finding], skipped: Sequence[str], as_json: bool) -> None:
    """Print the findings of all checks.

    Args:
        found: Worst first.
        skipped: Artifacts that were not checked, with the reason.
        as_json: Print JSON.
    """
    if as_json:
        findings = [dataclasses.asdict(one) for one in found]
        click.echo(json.dumps({"findings": findings, "not_checked": skipped}, indent=2))
        return
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
