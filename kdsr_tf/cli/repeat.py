"""`kdsr repeat`: the same training with several seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import fsspec
from rich.table import Table

from kdsr_tf import artifacts, stages
from kdsr_tf.cli import plan
from kdsr_tf.cli.options import CONFIG_FILE, Invocation
from kdsr_tf.cli.run import run_stage
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config, dump_config
from kdsr_tf.console import console, table
from kdsr_tf.evaluation.compared_arms import SEEDS_FILE
from kdsr_tf.evaluation.evaluation_files import figures
from kdsr_tf.evaluation.seeds import Spread, over_seeds
from kdsr_tf.sequences import check_test_points

REPEATED = ("train", "evaluate")


def repeat(invocation: Invocation, seeds: int) -> None:
    """Train and evaluate with several seeds; print mean and interval."""
    config = invocation.config
    external = plan.external_fingerprints(config)
    runs = with_seeds(config, seeds)
    if invocation.dry_run:
        _show_plan(config, runs, external)
        return
    with locked(config.workdir):
        forget_seeds(config)
        run_inputs(config, external, invocation.beam_args)
        for run in runs:
            run_seed(run, external)
        spreads, selection = write_seeds(config, runs)
        console.print(seeds_table(spreads, selection))


def with_seeds(config: Config, seeds: int) -> list[Config]:
    """The runs of a configuration with consecutive seeds of training.

    Args:
        config: The configuration; the first run has its seed.
        seeds: Number of runs.

    Returns:
        One configuration per seed, of the run `<run>-seed-<seed>`.
    """
    prefix = "" if config.run is None else f"{config.run}-"
    return [
        config.model_copy(
            update={
                "train": config.train.model_copy(update={"seed": seed}),
                "run": f"{prefix}seed-{seed}",
            }
        )
        for seed in range(config.training_seed, config.training_seed + seeds)
    ]


def run_inputs(config: Config, external: Mapping[str, str], beam_args: tuple[str, ...]) -> None:
    """Run what comes before training and is not up to date; the lock is the caller's."""
    for stage in stages.BEFORE_TRAINING:
        run_stage(config, stage, external, write_config(config), beam_args)


def run_seed(run: Config, external: Mapping[str, str]) -> None:
    """Train and evaluate one run, unless it is up to date; the lock is the caller's."""
    check_test_points(stages.location(run, "sequences"))
    console.rule(f"[bold]{run.run}[/bold]", align="left")
    for stage in REPEATED:
        run_stage(run, stage, external, write_config(run))


def forget_seeds(config: Config) -> None:
    """Remove `seeds.json`: while runs are made again it would take new and old ones for one arm."""
    filesystem, path = fsspec.core.url_to_fs(artifacts.join(config.run_directory, SEEDS_FILE))
    if filesystem.exists(path):
        filesystem.rm_file(path)


def write_seeds(config: Config, runs: Sequence[Config]) -> tuple[dict[str, Spread], str]:
    """Write `seeds.json`, by which `kdsr compare` takes the runs for one of several seeds.

    Args:
        config: What the runs have in common.
        runs: At least two evaluated runs, from `with_seeds`.

    Returns:
        The metrics over seeds, and how the epochs were selected.
    """
    manifests = [
        artifacts.read_manifest(stages.location(run, "evaluation"), written_by="repeat")
        for run in runs
    ]
    spreads = over_seeds([figures(manifest.details) for manifest in manifests])
    selection = manifests[0].details["selection"]
    results = {
        "selection": selection,
        "seeds": [run.training_seed for run in runs],
        "metrics": {name: dataclasses.asdict(spread) for name, spread in spreads.items()},
    }
    path = artifacts.join(config.run_directory, SEEDS_FILE)
    artifacts.write_text(path, json.dumps(results, indent=2) + "\n")
    return spreads, selection


def seeds_table(spreads: Mapping[str, Spread], selection: str) -> Table:
    """Mean over seeds, its interval and every value.

    Args:
        spreads: Result of `over_seeds`.
        selection: How the epochs were selected.
    """
    rows = [
        (
            name.replace("_", "@") if name.count("_") == 1 else name,
            f"{spread.mean:.4g}",
            f"{spread.low:.4g} – {spread.high:.4g}",
            "  ".join(f"{value:.4g}" for value in spread.values),
        )
        for name, spread in spreads.items()
    ]
    number = len(next(iter(spreads.values())).values)
    title = f"{number} seeds (epochs selected on {selection.replace('_', ' ')})"
    return table(title, ("metric", "mean", "95% interval of the mean", "values"), rows)


def write_config(config: Config) -> str:
    """Leave the configuration in its run's folder; returns its path."""
    path = artifacts.join(config.run_directory, CONFIG_FILE)
    artifacts.write_text(path, dump_config(config))
    return path


def _show_plan(config: Config, runs: Sequence[Config], external: Mapping[str, str]) -> None:
    for one, wanted in ((config, stages.BEFORE_TRAINING), *((run, REPEATED) for run in runs)):
        states = [s for s in plan.make_plan(one, external) if s.artifact.stage in wanted]
        console.print(plan.plan_table(states))
