"""`kdsr run`: every stage that is not up to date, each in its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kdsr_tf import artifacts, stages
from kdsr_tf.cli import plan
from kdsr_tf.cli.children import run_child
from kdsr_tf.cli.commands.stages import BEAM_STAGES
from kdsr_tf.cli.options import CONFIG_FILE, Invocation
from kdsr_tf.cli.sample import show_sample
from kdsr_tf.cli.summary import StageOutcome, metrics_table, run_table
from kdsr_tf.cli.workdir import locked
from kdsr_tf.config import Config, dump_config
from kdsr_tf.console import console
from kdsr_tf.sequences import check_test_points


def run(invocation: Invocation) -> None:
    """Run every stage that is not up to date, then ask the model."""
    config = invocation.config
    external = plan.external_fingerprints(config)
    if invocation.dry_run:
        console.print(plan.plan_table(plan.make_plan(config, external)))
        return
    with locked(config.workdir):
        config_path = run_all(config, external, invocation.beam_args)
        show_sample(config, config_path)


def run_all(config: Config, external: Mapping[str, str], beam_args: tuple[str, ...] = ()) -> str:
    """Run the needed stages and print the summary; the lock is the caller's.

    Args:
        config: The configuration; it is left in the working directory.
        external: Fingerprints of the source and the encoders.
        beam_args: Options for Beam.

    Returns:
        Path of the configuration.

    Raises:
        KDSRError: if a stage fails.
    """
    config_path = artifacts.join(config.run_directory, CONFIG_FILE)
    artifacts.write_text(config_path, dump_config(config))
    outcomes = []
    for stage in stages.STAGES:
        outcomes.append(run_stage(config, stage, external, config_path, beam_args))
        if stage == "prepare":
            check_test_points(stages.location(config, "sequences"))
    evaluation = artifacts.read_manifest(
        stages.location(config, "evaluation"), written_by="evaluate"
    )
    console.print(run_table(outcomes))
    console.print(metrics_table(evaluation.details, config.evaluate.cutoffs))
    page = artifacts.join(stages.location(config, "report"), "index.html")
    console.print(f"The report: {page}", markup=False, soft_wrap=True)
    return config_path


def run_stage(
    config: Config,
    stage: str,
    external: Mapping[str, str],
    config_path: str,
    beam_args: tuple[str, ...] = (),
    watch: Callable[[], None] | None = None,
) -> StageOutcome:
    """Run one stage in a process of its own, unless it is up to date.

    Args:
        config: The configuration.
        stage: Name of the stage.
        external: Fingerprints of the source and the encoders.
        config_path: Where the configuration is written.
        beam_args: Options for Beam.
        watch: Called every second while the stage runs; it is ended where this raises.

    Raises:
        KDSRError: if the stage fails.
    """
    names = [a.name for a in stages.artifacts_of(config) if a.stage == stage]
    if not names:
        return StageOutcome(stage=stage, state="not needed")
    states = [s for s in plan.make_plan(config, external) if s.artifact.stage == stage]
    if all(state.up_to_date for state in states):
        manifests = [s.manifest for s in states if s.manifest is not None]
        return StageOutcome(stage=stage, state=plan.UP_TO_DATE, manifests=manifests)
    console.rule(f"[bold]{stage}[/bold]", align="left")
    arguments = [stage, "--config", config_path]
    if stage in BEAM_STAGES and beam_args:
        arguments += ["--", *beam_args]
    spent = run_child(arguments, watch)
    manifests = [
        artifacts.read_manifest(stages.location(config, name), written_by=stage) for name in names
    ]
    return StageOutcome(stage=stage, state="done", spent=spent, manifests=manifests)
