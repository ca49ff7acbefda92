"""Requests that wait together are computed together."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping

import grpc
import numpy as np

from kdsr_tf import schema
from serving.errors import RequestError, invalid
from serving.metrics import Metrics
from serving.model import ServableModel

_SHORT_HISTORY = 255


@dataclasses.dataclass(eq=False)
class _Task:
    """At most a batch of rows of one request."""

    model: ServableModel
    signature: str
    inputs: dict[str, np.ndarray]
    key: Hashable
    rows: int
    arrived: float
    answer: asyncio.Future


class Batcher:
    """Computes requests on a few threads, those that fit together in one batch.

    What fits: the same version and signature, and inputs of equal shape but for the rows
    and the length of histories, which are padded with "" (ignored by the model). Histories
    above 255 items share a batch with their like only, so that one of them does not
    lengthen all others by more than twice. A request with more rows than a batch is cut;
    its parts queue one after the other. A request whose caller has gone is not computed.

    It belongs to the event loop it is started in; its threads take batches from a queue and hand
    the answers back to that loop.

    Args:
        max_batch_size: Rows computed at once, >= 1.
        timeout_ms: Longest wait of a request for others to fill its batch, in
            milliseconds, >= 0. With 0 a batch is what came while others were computed.
        queue_rows: Rows that may wait, >= 1; more are refused.
        num_threads: Batches computed at once, >= 1.
        metrics: Told the size of batches and of the queue.
    """

    def __init__(
        self,
        max_batch_size: int,
        timeout_ms: float,
        queue_rows: int,
        num_threads: int,
        metrics: Metrics,
    ) -> None:
        self._max_batch_size = max_batch_size
        self._timeout_seconds = timeout_ms / 1e3
        self._queue_rows = queue_rows
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch_{number}", daemon=True)
            for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    async def run(
        self, model: ServableModel, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The outputs of a request that was checked.

        Raises:
            RequestError: UNAVAILABLE if the queue is full, INVALID_ARGUMENT if the request
                could not wait even in an empty one, or TensorFlow's own status.
        """
        rows = len(next(iter(inputs.values())))
        if rows > self._queue_rows:
            raise invalid(
                f"Task size {rows} is larger than maximum input batch size {self._queue_rows}"
            )
        tasks = [
            _task(
                model,
                signature,
                {name: a[start : start + self._max_batch_size] for name, a in inputs.items()},
            )
            for start in range(0, max(rows, 1), self._max_batch_size)
        ]
        with self._changed:
            if max(rows, 1) + self._waiting_rows() > self._queue_rows:
                raise RequestError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._queue.extend(tasks)
            self._metrics.queue_rows.set(self._waiting_rows())
            self._changed.notify()
        if len(tasks) == 1:
            return await tasks[0].answer
        try:
            answers = await asyncio.gather(*(task.answer for task in tasks))
        finally:
            for task in tasks:
                task.answer.cancel()
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    async def stop(self) -> None:
        """End the threads after the batches under way; what still waits is not computed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _waiting_rows(self) -> int:
        # An empty request takes a place too.
        return sum(max(task.rows, 1) for task in self._queue if not task.answer.done())

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                answers = _compute(batch)
            except Exception as error:
                self._loop.call_soon_threadsafe(_fail, batch, error)
            else:
                self._loop.call_soon_threadsafe(_answer, batch, answers)
                del answers
            del batch  # It holds its version, which a swap releases.

    def _next_batch(self) -> list[_Task]:
        """What to compute next, as soon as there is something; empty at the end."""
        with self._changed:
            while not self._stopped:
                while self._queue and self._queue[0].answer.done():
                    self._queue.popleft()
                wait = None
                if self._queue:
                    wait = self._queue[0].arrived + self._timeout_seconds - time.monotonic()
                    batch = self._oldest_batch()
                    rows = sum(task.rows for task in batch)
                    if wait <= 0 or rows >= self._max_batch_size:
                        chosen = set(map(id, batch))
                        self._queue = deque(t for t in self._queue if id(t) not in chosen)
                        self._metrics.queue_rows.set(self._waiting_rows())
                        self._metrics.batch_rows.observe(rows)
                        if self._queue:
                            self._changed.notify()
                        return batch
                self._changed.wait(wait)
        return []

    def _oldest_batch(self) -> list[_Task]:
        """The request that has waited longest, and those that came after and fit."""
        batch, rows = [], 0
        for task in self._queue:
            if task.answer.done() or task.key != self._queue[0].key:
                continue
            if batch and rows + task.rows > self._max_batch_size:
                break
            batch.append(task)
            rows += task.rows
        return batch


def _task(model: ServableModel, signature: str, inputs: dict[str, np.ndarray]) -> _Task:
    shapes = {name: array.shape[1:] for name, array in inputs.items()}
    if schema.HISTORY in shapes:
        shapes[schema.HISTORY] = max(shapes[schema.HISTORY][0], _SHORT_HISTORY).bit_length()
    return _Task(
        model,
        signature,
        inputs,
        key=(id(model), signature, tuple(sorted(shapes.items()))),
        rows=len(next(iter(inputs.values()))),
        arrived=time.monotonic(),
        answer=asyncio.get_running_loop().create_future(),
    )


def _answer(batch: list[_Task], answers: list[dict[str, np.ndarray]]) -> None:
    for task, answer in zip(batch, answers, strict=True):
        if not task.answer.done():
            task.answer.set_result(answer)


def _fail(batch: list[_Task], error: Exception) -> None:
    for task in batch:
        if not task.answer.done():
            task.answer.set_exception(error)


def _compute(batch: list[_Task]) -> list[dict[str, np.ndarray]]:
    """Each task's part of the outputs of all."""
    first = batch[0]
    if len(batch) == 1:
        return [first.model.run(first.signature, first.inputs)]
    inputs = {name: _stack([task.inputs[name] for task in batch]) for name in first.inputs}
    outputs = first.model.run(first.signature, inputs)
    ends = itertools.accumulate(task.rows for task in batch)
    return [
        {name: array[end - task.rows : end] for name, array in outputs.items()}
        for task, end in zip(batch, ends, strict=True)
    ]


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays one below the other, shorter rows filled with ""."""
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    longest = max(array.shape[1] for array in arrays)
    stacked = np.full((sum(map(len, arrays)), longest), b"", object)
    start = 0
    for array in arrays:
        stacked[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return stacked
