"""Beam's in-process runner, without its deadlocks, and the error behind a failed pipeline."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import BeamFnControlServicer

from beam_pipelines.watching import watching
from kdsr_tf import errors

_POLL_SECONDS = 0.25
_CONNECT_SECONDS = 60.0
_LOST_WORKER = (
    "A worker process was killed. Nothing of this job was committed. "
    "Most often the system has killed it for want of memory: use fewer processes "
    "(--direct_num_workers) or a larger machine, and run the job again."
)
_CLOSED_CHANNEL = "Channel closed prematurely."
_UNCONNECTED = BeamFnControlServicer.UNSTARTED_STATE


class LocalRunner(FnApiRunner):
    """Beam's in-process runner, without its deadlocks after a failure.

    Beam 2.77 waits for ever for the answer of a worker process that was killed: so
    its unanswered requests are answered with an error. And it never tells a worker
    process to stop that connects only after a bundle failed, and then waits for its
    end: so a failure first waits until every started process is connected.
    """

    def _execute_bundle(self, context: Any, bundle: Any, bundle_input: Any) -> Any:
        try:
            with _noticing_lost_workers(bundle.worker_handlers):
                return super()._execute_bundle(context, bundle, bundle_input)
        except Exception as error:
            deadline = time.monotonic() + _CONNECT_SECONDS
            while time.monotonic() < deadline and any(
                getattr(handler.control_conn, "_state", None) == _UNCONNECTED
                and not _is_lost(handler)
                for handler in bundle.worker_handlers
            ):
                time.sleep(_POLL_SECONDS)
            lost = str(error) == _CLOSED_CHANNEL or any(map(_is_lost, bundle.worker_handlers))
            if lost and known_error(error) is None:
                raise errors.KDSRError(_LOST_WORKER) from error
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
                future.set(beam_fn_api_pb2.InstructionResponse(error=_LOST_WORKER))

    with watching(look, _POLL_SECONDS):
        yield


def _is_lost(handler: Any) -> bool:
    """Whether a handler's worker has ended although nobody has told it to."""
    thread = getattr(handler, "worker_thread", None)
    return thread is not None and not thread.is_alive()


def known_error(error: Exception) -> errors.KDSRError | None:
    """The package's own error, raised here or inside a worker's traceback text."""
    kind: type[errors.KDSRError]
    message = str(error)
    if isinstance(error, errors.KDSRError):
        kind = type(error)
    else:
        matches = list(re.finditer(r"kdsr_tf\.errors\.(\w+): ", message))
        if not matches:
            full = any(f"[Errno {number}]" in message for number in errors.FULL)
            return errors.KDSRError(errors.NO_SPACE) if full else None
        kind = getattr(errors, matches[-1].group(1), errors.KDSRError)
        message = message[matches[-1].end() :]
    return kind(re.split(r" \[while running |\n\nDuring handling", message)[0].strip())
