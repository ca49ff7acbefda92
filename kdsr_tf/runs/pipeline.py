"""Running stages: one in this process, or all that are not up to date, each in its own."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.runs import plan
from kdsr_tf.runs.child_processes import Spent, run_child
from kdsr_tf.runs.workdir import locked, write_config
from kdsr_tf.sequences import check_test_points

BEAM_STAGES = {
    "prepare": "beam_pipelines.prepare",
    "encode": "beam_pipelines.encode",
    "distill": "beam_pipelines.distill",
}
"""Module of the stages that are Beam pipelines and take Beam options."""

_MODULES = BEAM_STAGES | {
    "teach": "kdsr_tf.teacher.teach",
    "train": "kdsr_tf.training.fit",
    "evaluate": "kdsr_tf.evaluation.evaluate",
    "export": "kdsr_tf.export.publish",
    "report": "kdsr_tf.report.report_page",
}
"""Module of every stage; its function has the name of the stage."""

DONE, UP_TO_DATE, NOT_NEEDED = "done", plan.UP_TO_DATE, "not needed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What became of one stage: `done`, `up to date` or `not needed`, and the manifests it has.

    `spent` is what a process of its own took; None if there was none.
    """

    stage: str
    state: str
    spent: Spent | None = None
    manifests: Sequence[Manifest] = ()


def write_stage(config: Config, stage: str, *arguments: Any) -> StageOutcome:
    """Write the artifacts of a stage that are not up to date.

    `arguments` are what the function of the stage takes after the configuration, such as the
    options for Beam.
    """
    with locked(config):
        states = plan.plan_of_stage(config, stage)
        if not states:
            return StageOutcome(stage=stage, state=NOT_NEEDED)
        if all(state.up_to_date for state in states):
            return StageOutcome(stage=stage, state=UP_TO_DATE)
        # Imported here: most stages import TensorFlow or Beam.
        write = getattr(importlib.import_module(_MODULES[stage]), stage)
        written = write(config, *arguments)
    manifests = written if isinstance(written, list) else [written]
    return StageOutcome(stage=stage, state=DONE, manifests=manifests)


def write_triplets(config: Config, beam_args: Sequence[str]) -> StageOutcome:
    """Write `triplets/`, unless it is up to date."""
    stage = stages.TRIPLETS
    with locked(config):
        if not config.needs.pairs:
            return StageOutcome(stage=stage, state=NOT_NEEDED)
        if plan.plan_of_artifact(config, stages.triplets_of(config)).up_to_date:
            return StageOutcome(stage=stage, state=UP_TO_DATE)
        from beam_pipelines.triplets import triplets

        return StageOutcome(stage=stage, state=DONE, manifests=[triplets(config, beam_args)])


def write_new_items(config: Config) -> StageOutcome:
    """Write `new_items/` from the file that `export.add_items` names."""
    # The export package first: it decides how TensorFlow is imported.
    import kdsr_tf.export  # noqa: F401
    from beam_pipelines.new_items import encode_new_items

    with locked(config):
        return StageOutcome(
            stage=stages.NEW_ITEMS, state=DONE, manifests=[encode_new_items(config)]
        )


def run_all(config: Config, beam_args: Sequence[str] = ()) -> list[StageOutcome]:
    """Run every stage that is not up to date, with the configuration left in the run's folder."""
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
