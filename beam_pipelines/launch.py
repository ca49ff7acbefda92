"""Starts a job as a Dataflow Flex Template.

    KDSR_JOB=prepare python -m beam_pipelines.launch --config=gs://... --runner=DataflowRunner ...

The program behind a template must end before its job begins, but a stage commits its
output after its pipelines have ended. So the template's own job holds one element:
the worker that takes it runs the stage, which starts its pipelines as further jobs,
waits for them and commits.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines.running import job_arguments, run_as_program, unknown_options
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError

JOBS = ("prepare", "encode", "distill")
"""Modules of `beam_pipelines` that can be started so."""

JOB_VARIABLE = "KDSR_JOB"
"""Environment variable of the launcher image that names the job."""


def run_stage(job: str, values: dict[str, Any], beam_args: Sequence[str]) -> None:
    """Run one stage to its end; called on the worker of the template's own job."""
    stage = getattr(importlib.import_module(f"beam_pipelines.{job}"), job)
    stage(Config.model_validate(values), beam_args)


def stage_arguments(beam_args: Sequence[str], job: str) -> list[str]:
    """The Beam options of the stage's pipelines, from those of the template's job.

    `--template_location` goes, and the name gets a suffix: two running jobs cannot
    share one. Options that this Beam does not know go too: nobody misspelt them, the
    launcher of templates has added them.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--template_location")
    parser.add_argument("--job_name")
    own, kept = parser.parse_known_args(beam_args)
    unknown = unknown_options(kept)
    known = [argument for argument in kept if argument not in unknown]
    return known + ([f"--job_name={own.job_name}-{job}"] if own.job_name else [])


def run(argv: Sequence[str] | None = None, job: str | None = None) -> None:
    """Submit the template's own job; does not wait for it.

    Args:
        argv: Arguments of the job; None takes the process's own.
        job: One of `JOBS`; None takes the environment variable `KDSR_JOB`.

    Raises:
        ConfigError: for an unknown job, a bad configuration, or a working
            directory that workers cannot reach.
    """
    job = os.environ.get(JOB_VARIABLE) if job is None else job
    if job not in JOBS:
        raise ConfigError(f"`{JOB_VARIABLE}` must be one of {', '.join(JOBS)}. Received: {job!r}.")
    config, beam_args = job_arguments(argv, job, f"Runs `{job}` as a Flex Template.")
    if "://" not in config.workdir:
        raise ConfigError(
            f"`workdir` must be a URI that every worker reaches. Received: {config.workdir!r}. "
            "Pass --workdir=gs://bucket/folder."
        )
    pipeline = beam.Pipeline(options=PipelineOptions(beam_args))
    values = config.model_dump(mode="json")
    _ = (
        pipeline
        | "Stage" >> beam.Create([job])
        | "Run" >> beam.Map(run_stage, values, stage_arguments(beam_args, job))
    )
    pipeline.run()


def main() -> None:
    """The program of the launcher image."""
    run_as_program(run)


if __name__ == "__main__":
    # Imported anew, so that workers unpickle functions of this module by name.
    from beam_pipelines.launch import main as _main

    _main()
