"""`kdsr demo`, `kdsr run` and one command per stage.

Like all files with commands, this one imports no library but click, so that help and version
come at once. A command imports what it does inside its function.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdsr_tf.cli.options import BEAM_ARGUMENT, PATH, configured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdsr_tf.config import Config
    from kdsr_tf.stages import Artifact

_CONFIGS = Path(__file__).parent.parent / "configs"
_DEMOS = {"kdsr": _CONFIGS / "demo.yaml", "iisan": _CONFIGS / "demo_iisan.yaml"}


@click.command()
@configured(packaged=_DEMOS)
@click.option("--items", "num_items", default=600, show_default=True, help="Products.")
@click.option("--users", "num_users", default=2000, show_default=True, help="Customers.")
def demo(config: Config, dry_run: bool, config_path: str, num_items: int, num_users: int) -> None:
    """Generate a boutique and run the whole path on it.

    Needs no file and no download, and takes a few minutes on two cores.
    """
    from kdsr_tf import stages
    from kdsr_tf.cli.demo_hints import show_hints
    from kdsr_tf.cli.recommendation_tables import show_closing_question
    from kdsr_tf.cli.stage_tables import show_plan, show_run
    from kdsr_tf.console import console
    from kdsr_tf.runs import plan
    from kdsr_tf.runs.pipeline import run_all
    from kdsr_tf.runs.source_folders import find_source, generate_source

    source = find_source(config, num_items, num_users)
    if dry_run:
        will_be = "kept" if source.is_there else "generated"
        console.print(f"The boutique would be {will_be}: {source.folder}")
        external = (
            plan.external_fingerprints(source.config)
            if source.is_there
            else dict.fromkeys(stages.external_inputs(source.config), plan.NOT_GENERATED)
        )
        show_plan(plan.make_plan(source.config, external))
        return
    generate_source(source)
    show_run(source.config, run_all(source.config))
    show_hints(source.config, Path(config_path))
    show_closing_question(source.config)


@click.command()
@configured()
@BEAM_ARGUMENT
def run(config: Config, dry_run: bool, beam_args: tuple[str, ...]) -> None:
    """Run every stage that is not up to date, then ask the model.

    Options after `--` go to the stages that are Beam pipelines.
    """
    from kdsr_tf.cli.recommendation_tables import show_closing_question
    from kdsr_tf.cli.stage_tables import show_plan, show_run
    from kdsr_tf.runs import plan
    from kdsr_tf.runs.pipeline import run_all

    if dry_run:
        show_plan(plan.make_plan(config, plan.external_fingerprints(config)))
        return
    show_run(config, run_all(config, beam_args))
    show_closing_question(config)


def _run_stage(
    config: Config, dry_run: bool, stage: str, *arguments: Any, also: Sequence[Artifact] = ()
) -> None:
    from kdsr_tf import stages
    from kdsr_tf.cli.stage_tables import show_outcome, show_plan
    from kdsr_tf.runs import plan
    from kdsr_tf.runs.pipeline import write_stage

    if dry_run:
        wanted = stages.STAGES[: stages.STAGES.index(stage) + 1]
        show_plan(plan.make_plan(config, plan.external_fingerprints(config), also, wanted))
    else:
        show_outcome(config, write_stage(config, stage, *arguments))


@click.command()
@configured()
@BEAM_ARGUMENT
def prepare(config: Config, dry_run: bool, beam_args: tuple[str, ...]) -> None:
    """Check and split the interactions; number the catalogue."""
    _run_stage(config, dry_run, "prepare", beam_args)


@click.command()
@configured()
@BEAM_ARGUMENT
def encode(config: Config, dry_run: bool, beam_args: tuple[str, ...]) -> None:
    """Turn every text and picture into a vector."""
    _run_stage(config, dry_run, "encode", beam_args)


@click.command()
@configured()
def teach(config: Config, dry_run: bool) -> None:
    """Fit the teacher: condensed vectors and the codebook."""
    _run_stage(config, dry_run, "teach")


@click.command()
@click.option(
    "--triplets",
    is_flag=True,
    help="Also write triplets/: item_i, item_j, score, code of every pair, as Parquet.",
)
@configured()
@BEAM_ARGUMENT
def distill(config: Config, dry_run: bool, triplets: bool, beam_args: tuple[str, ...]) -> None:
    """Write windows with the teacher's scores and codes."""
    from kdsr_tf import stages
    from kdsr_tf.cli.stage_tables import show_outcome
    from kdsr_tf.runs.pipeline import write_triplets

    also = [stages.triplets_of(config)] if triplets and config.needs.pairs else []
    _run_stage(config, dry_run, "distill", beam_args, also=also)
    if triplets and not dry_run:
        show_outcome(config, write_triplets(config, beam_args))


