"""What a server tells Prometheus about itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from serving.request_error import RequestError

_log = logging.getLogger("kdsr.serving")

PATH = "/monitoring/prometheus/metrics"
"""Where TF Serving has them too."""

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
_LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_LOG_SECONDS = 10
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class SparseLog:
    """Warnings that come in floods: one line per kind and interval, with the number left out."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, text: str) -> None:
        """Log a line, unless one of its kind was logged a moment ago."""
        now = time.monotonic()
        if now < self._next.get(kind, 0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + _LOG_SECONDS
        more = self._left_out.pop(kind, 0)
        _log.warning("%s: %s%s", kind, text, f" ({more} more like it before)" if more else "")


@dataclasses.dataclass
class Observation:
    """A request under way; `signature` stays empty until it is known to exist."""

    signature: str = ""
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Count time from now."""
        self.started = time.perf_counter()


class Metrics:
    """Counts of one server, in a registry of their own; every value is labelled with the model."""

    def __init__(self, model_name: str) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._model_name = model_name
        self._log = SparseLog()

        def new(kind: Callable[..., Any], name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(name, text, ["model_name", *labels], registry=self._registry, **more)

        request = ("protocol", "signature", "status")
        self._requests = new(
            Counter, "kdsr_serving_requests", "Predict requests answered, by status.", *request
        )
        self._seconds = new(
            Histogram,
            "kdsr_serving_request_seconds",
            "Time from a request read to its answer made.",
            *request,
            buckets=_LATENCIES,
        )
        self.batch_rows = new(
            Histogram, "kdsr_serving_batch_rows", "Rows computed at once.", buckets=_ROWS
        ).labels(model_name)
        self.queue_rows = new(
            Gauge, "kdsr_serving_queue_rows", "Rows waiting to be computed."
        ).labels(model_name)
        self.failed_loads = new(
            Counter, "kdsr_serving_failed_loads", "Versions that could not be loaded."
        ).labels(model_name)
        self.pending_calls = new(
            Gauge, "kdsr_serving_pending_calls", "gRPC calls received and not read yet."
        ).labels(model_name)
        self.queue_elements = new(
            Gauge, "kdsr_serving_queue_elements", "Strings waiting to be computed."
        ).labels(model_name)
        self._malformed = new(
            Counter,
            "kdsr_serving_malformed_requests",
            "Requests whose bytes cannot be read.",
            "protocol",
        )
        self._refused = new(
            Counter,
            "kdsr_serving_refused_connections",
            "Connections closed for want of room.",
            "protocol",
        )
        self._versions = new(
            Gauge, "kdsr_serving_version_loaded", "1 for every version in memory.", "version"
        )

    def set_versions(self, versions: Iterable[int]) -> None:
        """The versions that are in memory now."""
        self._versions.clear()
        for version in versions:
            self._versions.labels(self._model_name, version).set(1)

    def malformed(self, protocol: str, what: str) -> None:
        """Count a request whose bytes cannot be read."""
        self._malformed.labels(self._model_name, protocol).inc()
        self._log.warning("malformed request", f"{protocol}: {what}")

    def refused(self, protocol: str, why: str) -> None:
        """Count a connection that there is no room for."""
        self._refused.labels(self._model_name, protocol).inc()
        self._log.warning("connection refused", f"{protocol}: {why}")

    @contextlib.contextmanager
    def observe(self, protocol: str) -> Iterator[Observation]:
        """Time and count a request of a protocol, `grpc` or `rest`, whatever becomes of it."""
        observation, status = Observation(), "INTERNAL"
        try:
            yield observation
            status = "OK"
        except RequestError as error:
            status = error.code.name
            raise
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        finally:
            labels = (self._model_name, protocol, observation.signature, status)
            self._requests.labels(*labels).inc()
            self._seconds.labels(*labels).observe(time.perf_counter() - observation.started)

    def page(self) -> bytes:
        """The values in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)
