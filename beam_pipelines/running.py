"""Running a Beam pipeline: the runner, live progress and errors a user can act on.

Without `--runner` a pipeline runs in this process on Beam's `FnApiRunner`
(`--direct_running_mode=multi_processing --direct_num_workers=2` adds processes).
`DirectRunner` means the same: Beam's own switch would first try to download
another runner. Any other runner name goes to Beam unchanged. Options that Beam does
not have are refused: Beam itself would pass over a misspelt one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineState

from beam_pipelines.beam_internals import (
    CachedOptions,
    LocalRunner,
    LostWorkerError,
    fresh_metrics,
    inspecting_once,
    quiet_beam,
    sampling_often,
)
from beam_pipelines.watching import watching
from kdsr_tf import errors
from kdsr_tf.config import Config, load_config
from kdsr_tf.console import console, progress

NAMESPACE = "kdsr"
"""Namespace of this package's Beam counters."""

DONE = "done"
"""Counter behind the progress bar."""

_PROGRESS_FILE = "KDSR_PROGRESS_FILE"
_LOCAL_RUNNERS = ("direct", "fnapi")
_AMOUNT = struct.Struct("<q")
_POLL_SECONDS = 0.25
_REMOTE_POLL_SECONDS = 5.0
_LOST_WORKER = (
    "A worker process was killed. Nothing of this job was committed. "
    "Most often the system has killed it for want of memory: use fewer processes "
    "(--direct_num_workers) or a larger machine, and run the job again."
)


def advance(amount: int = 1) -> None:
    """Report `amount` units of work as done; call it inside a `DoFn`.

    Counts in Beam's metrics and, on a local runner, in a small file that the
    launching process watches, so that worker processes report live as well.
    """
    Metrics.counter(NAMESPACE, DONE).inc(amount)
    path = os.environ.get(_PROGRESS_FILE)
    if path:
        # Eight bytes in one append: whole, whatever other processes write.
        with open(path, "ab", buffering=0) as file:
            file.write(_AMOUNT.pack(amount))


def run_pipeline(
    build: Callable[[beam.Pipeline], object],
    beam_args: Sequence[str] = (),
    *,
    title: str,
    total: int | None = None,
) -> dict[str, int]:
    """Build and run one pipeline to its end.

    Args:
        build: Adds the transforms to the pipeline.
        beam_args: Beam options, such as `("--runner=DataflowRunner",)`.
        title: Shown beside the progress bar.
        total: Units that `advance` will report; None when unknown.

    Returns:
        Every committed user counter by name.

    Raises:
        KDSRError: the one raised inside a `DoFn`, with its message.
        ConfigError: for options that Beam refuses or does not have, and for
            `--template_location`: a template's job would begin only after its
            artifact was committed. `beam_pipelines.launch` starts templates.
        RuntimeError: for any other failure of the pipeline.

    Example:
        >>> counters = run_pipeline(lambda p: p | beam.Create([1, 2]), title="two elements")
    """
    pipeline = _pipeline(beam_args)
    with inspecting_once(), sampling_often():
        build(pipeline)
        result = _run(pipeline, title, total)
    if result.state not in (PipelineState.DONE, PipelineState.UNKNOWN):
        raise RuntimeError(f"The pipeline `{title}` ended in state {result.state}.")
    return counters(result)


def _run(
    pipeline: beam.Pipeline, title: str, total: int | None
) -> beam.runners.runner.PipelineResult:
    with progress(title, total) as bar:
        shown = 0

        def update(done: int) -> None:
            nonlocal shown
            bar.advance(done - shown)
            shown = done

        try:
            if isinstance(pipeline.runner, LocalRunner):
                with _local_progress(update), quiet_beam():
                    result = pipeline.run()
                    result.wait_until_finish()
            else:
                result = pipeline.run()
                _follow(result, update)
        except Exception as error:
            known = _known_error(error)
            if known is None:
                raise
            raise known from error
    return result


def unknown_options(beam_args: Sequence[str]) -> list[str]:
    """What of the Beam options no option of Beam takes.

    Raises:
        ConfigError: for a value that its option does not take.

    Example:
        >>> unknown_options(["--direct_num_workers=2", "--num_wrokers=3"])
        ['--num_wrokers=3']
    """
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    (parser,) = parsers
    parser.exit_on_error = False
    try:
        return parser.parse_known_args(list(beam_args))[1]
    except argparse.ArgumentError as error:
        raise errors.ConfigError(
            f"Beam refuses an option: {error}. Received: {' '.join(beam_args)}."
        ) from None


