"""`kdsr demo`, `kdsr run` and one command per stage."""

from __future__ import annotations

from typing import Any

import click

from kdsr_tf.cli.options import DEMO_CONFIG, PATH, Invocation, configured

BEAM_STAGES = {
    "prepare": "Check and split the interactions; number the catalogue.",
    "encode": "Turn every text and picture into a vector.",
    "distill": "Write windows with the teacher's scores and codes.",
}
"""Help of the stages that are Beam pipelines and take Beam options."""

KERAS_STAGES = {
    "teach": "Fit the teacher: condensed vectors and the codebook.",
    "train": "Fit the student.",
    "evaluate": "Rank the whole catalogue at every test point.",
    "export": "Publish a SavedModel with its index, if it passes the gate.",
    "report": "Write one HTML file that shows the run, or two runs beside each other.",
}
"""Help of the stages that run in one process."""

_ORDER = ("prepare", "encode", "teach", "distill", "train", "evaluate", "export", "report")
PREVIOUS = 0
"""Stands for the version before the served one; versions count from 1."""


@click.command()
@configured(packaged=DEMO_CONFIG)
@click.option("--items", "num_items", default=600, show_default=True, help="Products.")
@click.option("--users", "num_users", default=2000, show_default=True, help="Customers.")
def demo(invocation: Invocation, num_items: int, num_users: int) -> None:
    """Generate a boutique and run the whole path on it.

    Needs no file and no download, and takes a few minutes on two cores.
    """
    from kdsr_tf.cli import demo

    demo.demo(invocation, num_items, num_users)


@click.command()
@configured(beam=True)
def run(invocation: Invocation) -> None:
    """Run every stage that is not up to date, then ask the model.

    Options after `--` go to the stages that are Beam pipelines.
    """
    from kdsr_tf.cli import run

    run.run(invocation)


def _first_run(
    context: click.Context, _: click.Parameter, runs: tuple[str, ...]
) -> tuple[str, ...]:
    """Take the configuration of the first run where no option gives one."""
    if runs:
        from kdsr_tf.cli import report

        context.default_map = report.options_of_run(runs)
    return runs


_OWN_OPTIONS = {
    "distill": (
        click.option(
            "--triplets",
            is_flag=True,
            help="Also write triplets/: item_i, item_j, score, code of every pair, as Parquet.",
        ),
    ),
    "train": (
        click.option(
            "--profile",
            is_flag=True,
            help="Only trace some training steps for TensorBoard; no student is written.",
        ),
        click.option(
            "--warm-start",
            type=PATH,
            metavar="STUDENT",
            help="Start from an earlier student/ (or its .keras file): rows are kept by item id.",
        ),
    ),
    "export": (
        click.option(
            "--rollback",
            metavar="[VERSION]",
            type=click.IntRange(0),
            is_flag=False,
            flag_value=PREVIOUS,
            help="Only publish an earlier version again, under a new number; by default the one "
            "before.",
        ),
        click.option(
            "--add-items",
            type=PATH,
            metavar="FILE",
            help="Items that arrived after training (export.add_items): they enter by their "
            "texts, pictures or vectors alone.",
        ),
    ),
    "report": (
        click.argument(
            "runs", nargs=-1, metavar="[RUN [RUN2]]", callback=_first_run, is_eager=True
        ),
    ),
}


def _command(stage: str) -> click.Command:
    @configured(beam=stage in BEAM_STAGES)
    def command(invocation: Invocation, **options: Any) -> None:
        from kdsr_tf.cli.stage_commands import run_command

        run_command(stage, invocation, **options)

    for option in _OWN_OPTIONS.get(stage, ()):
        command = option(command)
    text = {**BEAM_STAGES, **KERAS_STAGES}[stage]
    return click.command(stage, help=text, short_help=text)(command)


STAGES = tuple(map(_command, _ORDER))
"""A click command per stage, in running order."""
