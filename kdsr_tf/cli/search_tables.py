"""What `kdsr search` prints."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from kdsr_tf import artifacts
from kdsr_tf.console import console, output, table
from kdsr_tf.experiments.search_space import SearchSpace
from kdsr_tf.experiments.study import importance, trial_rows
from kdsr_tf.runs.trials import shown_value

if TYPE_CHECKING:
    import optuna

_SHOWN = 10


def show_space(space: SearchSpace, trials: int) -> None:
    """Print the keys of a search and their values."""
    rows = [
        (key, ", ".join(f"{k} {v}" for k, v in values.model_dump(exclude_defaults=True).items()))
        for key, values in space.parameters.items()
    ]
    console.print(table(f"{space.name}: {trials} trials", ("key", "values"), rows))


def show_study(study: optuna.Study, folder: str, metric: str) -> None:
    """Print the best trials, which keys mattered, and how to use the best values.

    Args:
        study: The study.
        folder: Where its tables are.
        metric: What it was judged by.
    """
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
