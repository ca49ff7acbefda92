"""What `kdsr experiment` prints."""

from __future__ import annotations

from collections.abc import Sequence

from kdsr_tf import stages
from kdsr_tf.console import console, output, table
from kdsr_tf.experiments import experiment_table
from kdsr_tf.experiments.experiment import Experiment, load_experiment, packaged_experiments
from kdsr_tf.experiments.experiment_results import Results
from kdsr_tf.runs.seeded_runs import REPEATED


def show_experiments() -> None:
    """Print the experiments that come with KDSR-TF."""
    found = [load_experiment(name) for name in packaged_experiments()]
    rows = [(one.name, one.answers or "", len(one.every_arm()), one.description) for one in found]
    output.print(table("Experiments", ("name", "paper", "arms", "question"), rows))


def show_arms(experiment: Experiment, rows: Sequence[Sequence[str]], seeds: int) -> None:
    """Print what `--dry-run` shows: a row per arm, a column per stage."""
    title = f"{experiment.name}: {experiment.description} ({len(rows)} arms, {seeds} seeds)"
    console.print(table(title, ("arm", *stages.BEFORE_TRAINING, *REPEATED), rows))


def show_results(results: Results, folder: str) -> None:
    """Print the results of an experiment and where they were written."""
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
