"""One command per stage: skip what is up to date, run the rest, print a summary."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable

import click

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.cli import export as exporting
from kdsr_tf.cli import plan
from kdsr_tf.cli import report as reporting
from kdsr_tf.cli.options import Invocation
from kdsr_tf.cli.summary import metrics_table, slices_table, stage_table
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.evaluation.evaluation_files import read_evaluation
from kdsr_tf.training.cluster import is_chief

Manifests = Manifest | list[Manifest]


def _prepare(config: Config, beam_args: tuple[str, ...]) -> Manifests:
    from beam_pipelines.prepare import prepare

    return prepare(config, beam_args)


def _encode(config: Config, beam_args: tuple[str, ...]) -> Manifests:
    from beam_pipelines.encode import encode

    return encode(config, beam_args)


def _teach(config: Config) -> Manifests:
    from kdsr_tf.teacher.teach import teach

    return teach(config)


def _distill(config: Config, beam_args: tuple[str, ...]) -> Manifests:
    from beam_pipelines.distill import distill

    return distill(config, beam_args)


def _train(config: Config, warm_start: str | None = None) -> Manifests:
    from kdsr_tf.training.fit import train

    return train(config, warm_start)


def _evaluate(config: Config) -> Manifests:
    from kdsr_tf.evaluation.evaluate import evaluate

    return evaluate(config)


def _export(config: Config) -> Manifests:
    from kdsr_tf.export.publish import export

    return export(config)


def _report(config: Config) -> Manifests:
    from kdsr_tf.report.report_page import report

    return report(config)


BEAM_STAGES: dict[str, Callable[[Config, tuple[str, ...]], Manifests]] = {
    "prepare": _prepare,
    "encode": _encode,
    "distill": _distill,
}
"""Stages that are Beam pipelines and take Beam options."""

KERAS_STAGES: dict[str, Callable[[Config], Manifests]] = {
    "teach": _teach,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
    "report": _report,
}
"""Stages that run in one process."""


def run_command(
    stage: str,
    invocation: Invocation,
    triplets: bool = False,
    warm_start: str | None = None,
    profile: bool = False,
    add_items: str | None = None,
    rollback: int | None = None,
    runs: tuple[str, ...] = (),
) -> None:
    """Run the command of a stage, with the options that only some of them have.

    Args:
        stage: Name.
        invocation: What was asked for.
        triplets: Also write `triplets/` (distill).
        warm_start: Earlier student to start from (train).
        profile: Only trace some steps (train).
        add_items: File of new items (export).
        rollback: Version to publish again, 0 for the one before; None exports (export).
        runs: One run, or two to show beside each other (report).
    """
    if rollback is not None and add_items is not None:
        raise click.UsageError("--rollback publishes a version as it was: it excludes --add-items.")
    config = exporting.with_added_items(invocation.config, add_items)
    if invocation.dry_run:
        if rollback is not None:
            exporting.roll_back(config, rollback, dry_run=True)
        else:
            _show_plan(config, stage, triplets)
        return
    if len(runs) > 1:
        reporting.report_two(config, runs)
        return
    # Workers beside the chief write nothing, and may share its machine.
    with locked(config.workdir) if is_chief(config) else contextlib.nullcontext():
        if profile:
            _profile(config)
            return
        if rollback is not None:
            exporting.roll_back(config, rollback, dry_run=False)
            return
        if stage == "export":
            exporting.encode_new_items(config)
        _write(config, stage, invocation.beam_args, warm_start)
        if triplets:
            _write_triplets(config, invocation.beam_args)


def _show_plan(config: Config, stage: str, triplets: bool) -> None:
    also = [stages.triplets_of(config)] if triplets and config.needs.pairs else []
    states = plan.make_plan(config, plan.external_fingerprints(config), also)
    last = stages.STAGES.index(stage)
    needed = [s for s in states if stages.STAGES.index(s.artifact.stage) <= last]
    console.print(plan.plan_table(needed))


def _write(
    config: Config, stage: str, beam_args: tuple[str, ...], warm_start: str | None = None
) -> None:
    states = plan.plan_of_stage(config, stage)
    if not states:
        why = "nothing reads it" if config.modalities else "no modality has an encoder"
        console.print(f"{stage}: nothing to do, because {why}.")
        return
    if all(state.up_to_date for state in states):
        console.print(f"{stage}: {plan.UP_TO_DATE}.")
        return
    if stage in BEAM_STAGES:
        result = BEAM_STAGES[stage](config, beam_args)
    elif warm_start is not None:
        result = _train(config, warm_start)
    else:
        result = KERAS_STAGES[stage](config)
    manifests = result if isinstance(result, list) else [result]
    console.print(stage_table(stage, manifests))
    if stage == "evaluate":
        evaluation = read_evaluation(stages.location(config, "evaluation"))
        cutoffs = config.evaluate.cutoffs
        console.print(metrics_table(evaluation.summary, cutoffs))
        console.print(slices_table(evaluation.summary["slices"], max(cutoffs)))


def _write_triplets(config: Config, beam_args: tuple[str, ...]) -> None:
    if not config.needs.pairs:
        console.print("triplets: nothing to do, because nothing is distilled.")
        return
    if plan.plan_of_artifact(config, stages.triplets_of(config)).up_to_date:
        console.print(f"triplets: {plan.UP_TO_DATE}.")
        return
    from beam_pipelines.triplets import export_triplets

    console.print(stage_table("triplets", [export_triplets(config, beam_args)]))


def _profile(config: Config) -> None:
    from kdsr_tf.training.profiling import profile

    folder = profile(config)
    console.print(
        f"The trace is in {folder}. Look at it with: tensorboard --logdir {shlex.quote(folder)}",
        markup=False,
    )
