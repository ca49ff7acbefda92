"""The trials of a search: good values of configuration keys, judged on validation."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fsspec

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config, dump_config, override
from kdsr_tf.console import console, csv_text, markdown_table
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.experiments.planned_arms import with_own_locations
from kdsr_tf.experiments.search import (
    RUN,
    SearchSpace,
    assignment,
    importance,
    num_judged,
    open_study,
    report_epochs,
    trial_rows,
)
from kdsr_tf.runs import plan
from kdsr_tf.runs.experiment_runs import cached_external
from kdsr_tf.runs.pipeline import run_stage
from kdsr_tf.runs.seeded_runs import run_inputs
from kdsr_tf.runs.workdir import locked
from kdsr_tf.splits import MIN_TRAIN_FOR_VALIDATION

if TYPE_CHECKING:
    import optuna

SEARCHES = "searches"
"""Folder of the searches, below the working directory."""

_FAILURES_IN_A_ROW = 3
"""After so many the cause is not in the values."""

FindExternal = Callable[[Config], dict[str, str]]


def check_search(space: SearchSpace, config: Config) -> None:
    """Refuse what no trial could be judged by, and values that no configuration can have."""
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
    space.check(_of_trials(config))


def plan_search(config: Config) -> list[plan.State]:
    """State of what the first trial would need, with the values of the configuration."""
    common = _of_trials(config)
    wanted = (*stages.BEFORE_TRAINING, "train")
    return plan.make_plan(common, plan.external_fingerprints(common), wanted=wanted)


def search(
    space: SearchSpace,
    config: Config,
    trials: int,
    beam_args: Sequence[str] = (),
    find_external: FindExternal | None = None,
) -> tuple[optuna.Study, str]:
    """Search configuration keys for the best validation metric; returns a study and its folder.

    `config` is what the trials have in common; `trials` counts those of earlier calls, too.
    `find_external` gives the fingerprints of what has no manifest; None reads them.
    """
    find_external = find_external or cached_external()
    common = _of_trials(config)
    usual = stages.fingerprints(common, find_external(common))
    folder = artifacts.join(config.workdir, SEARCHES, space.name)
    failed = 0
    with locked(config):
        artifacts.write_text(artifacts.join(folder, "space.yaml"), _dump(space))
        study = open_study(folder, space, usual["student"], config.training_seed)
        while num_judged(study) < trials:
            trial = study.ask()
            console.rule(f"[bold]trial {trial.number}[/bold]", align="left")
            try:
                run_trial(study, trial, space, common, usual, find_external, beam_args)
            except KDSRError as error:
                console.print(f"Trial {trial.number} failed: {error}", style="red", markup=False)
                study.tell(trial, state=_state("FAIL"))
                failed += 1
                if failed == _FAILURES_IN_A_ROW:
                    raise
            else:
                failed = 0
            _write_results(study, config, folder)
    return study, folder


def _of_trials(config: Config) -> Config:
    return override(config, ["train.refit=false"])


def run_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    space: SearchSpace,
    config: Config,
    usual: Mapping[str, str],
    find_external: FindExternal,
    beam_args: Sequence[str] = (),
) -> None:
    """Train a student with a trial's values and tell the study; the lock is the caller's.

    `usual` holds the fingerprints of the artifacts of `config`, which the trials have in common.
    `KDSRError` if the values exclude each other, or a stage fails.
    """
    import optuna

    from kdsr_tf.training.checkpoints import Checkpoints

    own = override(config, space.suggest(trial))
    external = find_external(own)
    own = with_own_locations(own, external, usual)
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
        run_stage(own, "train", external, watch=watch)
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
    rows = trial_rows(study)
    artifacts.write_text(artifacts.join(folder, "trials.csv"), csv_text(rows))
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[shown_value(row.get(name)) for name in names] for row in rows]
    metric = config.train.monitor
    parts = [f"# Search {study.study_name}", f"Selected on validation: {metric}."]
    parts.append(markdown_table(names, cells))
    shares = importance(study)
    if shares:
        rounded = [[key, f"{share:.2f}"] for key, share in shares.items()]
        parts.append(markdown_table(["key", "importance"], rounded))
    artifacts.write_text(artifacts.join(folder, "trials.md"), "\n\n".join(parts) + "\n")
    if rows[0]["state"] == "complete":
        best = override(config, [assignment(*pair) for pair in study.best_params.items()])
        artifacts.write_text(artifacts.join(folder, "best.yaml"), dump_config(best))


def shown_value(value: object) -> str:
    """A value of a trial, for people."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
