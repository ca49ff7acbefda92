"""The same training with several seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

import fsspec

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.evaluation.compared_arms import SEEDS_FILE
from kdsr_tf.evaluation.evaluation_files import figures
from kdsr_tf.evaluation.significance import Spread, over_seeds
from kdsr_tf.runs import plan
from kdsr_tf.runs.pipeline import run_stage
from kdsr_tf.runs.workdir import locked
from kdsr_tf.sequences import check_test_points

REPEATED = ("train", "evaluate")


def repeat(
    config: Config, seeds: int, beam_args: Sequence[str] = ()
) -> tuple[dict[str, Spread], str]:
    """Train and evaluate with several seeds; returns what `write_seeds` does."""
    external = plan.external_fingerprints(config)
    runs = with_seeds(config, seeds)
    with locked(config):
        forget_seeds(config)
        run_inputs(config, external, beam_args)
        for run in runs:
            run_seed(run, external)
        return write_seeds(config, runs)


def plan_repeat(config: Config, seeds: int) -> list[list[plan.State]]:
    """State of what all runs share, then of what each run has for itself."""
    external = plan.external_fingerprints(config)
    return [
        plan.make_plan(config, external, wanted=stages.BEFORE_TRAINING),
        *(plan.make_plan(run, external, wanted=REPEATED) for run in with_seeds(config, seeds)),
    ]


def with_seeds(config: Config, seeds: int) -> list[Config]:
    """The runs `<run>-seed-<seed>` of a configuration with consecutive seeds of training.

    The first run has the seed of the configuration.
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


def run_inputs(config: Config, external: Mapping[str, str], beam_args: Sequence[str]) -> None:
    """Run what comes before training and is not up to date; the lock is the caller's."""
    for stage in stages.BEFORE_TRAINING:
        run_stage(config, stage, external, beam_args)


def run_seed(run: Config, external: Mapping[str, str]) -> None:
    """Train and evaluate one run, unless it is up to date; the lock is the caller's."""
    check_test_points(stages.location(run, "sequences"))
    console.rule(f"[bold]{run.run}[/bold]", align="left")
    for stage in REPEATED:
        run_stage(run, stage, external)


def forget_seeds(config: Config) -> None:
    """Remove `seeds.json`: while runs are made again it would take new and old ones for one arm."""
    filesystem, path = fsspec.core.url_to_fs(artifacts.join(config.run_directory, SEEDS_FILE))
    if filesystem.exists(path):
        filesystem.rm_file(path)


def write_seeds(config: Config, runs: Sequence[Config]) -> tuple[dict[str, Spread], str]:
    """Write `seeds.json`, by which `kdsr compare` takes the runs for one of several seeds.

    Returns the metrics over the seeds of at least two runs of a configuration, and how the epochs
    were selected.
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
