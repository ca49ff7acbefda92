"""What `kdsr check`, `experiment` and `search` print."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kdsr_tf import artifacts, stages
from kdsr_tf.console import console, output, table
from kdsr_tf.evaluation.checks.finding import LEAK, OK, Finding
from kdsr_tf.experiments.experiment import Experiment, load_experiment, packaged_experiments
from kdsr_tf.experiments.search import SearchSpace

if TYPE_CHECKING:
    import optuna

    from kdsr_tf.experiments.experiment_results import Results

_SHOWN = 10


def show_findings(found: Sequence[Finding], skipped: Sequence[str], as_json: bool) -> None:
    """Print the findings of all checks, worst first, and the reasons why artifacts were skipped."""
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


def show_experiments() -> None:
    """Print the experiments that come with KDSR-TF."""
    found = [load_experiment(name) for name in packaged_experiments()]
    rows = [(one.name, one.answers or "", len(one.every_arm()), one.description) for one in found]
    output.print(table("Experiments", ("name", "paper", "arms", "question"), rows))


def show_arms(experiment: Experiment, rows: Sequence[Sequence[str]], seeds: int) -> None:
    """Print what `--dry-run` shows: a row per arm, a column per stage."""
    from kdsr_tf.runs.seeded_runs import REPEATED

    title = f"{experiment.name}: {experiment.description} ({len(rows)} arms, {seeds} seeds)"
    console.print(table(title, ("arm", *stages.BEFORE_TRAINING, *REPEATED), rows))


def show_results(results: Results, folder: str) -> None:
    """Print the results of an experiment and where they were written."""
    from kdsr_tf.experiments import experiment_table

    for shown in experiment_table.show(results):
        output.print(shown)
    output.print(experiment_table.legend(results), markup=False)
    for note in results.notes:
        output.print(f"Note: {note}", style="yellow", markup=False)
    console.print(
        f"Written to {folder}: table.md, table.csv and, where there are modality tables, "
        "retention.csv, .svg and .png.",
        markup=False,
    )


def show_space(space: SearchSpace, trials: int) -> None:
    """Print the keys of a search and their values."""
    rows = [
        (key, ", ".join(f"{k} {v}" for k, v in values.model_dump(exclude_defaults=True).items()))
        for key, values in space.parameters.items()
    ]
    console.print(table(f"{space.name}: {trials} trials", ("key", "values"), rows))


def show_study(study: optuna.Study, folder: str, metric: str) -> None:
    """Print the best trials, which keys mattered, and how to use the best values."""
    from kdsr_tf.experiments.search import importance, trial_rows
    from kdsr_tf.runs.trials import shown_value

    rows = trial_rows(study)
    cells = []
    for row in rows[:_SHOWN]:
        # A terminal is not as wide as a search may have keys.
        values = study.trials[row["trial"]].params.items()
        short = ", ".join(f"{k.rpartition('.')[2]}={shown_value(v)}" for k, v in values)
        figures = (shown_value(row[name]) for name in ("trial", "state", "value", "epochs"))
        cells.append([*figures, short])
    title = f"The best of {len(rows)} trials by {metric} on validation"
    output.print(table(title, ("trial", "state", "value", "epochs", "values"), cells))
    shares = [[key, f"{share:.2f}"] for key, share in importance(study).items()]
    if shares:
        output.print(table("What mattered", ("key", "importance"), shares))
    best = artifacts.join(folder, "best.yaml")
    console.print(f"Use it: kdsr run --config {shlex.quote(best)}", markup=False, soft_wrap=True)
