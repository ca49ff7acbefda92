"""Private interfaces of Apache Beam, all read in Beam 2.77 (`setup.cfg` allows no other).

Each says what happens without it. `tests/beam_pipelines/test_beam_internals.py` fails if a name
is gone or has no effect any more: then read the places named here in the new version, and drop
what Beam does by itself.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
import types
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import BeamFnControlServicer
from apache_beam.runners.worker import statesampler
from apache_beam.transforms import userstate

from beam_pipelines.watching import watching
from kdsr_tf.private_interfaces import require

READ_IN = "Apache Beam 2.77"
SAMPLING_MS = 10

_POLL_SECONDS = 0.25
_CONNECT_SECONDS = 60.0
_CLOSED_CHANNEL = "Channel closed prematurely."
_UNCONNECTED = BeamFnControlServicer.UNSTARTED_STATE
_THREADS_OF_WORKERS = ("run_worker", "beam_control_read", "read_grpc_client_inputs")

require(FnApiRunner, "_execute_bundle", read_in=READ_IN)


class LostWorkerError(Exception):
    """A worker process has ended in the middle of a bundle, although nobody told it to."""


class LocalRunner(FnApiRunner):
    """Beam's in-process runner, without its deadlocks after a failure.

    Beam waits for ever for the answer of a worker process that was killed: so its unanswered
    requests are answered with an error. And Beam never tells a worker process to stop that
    connects only after a bundle failed, and then waits for its end: so a failure first waits
    until every started process is connected. Without the private names a failed job of several
    processes may never end; look in `fn_api_runner/worker_handlers.py`.

    Raises:
        LostWorkerError: from the run of a pipeline, if a worker process was killed.
    """

    def _execute_bundle(self, context: Any, bundle: Any, bundle_input: Any) -> Any:
        handlers = bundle.worker_handlers
        try:
            with _noticing_lost_workers(handlers):
                return super()._execute_bundle(context, bundle, bundle_input)
        except Exception as error:
            deadline = time.monotonic() + _CONNECT_SECONDS
            while time.monotonic() < deadline and any(map(_is_awaited, handlers)):
                time.sleep(_POLL_SECONDS)
            if str(error) == _CLOSED_CHANNEL or any(map(_is_lost, handlers)):
                raise LostWorkerError(str(error)) from error
            raise


@contextlib.contextmanager
def _noticing_lost_workers(handlers: Sequence[Any]) -> Iterator[None]:
    """Fail the requests to worker processes that have ended."""
    if not any(hasattr(handler, "worker_thread") for handler in handlers):
        yield
        return

    def look() -> None:
        for handler in filter(_is_lost, handlers):
            for future in list(handler.control_conn._futures_by_id.values()):
                future.set(beam_fn_api_pb2.InstructionResponse(error=_CLOSED_CHANNEL))

    with watching(look, _POLL_SECONDS):
        yield


def _is_lost(handler: Any) -> bool:
    """Whether a handler's worker has ended although nobody has told it to."""
    thread = getattr(handler, "worker_thread", None)
    return thread is not None and not thread.is_alive()


def _is_awaited(handler: Any) -> bool:
    """Whether a handler's worker has started and is not connected yet."""
    state = getattr(handler.control_conn, "_state", None)
    return state == _UNCONNECTED and not _is_lost(handler)


class CachedOptions(PipelineOptions):
    """Options that parse the flags once per view: Beam asks for views at every transform.

    `PipelineOptions` is public; that its state is in `__dict__` and copied by `__getstate__` is
    not. Without this class a pipeline is built more slowly.
    """

    def view_as(self, cls: type[PipelineOptions]) -> Any:
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own views, of its own values.
        return {key: value for key, value in super().__getstate__().items() if key != "_views"}


def fresh_metrics(result: beam.runners.runner.PipelineResult) -> Any:
    """The metrics of a running or finished pipeline as they are now.

    The result of a portable runner keeps its first answer, and the first is asked for
    while the job runs; a copy has none yet. If a later Beam keeps the answer in what a copy
    shares, tests/beam_pipelines/test_portable.py fails: find the new place, and drop it.
    """
    return copy.copy(result).metrics()


@contextlib.contextmanager
def quiet_beam() -> Iterator[None]:
    """Silence Beam's logger and threads: what they say is in the raised error too.

    If a later Beam names its threads otherwise, a failure prints tracebacks before the error.
    """
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
def inspecting_once() -> Iterator[None]:
    """Let Beam look for state and timers in a class of `DoFn` once.

    Beam inspects every method of every `DoFn` eight times, a third of the processor time of a
    small job. What it finds belongs to the class, but for methods kept in an instance. If Beam
    no longer asks `userstate.get_dofn_specs`, small jobs take that much longer.
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
def sampling_often() -> Iterator[None]:
    """Let Beam's sampler of states sleep for 10 ms at most, in this process.

    Beam lets it sleep for a sixth of a bundle's time, up to 200 ms, and every bundle ends by
    waiting until it wakes. If the argument is no longer the only one with a default, a bundle
    waits again.
    """
    sampler = statesampler.StateSampler.__init__
    before = sampler.__defaults__
    sampler.__defaults__ = (SAMPLING_MS,)
    try:
        yield
    finally:
        sampler.__defaults__ = before
