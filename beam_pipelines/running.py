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
import copy
import logging
import os
import struct
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineState
from apache_beam.runners.worker import statesampler
from apache_beam.transforms import userstate

from beam_pipelines.local_runner import LocalRunner, known_error
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
_SAMPLING_MS = 10
_REMOTE_POLL_SECONDS = 5.0
_THREADS_OF_WORKERS = ("run_worker", "beam_control_read", "read_grpc_client_inputs")


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
    build: Callable[[beam.Pipeline], None],
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
    with _inspecting_once(), _sampling_often():
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
                with _local_progress(update), _quiet_beam():
                    result = pipeline.run()
                    result.wait_until_finish()
            else:
                result = pipeline.run()
                _follow(result, update)
        except Exception as error:
            known = known_error(error)
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
        prog=f"python -m beam_pipelines.{job}", description=description.splitlines()[0]
    )
    parser.add_argument("--config", required=True, help="YAML file or URI")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workdir", help="replaces `workdir` of the configuration")
    arguments, beam_args = parser.parse_known_args(argv)
    config = load_config(arguments.config, arguments.set, arguments.workdir)
    return config, [argument for argument in beam_args if argument != "--"]


def run_as_program(run: Callable[[], object]) -> None:
    """Run a job's `run`; an error the user can mend ends with status 2, without traceback."""
    try:
        run()
    except errors.KDSRError as error:
        console.print(str(error), style="red", markup=False)
        sys.exit(2)


def counters(result: beam.runners.runner.PipelineResult) -> dict[str, int]:
    """User counters of a finished or running pipeline, summed over its steps."""
    found: dict[str, int] = {}
    # A copy, because the result of a portable runner of Beam 2.77 keeps its first answer for good,
    # and the first is asked for while the job runs. If a later Beam keeps the answer in what a
    # copy shares, tests/beam_pipelines/test_portable.py fails: find the new place, and drop it.
    metrics = copy.copy(result).metrics()
    for metric in metrics.query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        name = metric.key.metric.name
        value = metric.attempted if metric.committed is None else metric.committed
        found[name] = found.get(name, 0) + (value or 0)
    return found


def _pipeline(beam_args: Sequence[str]) -> beam.Pipeline:
    """An empty pipeline with its runner, from options that Beam understands."""
    # Beam's parser of all options takes longer to build than the pipeline of a small job.
    unknown = unknown_options(beam_args) if beam_args else []
    options = _Options(list(beam_args))
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


class _Options(PipelineOptions):
    """Options that parse the flags once per view: Beam asks for views at every transform."""

    def view_as(self, cls: type[PipelineOptions]) -> Any:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own views, of its own values.
        return {key: value for key, value in super().__getstate__().items() if key != "_views"}


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


@contextlib.contextmanager
def _quiet_beam() -> Iterator[None]:
    """Silence Beam's logger and threads: what they say is in the raised error too."""
    logger, hook = logging.getLogger("apache_beam"), threading.excepthook
    level = logger.level

    def keep_quiet(problem: Any) -> None:
        if getattr(problem.thread, "name", None) not in _THREADS_OF_WORKERS:
            hook(problem)

    logger.setLevel(logging.CRITICAL)
    threading.excepthook = keep_quiet
    try:
        yield
    finally:
        logger.setLevel(level)
        threading.excepthook = hook


@contextlib.contextmanager
def _inspecting_once() -> Iterator[None]:
    """Let Beam look for state and timers in a class of `DoFn` once.

    Beam 2.77 inspects every method of every `DoFn` eight times, a third of the processor time
    of a small job. What it finds belongs to the class, but for methods kept in an instance.
    """
    inspect = userstate.get_dofn_specs
    found: dict[type, tuple[set[Any], set[Any]]] = {}

    def inspect_once(dofn: beam.DoFn) -> tuple[set[Any], set[Any]]:
        if any(isinstance(value, types.MethodType) for value in vars(dofn).values()):
            return inspect(dofn)
        kind = type(dofn)
        if kind not in found:
            found[kind] = inspect(dofn)
        return found[kind]

    userstate.get_dofn_specs = inspect_once
    try:
        yield
    finally:
        userstate.get_dofn_specs = inspect


@contextlib.contextmanager
def _sampling_often() -> Iterator[None]:
    """Let Beam's sampler of states sleep for 10 ms at most, in this process.

    Beam 2.77 lets it sleep for a sixth of a bundle's time, up to 200 ms, and every bundle ends by
    waiting until it wakes.
    """
    sampler = statesampler.StateSampler.__init__
    before = sampler.__defaults__
    sampler.__defaults__ = (_SAMPLING_MS,)
    try:
        yield
    finally:
        sampler.__defaults__ = before


def _follow(result: beam.runners.runner.PipelineResult, update: Callable[[int], None]) -> None:
    """Wait for a remote job and show its `done` counter meanwhile."""

    def look() -> None:
        # Not every runner answers metric queries while a job runs.
        with contextlib.suppress(Exception):
            update(counters(result).get(DONE, 0))

    with watching(look, _REMOTE_POLL_SECONDS):
        result.wait_until_finish()
