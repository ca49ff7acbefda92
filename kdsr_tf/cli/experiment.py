"""`kdsr experiment`: the arms of an experiment, each with several seeds, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from kdsr_tf import artifacts, stages
from kdsr_tf.cli import experiment_table, plan
from kdsr_tf.cli.options import Invocation
from kdsr_tf.cli.repeat import (
    REPEATED,
    forget_seeds,
    run_inputs,
    run_seed,
    with_seeds,
    write_seeds,
)
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config, select
from kdsr_tf.console import console, output, table
from kdsr_tf.errors import ConfigError, KDSRError

if TYPE_CHECKING:
    from kdsr_tf.experiments.experiment import Experiment
    from kdsr_tf.experiments.experiment_results import Results
    from kdsr_tf.experiments.planned_arms import PlannedArm

EXPERIMENTS = "experiments"
"""Folder of the tables, below the working directory."""


def show_experiments() -> None:
    """Print the experiments that come with KDSR-TF."""
    from kdsr_tf.experiments.experiment import load_experiment, packaged_experiments

    found = [load_experiment(name) for name in packaged_experiments()]
    rows = [(one.name, one.answers or "", len(one.every_arm()), one.description) for one in found]
    output.print(table("Experiments", ("name", "paper", "arms", "question"), rows))


def experiment(
    invocation: Invocation,
    name: str,
    seeds: int,
    only: tuple[str, ...],
    variables: tuple[str, ...],
) -> None:
    """Train and evaluate the arms of an experiment; print and write their table.

    Args:
        invocation: What was asked for.
        name: Name of the experiment, or its file.
        seeds: Runs of every arm.
        only: Names or patterns of arms; none means all.
        variables: Texts `NAME=VALUE`.
    """
    from kdsr_tf.experiments.experiment import load_experiment
    from kdsr_tf.experiments.planned_arms import plan_arms, title

    config, asked = invocation.config, load_experiment(name)
    arms = plan_arms(
        asked, config, cached_external(), invocation.overrides, only, _assignments(variables)
    )
    if invocation.dry_run:
        console.print(plan_table(asked, arms, seeds))
        return
    folder = artifacts.join(config.workdir, EXPERIMENTS, title(asked, config))
    with locked(config.workdir):
        runs, failures = run_arms(arms, seeds, invocation.beam_args)
        if runs:
            _show(write_results(asked, runs, failures, folder), folder)
    if failures:
        raise KDSRError(_failed(failures, len(arms)))


def cached_external() -> Callable[[Config], dict[str, str]]:
    """`external_fingerprints`, which reads files, once per source and encoders."""
    known: dict[str, dict[str, str]] = {}

    def find(config: Config) -> dict[str, str]:
        key = artifacts.fingerprint(select(config, ("source", "encode")))
        if key not in known:
            known[key] = plan.external_fingerprints(config)
        return known[key]

    return find


def run_arms(
    arms: Sequence[PlannedArm], seeds: int, beam_args: tuple[str, ...] = ()
) -> tuple[dict[str, list[Config]], dict[str, str]]:
    """Run what is not up to date; the lock is the caller's.

    The first seed of every arm comes before the second of any, so that a partial
    result compares all arms.

    Args:
        arms: Result of `plan_arms`.
        seeds: Runs of every arm.
        beam_args: Options for Beam.

    Returns:
        The runs of the arms that are complete, and the reason of every failure.
    """
    failures: dict[str, str] = {}
    for arm in arms:
        forget_seeds(arm.config)
    _run_all_inputs(arms, beam_args, failures)
    runs = {arm.name: with_seeds(arm.config, seeds) for arm in arms}
    for number in range(seeds):
        for arm in arms:
            if arm.name in failures:
                continue
            try:
                run_seed(runs[arm.name][number], arm.external)
            except KDSRError as error:
                failures[arm.name] = _report(arm, error)
    complete = {name: seeded for name, seeded in runs.items() if name not in failures}
    for arm in arms:
        if arm.name in complete and seeds > 1:
            write_seeds(arm.config, runs[arm.name])
    return complete, failures


def write_results(
    asked: Experiment,
    runs: Mapping[str, Sequence[Config]],
    failures: Mapping[str, str],
    folder: str,
) -> Results:
    """Write `table.md`, `table.csv` and the retention curves.

    Args:
        asked: The experiment.
        runs: Evaluated runs by arm; at least one arm.
        failures: Reason by arm that has not run.
        folder: Local path or URI.
    """
    from kdsr_tf.experiments.experiment_results import collect
    from kdsr_tf.experiments.retention_curves import (
        against_ids,
        read_curves,
        read_ids,
        write_curves,
    )

    ids = read_ids(runs.get(asked.ids_of or "", ()))
    curves = read_curves(runs, ids)
    results = collect(asked, runs, failures, against_ids(runs, ids))
    artifacts.write_text(artifacts.join(folder, "table.md"), experiment_table.markdown(results))
    artifacts.write_text(artifacts.join(folder, "table.csv"), experiment_table.as_csv(results))
    if curves:
        write_curves(folder, curves)
    return results


def plan_table(asked: Experiment, arms: Sequence[PlannedArm], seeds: int) -> Table:
    """What `--dry-run` shows: a row per arm, a column per stage."""
    rows: list[list[str]] = []
    made_by: dict[str, str] = {}
    for arm in arms:
        cells = [arm.name]
        states = plan.make_plan(arm.config, arm.external)
        for stage in stages.BEFORE_TRAINING:
            of_stage = [state for state in states if state.artifact.stage == stage]
            missing = [
                stages.location(arm.config, state.artifact.name)
                for state in of_stage
                if not state.up_to_date
            ]
            others = {made_by[place] for place in missing if place in made_by}
            own = [made_by.setdefault(place, arm.name) for place in missing] and not others
            if not of_stage:
                cells.append("not needed")
            elif not missing:
                cells.append(plan.UP_TO_DATE)
            else:
                cells.append("to do" if own else f"as {', '.join(sorted(others))}")
        for stage in REPEATED:
            done = sum(
                state.up_to_date
                for run in with_seeds(arm.config, seeds)
                for state in plan.make_plan(run, arm.external)
                if state.artifact.stage == stage
            )
            cells.append(plan.UP_TO_DATE if done == seeds else f"{seeds - done} to do")
        rows.append(cells)
    shown = f"{asked.name}: {asked.description} ({len(arms)} arms, {seeds} seeds)"
    return table(shown, ("arm", *stages.BEFORE_TRAINING, *REPEATED), rows)


def _run_all_inputs(
    arms: Sequence[PlannedArm], beam_args: tuple[str, ...], failures: dict[str, str]
) -> None:
    from kdsr_tf.experiments.planned_arms import input_places

    broken: dict[tuple[str, ...], str] = {}
    for arm in arms:
        places = input_places(arm.config)
        if places not in broken:
            console.rule(f"[bold]{arm.config.run}[/bold]: before training", align="left")
            try:
                run_inputs(arm.config, arm.external, beam_args)
                continue
            except KDSRError as error:
                broken[places] = _report(arm, error)
        failures[arm.name] = broken[places]


def _assignments(texts: Sequence[str]) -> dict[str, str]:
    values = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"`--var` takes NAME=VALUE. Received: {text}.")
        values[name] = value
    return values


def _report(arm: PlannedArm, error: KDSRError) -> str:
    console.print(f"{arm.name} failed: {error}", style="red", markup=False)
    return str(error)


def _show(results: Results, folder: str) -> None:
    for shown in experiment_table.show(results):
        output.print(shown)
    output.print(experiment_table.legend(results), markup=False)
    for note in results.notes:
        output.print(f"Note: {note}", style="yellow", markup=False)
    console.print(f"Written to {folder}: table.md, table.csv and, where there are modality "
                  "tables, retention.csv, .svg and .png.", markup=False)  # fmt: skip


def _failed(failures: Mapping[str, str], total: int) -> str:
    lines = [f"  {name}: {reason}" for name, reason in failures.items()]
    return "\n".join(
        [
            f"{len(failures)} of {total} arms failed; what the others did is kept.",
            *lines,
            "The same command tries them again.",
        ]
    )