@click.command()
@click.option(
    "--warm-start",
    type=PATH,
    metavar="STUDENT",
    help="Start from an earlier student/ (or its .keras file): rows are kept by item id.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Only trace some training steps for TensorBoard; no student is written.",
)
@configured()
def train(config: Config, dry_run: bool, warm_start: str | None, profile: bool) -> None:
    """Fit the student."""
    if dry_run or not profile:
        _run_stage(config, dry_run, "train", warm_start)
        return
    from kdsr_tf.console import console
    from kdsr_tf.runs.workdir import locked
    from kdsr_tf.training import profiling

    with locked(config):
        folder = profiling.profile(config)
    console.print(
        f"The trace is in {folder}. Look at it with: tensorboard --logdir {shlex.quote(folder)}",
        markup=False,
    )


@click.command()
@configured()
def evaluate(config: Config, dry_run: bool) -> None:
    """Rank the whole catalogue at every test point."""
    _run_stage(config, dry_run, "evaluate")


_PREVIOUS = 0
"""Stands for the version before the served one; versions count from 1."""


@click.command()
@click.option(
    "--add-items",
    type=PATH,
    metavar="FILE",
    help="Items that arrived after training (export.add_items): they enter by their "
    "texts, pictures or vectors alone.",
)
@click.option(
    "--rollback",
    metavar="[VERSION]",
    type=click.IntRange(0),
    is_flag=False,
    flag_value=_PREVIOUS,
    help="Only publish an earlier version again, under a new number; by default the one before.",
)
@configured()
def export(config: Config, dry_run: bool, add_items: str | None, rollback: int | None) -> None:
    """Publish a SavedModel with its index, if it passes the gate."""
    from kdsr_tf.cli.stage_tables import show_outcome
    from kdsr_tf.runs.pipeline import write_new_items

    if rollback is not None and add_items is not None:
        raise click.UsageError("--rollback publishes a version as it was: it excludes --add-items.")
    if rollback is not None:
        _roll_back(config, dry_run, rollback or None)
        return
    if add_items is not None:
        added = config.export.model_copy(update={"add_items": add_items})
        config = config.model_copy(update={"export": added})
    if config.export.add_items is not None and not dry_run:
        show_outcome(config, write_new_items(config))
    _run_stage(config, dry_run, "export")


def _roll_back(config: Config, dry_run: bool, version: int | None) -> None:
    from kdsr_tf import stages
    from kdsr_tf.cli.stage_tables import stage_table
    from kdsr_tf.console import console
    from kdsr_tf.export.versions import find_earlier, next_version, rollback
    from kdsr_tf.runs.workdir import locked

    root = stages.location(config, "serving_model")
    if dry_run:
        earlier, _ = find_earlier(root, version)
        console.print(f"Would publish version {earlier} again, as {next_version(root)}.")
        return
    with locked(config):
        manifest = rollback(root, version)
    console.print(stage_table("export --rollback", [manifest]))


_MOST_RUNS = 2


def _take_first_run(
    context: click.Context, _: click.Parameter, runs: tuple[str, ...]
) -> tuple[str, ...]:
    """Take the configuration of the first run where no option gives one."""
    if runs:
        from kdsr_tf.errors import ConfigError
        from kdsr_tf.evaluation.compared_arms import split_name
        from kdsr_tf.runs.workdir import find_config

        if len(runs) > _MOST_RUNS:
            raise ConfigError(f"At most two runs fit beside each other. Received: {len(runs)}.")
        config_path, workdir = find_config(split_name(runs[0])[1])
        context.default_map = {"config_path": config_path, "workdir": workdir}
    return runs


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN [RUN2]]", callback=_take_first_run, is_eager=True)
@configured()
def report(config: Config, dry_run: bool, runs: tuple[str, ...]) -> None:
    """Write one HTML file that shows the run, or two runs beside each other."""
    if dry_run or len(runs) < _MOST_RUNS:
        _run_stage(config, dry_run, "report")
        return
    from kdsr_tf.console import console
    from kdsr_tf.runs.several_runs import report_two

    manifest, page = report_two(config, runs)
    megabytes = manifest.counts["bytes"] / 1e6
    console.print(f"{page} ({megabytes:.1f} MB)", soft_wrap=True, markup=False, highlight=False)


STAGES = (prepare, encode, teach, distill, train, evaluate, export, report)
"""A click command per stage, in running order."""
