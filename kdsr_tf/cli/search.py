"""`kdsr search`: good values of configuration keys, judged on validation."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import fsspec

from kdsr_tf import artifacts, stages
from kdsr_tf.cli import plan
from kdsr_tf.cli.compare import markdown_table
from kdsr_tf.cli.experiment import cached_external
from kdsr_tf.cli.options import Invocation
from kdsr_tf.cli.repeat import run_inputs, write_config
from kdsr_tf.cli.run import run_stage
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config, dump_config, override
from kdsr_tf.console import console, csv_text, output, table
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.splits import MIN_TRAIN_FOR_VALIDATION

if TYPE_CHECKING:
    import optuna

    from kdsr_tf.experiments.search_space import SearchSpace

SEARCHES = "searches"
"""Folder of the searches, below the working directory."""

_SHOWN = 10
_FAILURES_IN_A_ROW = 3
"""After so many the cause is not in the values."""


def search(invocation: Invocation, name: str, trials: int) -> None:
    """Search configuration keys for the best validation metric.

    Args:
        invocation: What was asked for.
        name: Name of the space, or its file.
        trials: Trials in all, those of earlier calls included.
    """
    from kdsr_tf.experiments.search_space import load_space

    space, config = load_space(name), override(invocation.config, ["train.refit=false"])
    _refuse(config)
    space.check(config)
    find_external = cached_external()
    external = find_external(config)
    if invocation.dry_run:
        rows = [
            (
                key,
                ", ".join(f"{k} {v}" for k, v in values.model_dump(exclude_defaults=True).items()),
            )
            for key, values in space.parameters.items()
        ]
        console.print(table(f"{space.name}: {trials} trials", ("key", "values"), rows))
        wanted = (*stages.BEFORE_TRAINING, "train")
        states = plan.make_plan(config, external)
        console.print(plan.plan_table([s for s in states if s.artifact.stage in wanted]))
        return
    with locked(config.workdir):
        _search(space, invocation, config, trials, find_external)


def _refuse(config: Config) -> None:
    if config.train.selection == "test_oracle":
        raise ConfigError(
            "A search on the test points would choose values by what they are to be judged on. "
            "Received: train.selection=test_oracle. Set train.selection=validation."
        )
    if "://" in config.workdir:
        raise ConfigError(
            "`kdsr search` keeps its journal on a local disk. "
            f"Received: workdir={config.workdir}. Give a folder with --workdir."
        )


def _search(
    space: SearchSpace,
    invocation: Invocation,
    config: Config,
    trials: int,
    find_external: Callable[[Config], dict[str, str]],
) -> None:
    from kdsr_tf.experiments.study import num_judged, open_study

    folder = artifacts.join(config.workdir, SEARCHES, space.name)
    usual = stages.fingerprints(config, find_external(config))
    artifacts.write_text(artifacts.join(folder, "space.yaml"), _dump(space))
    study = open_study(folder, space, usual["student"], config.training_seed)
    failed = 0
    while num_judged(study) < trials:
        trial = study.ask()
        console.rule(f"[bold]trial {trial.number}[/bold]", align="left")
        try:
            run_trial(study, trial, space, config, usual, find_external, invocation.beam_args)
        except KDSRError as error:
            console.print(f"Trial {trial.number} failed: {error}", style="red", markup=False)
            study.tell(trial, state=_state("FAIL"))
            failed += 1
            if failed == _FAILURES_IN_A_ROW:
                raise
        else:
            failed = 0
        _write_results(study, invocation.config, folder)
    _show(study, folder, config.train.monitor)


def run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    space: SearchSpace,
    config: Config,
    usual: Mapping[str, str],
    find_external: Callable[[Config], dict[str, str]],
    beam_args: tuple[str, ...] = (),
) -> None:
    """Train a student with a trial's values; the lock is the caller's.

    Args:
        study: The study.
        trial: The trial, as `study.ask` gave it; it is told to the study.
        space: The space.
        config: What the trials have in common.
        usual: Fingerprints of its artifacts.
        find_external: Gives the fingerprints of what has no manifest.
        beam_args: Options for Beam.

    Raises:
        KDSRError: if the values exclude each other, or a stage fails.
    """
    import optuna

    from kdsr_tf.experiments.planned_arms import place_inputs
    from kdsr_tf.experiments.study import RUN, report_epochs
    from kdsr_tf.training.checkpoints import Checkpoints

    own = override(config, space.suggest(trial))
    external = find_external(own)
    own = place_inputs(own, external, usual)
    student = stages.fingerprints(own, external)["student"]
    own = own.model_copy(update={"run": f"{space.name}-{student}"})
    trial.set_user_attr(RUN, own.run)
    run_inputs(own, external, beam_args)
    _check_validation_points(stages.location(own, "sequences"))
    directory = stages.location(own, "student")
    kept = artifacts.join(f"{directory}.checkpoints", student)
    checkpoints = Checkpoints(artifacts.join(kept, "select"))
    metric = f"val_{config.train.monitor}"

    def watch() -> None:
        log = checkpoints.values_of("epoch_log")
        if log is not None:
            report_epochs(trial, log["rows"], metric)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        run_stage(own, "train", external, write_config(own), watch=watch)
    except optuna.TrialPruned:
        console.print("Ended early: it falls behind the median of the others.")
        Checkpoints(kept).delete()
        study.tell(trial, state=_state("PRUNED"))
        return
    manifest = artifacts.read_manifest(directory, written_by="train")
    with fsspec.open(artifacts.join(directory, "history.csv"), "r") as file:
        report_epochs(trial, csv.DictReader(file), metric)
    study.tell(trial, manifest.details["validation"][metric])


def _check_validation_points(sequences: str) -> None:
    prepared = artifacts.find_manifest(sequences)
    if prepared is not None and prepared.counts.get("validation_points") == 0:
        raise KDSRError(
            f"There is nothing to select by in {sequences}: no user has the "
            f"{MIN_TRAIN_FOR_VALIDATION} train interactions that a validation target takes. Give "
            "longer histories, or lower prepare.test_fraction."
        )


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]


def _dump(space: SearchSpace) -> str:
    import yaml

    return yaml.safe_dump(space.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _write_results(study: optuna.Study, config: Config, folder: str) -> None:
    """`best.yaml`, `trials.csv` and `trials.md`, after every trial."""
    from kdsr_tf.experiments.search_space import assignment
    from kdsr_tf.experiments.study import importance, trial_rows

    rows = trial_rows(study)
    artifacts.write_text(artifacts.join(folder, "trials.csv"), csv_text(rows))
    metric = config.train.monitor
    parts = [f"# Search {study.study_name}", f"Selected on validation: {metric}."]
    parts.append(markdown_table(*_trial_cells(rows)))
    shares = importance(study)
    if shares:
        parts.append(markdown_table(["key", "importance"], _importance_cells(shares)))
    artifacts.write_text(artifacts.join(folder, "trials.md"), "\n\n".join(parts) + "\n")
    if rows[0]["state"] == "complete":
        best = override(config, [assignment(*pair) for pair in study.best_params.items()])
        artifacts.write_text(artifacts.join(folder, "best.yaml"), dump_config(best))


def _show(study: optuna.Study, folder: str, metric: str) -> None:
    from kdsr_tf.experiments.study import importance, trial_rows

    rows = trial_rows(study)
    title = f"The best of {len(rows)} trials by {metric} on validation"
    columns = ("trial", "state", "value", "epochs", "values")
    output.print(table(title, columns, [_short(row, study) for row in rows[:_SHOWN]]))
    shares = importance(study)
    if shares:
        output.print(table("What mattered", ("key", "importance"), _importance_cells(shares)))
    best = artifacts.join(folder, "best.yaml")
    console.print(f"Use it: kdsr run --config {shlex.quote(best)}", markup=False, soft_wrap=True)


def _short(row: Mapping[str, Any], study: optuna.Study) -> list[str]:
    """A row for a terminal, which is not as wide as a search may have keys."""
    values = study.trials[row["trial"]].params
    last_parts = ", ".join(f"{k.rpartition('.')[2]}={_cell(v)}" for k, v in values.items())
    return [*(_cell(row[name]) for name in ("trial", "state", "value", "epochs")), last_parts]


def _trial_cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[_cell(row.get(name)) for name in names] for row in rows]


def _importance_cells(shares: Mapping[str, float]) -> list[list[str]]:
    return [[key, f"{share:.2f}"] for key, share in shares.items()]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