def job_arguments(
    argv: Sequence[str] | None, job: str, description: str
) -> tuple[Config, list[str]]:
    """Arguments of a job started on its own: configuration first, then Beam options.

    Args:
        argv: Arguments without the program's name; None takes the process's own.
        job: Name of the module in `beam_pipelines`.
        description: First line of the help text.

    Returns:
        The configuration and what is left for Beam (after `--`, if it is given).
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m beam_pipelines.{job}", description=description.partition("\n")[0]
    )
    parser.add_argument("--config", required=True, help="YAML file or URI")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workdir", help="replaces `workdir` of the configuration")
    arguments, beam_args = parser.parse_known_args(argv)
    config = load_config(arguments.config, arguments.set, arguments.workdir)
    return config, [argument for argument in beam_args if argument != "--"]


def main_of(job: str) -> None:
    """Run a job from its command line, for launchers such as Dataflow templates.

    The module is imported by the job's name, so that workers find its functions.
    """

    def run() -> None:
        module = importlib.import_module(f"beam_pipelines.{job}")
        config, beam_args = job_arguments(None, job, module.__doc__ or "")
        getattr(module, job)(config, beam_args)

    run_as_program(run)


def run_as_program(run: Callable[[], object]) -> None:
    """Run a program; an error the user can act on ends with status 2, without traceback."""
    try:
        run()
    except errors.KDSRError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(2)


def counters(result: beam.runners.runner.PipelineResult) -> dict[str, int]:
    """User counters of a finished or running pipeline, summed over its steps."""
    found: dict[str, int] = {}
    metrics = fresh_metrics(result)
    for metric in metrics.query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        name = metric.key.metric.name
        value = metric.attempted if metric.committed is None else metric.committed
        found[name] = found.get(name, 0) + (value or 0)
    return found


def _pipeline(beam_args: Sequence[str]) -> beam.Pipeline:
    """An empty pipeline with its runner, from options that Beam understands."""
    # Beam's parser of all options takes longer to build than the pipeline of a small job.
    unknown = unknown_options(beam_args) if beam_args else []
    options = CachedOptions(list(beam_args))
    template = options.view_as(GoogleCloudOptions).template_location
    if template:
        raise errors.ConfigError(
            "A job that commits its output cannot be saved as a template. Received: "
            f"--template_location={template}. Start it with `python -m beam_pipelines.launch`."
        )
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    local = name.lower().removesuffix("runner") in _LOCAL_RUNNERS
    try:
        pipeline = beam.Pipeline(runner=LocalRunner() if local else name, options=options)
    except (AttributeError, ImportError, ValueError) as error:
        raise errors.ConfigError(
            f"Beam cannot use the options {' '.join(beam_args)}: {str(error).strip()}"
        ) from error
    # The server of a portable runner may have options of its own.
    if unknown and not isinstance(pipeline.runner, PortableRunner):
        raise errors.ConfigError(
            f"Beam has no option {' '.join(unknown)} (with the runner {name}). Look for a "
            "spelling mistake; options of KDSR-TF go before `--`."
        )
    return pipeline


@contextlib.contextmanager
def _local_progress(update: Callable[[int], None]) -> Iterator[None]:
    """Watch the file that `advance` appends to, in this and in child processes."""
    handle, path = tempfile.mkstemp(prefix="kdsr-progress-")
    os.close(handle)
    before = os.environ.get(_PROGRESS_FILE)
    os.environ[_PROGRESS_FILE] = path
    done = read = 0

    def look() -> None:
        nonlocal done, read
        with open(path, "rb") as file:
            file.seek(read)
            news = file.read()
        read += len(news)
        done += sum(amount for (amount,) in _AMOUNT.iter_unpack(news))
        update(done)

    try:
        with watching(look, _POLL_SECONDS):
            yield
    finally:
        look()
        os.remove(path)
        if before is None:
            del os.environ[_PROGRESS_FILE]
        else:
            os.environ[_PROGRESS_FILE] = before


def _follow(result: beam.runners.runner.PipelineResult, update: Callable[[int], None]) -> None:
    """Wait for a remote job and show its `done` counter meanwhile."""

    def look() -> None:
        # Not every runner answers metric queries while a job runs.
        with contextlib.suppress(Exception):
            update(counters(result).get(DONE, 0))

    with watching(look, _REMOTE_POLL_SECONDS):
        result.wait_until_finish()


def _known_error(error: Exception) -> errors.KDSRError | None:
    """The package's own error, raised here or inside a worker's traceback text."""
    kind: type[errors.KDSRError]
    message = str(error)
    if isinstance(error, errors.KDSRError):
        kind = type(error)
    else:
        matches = list(re.finditer(r"kdsr_tf\.errors\.(\w+): ", message))
        if not matches:
            if isinstance(error, LostWorkerError):
                return errors.KDSRError(_LOST_WORKER)
            full = any(f"[Errno {number}]" in message for number in errors.FULL)
            return errors.KDSRError(errors.NO_SPACE) if full else None
        kind = getattr(errors, matches[-1].group(1), errors.KDSRError)
        message = message[matches[-1].end() :]
    return kind(re.split(r" \[while running |\n\nDuring handling", message)[0].strip())
