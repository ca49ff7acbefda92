"""Every stage that is not up to date, each in its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kdsr_tf import artifacts, stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.runs import plan
from kdsr_tf.runs.child_processes import run_child
from kdsr_tf.runs.run_folder import write_config
from kdsr_tf.runs.workdir import locked
from kdsr_tf.runs.write_stage import BEAM_STAGES, DONE, NOT_NEEDED, UP_TO_DATE, StageOutcome
from kdsr_tf.sequences import check_test_points


def run_all(config: Config, beam_args: Sequence[str] = ()) -> list[StageOutcome]:
    """Run every stage that is not up to date; the configuration is left in the working directory.

    Raises:
        KDSRError: if a stage fails.
    """
    external = plan.external_fingerprints(config)
    outcomes = []
    with locked(config):
        for stage in stages.STAGES:
            outcomes.append(run_stage(config, stage, external, beam_args))
            if stage == "prepare":
                check_test_points(stages.location(config, "sequences"))
    return outcomes


def run_stage(
    config: Config,
    stage: str,
    external: Mapping[str, str],
    beam_args: Sequence[str] = (),
    watch: Callable[[], None] | None = None,
) -> StageOutcome:
    """Run one stage in a process of its own, unless it is up to date; the lock is the caller's.

    `external` holds the fingerprints of the source and the encoders. `watch` is called every second
    while the stage runs; the stage is ended where it raises.

    Raises:
        KDSRError: if the stage fails.
    """
    config_path = write_config(config)
    states = plan.make_plan(config, external, wanted=[stage])
    if not states:
        return StageOutcome(stage=stage, state=NOT_NEEDED)
    if all(state.up_to_date for state in states):
        manifests = [s.manifest for s in states if s.manifest is not None]
        return StageOutcome(stage=stage, state=UP_TO_DATE, manifests=manifests)
    console.rule(f"[bold]{stage}[/bold]", align="left")
    arguments = [stage, "--config", config_path]
    if stage in BEAM_STAGES and beam_args:
        arguments += ["--", *beam_args]
    spent = run_child(arguments, watch)
    manifests = [
        artifacts.read_manifest(stages.location(config, state.artifact.name), written_by=stage)
        for state in states
    ]
    return StageOutcome(stage=stage, state=DONE, spent=spent, manifests=manifests)
