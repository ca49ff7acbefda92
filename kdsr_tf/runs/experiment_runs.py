"""The arms of an experiment, each with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config, select
from kdsr_tf.console import console
from kdsr_tf.errors import KDSRError
from kdsr_tf.experiments import experiment_table
from kdsr_tf.experiments.experiment import Experiment
from kdsr_tf.experiments.experiment_results import Results, collect
from kdsr_tf.experiments.planned_arms import PlannedArm, input_locations, title
from kdsr_tf.runs import plan
from kdsr_tf.runs.seeded_runs import (
    REPEATED,
    forget_seeds,
    run_inputs,
    run_seed,
    with_seeds,
    write_seeds,
)
from kdsr_tf.runs.workdir import locked

EXPERIMENTS = "experiments"
"""Folder of the tables, below the working directory."""


def run_experiment(
    experiment: Experiment,
    config: Config,
    arms: Sequence[PlannedArm],
    seeds: int,
    beam_args: Sequence[str] = (),
) -> tuple[Results | None, dict[str, str], str]:
    """Train and evaluate the arms of an experiment and write their table.

    Returns the table, or None if no arm has run; the reason of every failure; the folder.
    """
    folder = artifacts.join(config.workdir, EXPERIMENTS, title(experiment, config))
    with locked(config):
        runs, failures = run_arms(arms, seeds, beam_args)
        results = write_results(experiment, runs, failures, folder) if runs else None
    return results, failures, folder


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
    arms: Sequence[PlannedArm], seeds: int, beam_args: Sequence[str] = ()
) -> tuple[dict[str, list[Config]], dict[str, str]]:
    """Run what is not up to date; the lock is the caller's.

    The first seed of every arm comes before the second of any, so that a partial result compares
    all arms. Returns the runs of the arms that are complete, and the reason of every failure.
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
    experiment: Experiment,
    runs: Mapping[str, Sequence[Config]],
    failures: Mapping[str, str],
    folder: str,
) -> Results:
    """Write `table.md`, `table.csv` and the retention curves of at least one arm that has run."""
    # It imports matplotlib.
    from kdsr_tf.experiments.retention_curves import (
        against_ids,
        read_curves,
        read_ids,
        write_curves,
    )

    ids = read_ids(runs.get(experiment.ids_of or "", ()))
    curves = read_curves(runs, ids)
    results = collect(experiment, runs, failures, against_ids(runs, ids))
    artifacts.write_text(artifacts.join(folder, "table.md"), experiment_table.markdown(results))
    artifacts.write_text(artifacts.join(folder, "table.csv"), experiment_table.as_csv(results))
    if curves:
        write_curves(folder, curves)
    return results


def left_to_do(arms: Sequence[PlannedArm], seeds: int) -> list[list[str]]:
    """Cells of a table: per arm its name, then what is to do, per stage up to evaluation."""
    rows: list[list[str]] = []
    made_by: dict[str, str] = {}
    for arm in arms:
        cells = [arm.name]
        for stage in stages.BEFORE_TRAINING:
            states = plan.make_plan(arm.config, arm.external, wanted=[stage])
            missing = [
                stages.location(arm.config, state.artifact.name)
                for state in states
                if not state.up_to_date
            ]
            others = {made_by[folder] for folder in missing if folder in made_by}
            own = [made_by.setdefault(folder, arm.name) for folder in missing] and not others
            if not states:
                cells.append("not needed")
            elif not missing:
                cells.append(plan.UP_TO_DATE)
            else:
                cells.append("to do" if own else f"as {', '.join(sorted(others))}")
        for stage in REPEATED:
            done = sum(
                state.up_to_date
                for run in with_seeds(arm.config, seeds)
                for state in plan.make_plan(run, arm.external, wanted=[stage])
            )
            cells.append(plan.UP_TO_DATE if done == seeds else f"{seeds - done} to do")
        rows.append(cells)
    return rows


def _run_all_inputs(
    arms: Sequence[PlannedArm], beam_args: Sequence[str], failures: dict[str, str]
) -> None:
    broken: dict[tuple[str, ...], str] = {}
    for arm in arms:
        locations = input_locations(arm.config)
        if locations not in broken:
            console.rule(f"[bold]{arm.config.run}[/bold]: before training", align="left")
            try:
                run_inputs(arm.config, arm.external, beam_args)
                continue
            except KDSRError as error:
                broken[locations] = _report(arm, error)
        failures[arm.name] = broken[locations]


def _report(arm: PlannedArm, error: KDSRError) -> str:
    console.print(f"{arm.name} failed: {error}", style="red", markup=False)
    return str(error)
