"""Requests that wait together are computed together."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence

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
    rows: int  # at least 1: an empty request takes a place too
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
        # By key, in order of arrival; a key without tasks is absent.
        self._queues: dict[Hashable, deque[_Task]] = {}
        self._waiting_rows = 0
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
            RequestError: UNAVAILABLE if the queue is full or has been stopped,
                INVALID_ARGUMENT if the request could not wait even in an empty one, or
                TensorFlow's own status.
        """
        rows = _rows(inputs)
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
        self._enter(tasks)
        try:
            if len(tasks) == 1:
                return await tasks[0].answer
            answers = await asyncio.gather(*(task.answer for task in tasks))
        except BaseException:
            self._abandon(tasks)
            tasks.clear()  # They hold the error, whose traceback holds this frame.
            raise
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    async def stop(self) -> None:
        """End the threads after the batches under way; what still waits is refused."""
        with self._changed:
            self._stopped = True
            waiting = list(itertools.chain.from_iterable(self._queues.values()))
            self._remove(waiting)
            self._changed.notify_all()
        _fail(waiting, _unavailable("The server is stopping."))
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _enter(self, tasks: Sequence[_Task]) -> None:
        rows = sum(task.rows for task in tasks)
        with self._changed:
            if self._stopped:
                raise _unavailable("The server is stopping.")
            if rows + self._waiting_rows > self._queue_rows:
                raise _unavailable(
                    "The batch scheduling queue to which this task was submitted is full"
                )
            for task in tasks:
                self._queues.setdefault(task.key, deque()).append(task)
            self._waiting_rows += rows
            self._metrics.queue_rows.set(self._waiting_rows)
            self._changed.notify()

    def _abandon(self, tasks: Sequence[_Task]) -> None:
        with self._changed:
            self._remove([task for task in tasks if task in self._queues.get(task.key, ())])
        for task in tasks:
            task.answer.cancel()

    def _remove(self, tasks: Sequence[_Task]) -> None:
        for task in tasks:
            waiting = self._queues[task.key]
            waiting.remove(task)
            if not waiting:
                del self._queues[task.key]
            self._waiting_rows -= task.rows
        self._metrics.queue_rows.set(self._waiting_rows)

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                # Without the tasks: they will hold an error, and its traceback what it is given.
                answers = _compute(
                    batch[0].model, batch[0].signature, [task.inputs for task in batch]
                )
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
                batch, seconds = self._take_batch()
                if batch:
                    if self._queues:
                        self._changed.notify()
                    return batch
                self._changed.wait(seconds)
        return []

    def _take_batch(self) -> tuple[list[_Task], float | None]:
        """The oldest batch if it has waited its time, or one that is full.

        If there is neither, the seconds until the oldest has; None for an empty queue.
        """
        if not self._queues:
            return [], None
        chosen = min(self._queues.values(), key=lambda tasks: tasks[0].arrived)
        seconds = chosen[0].arrived + self._timeout_seconds - time.monotonic()
        if seconds > 0:
            full = (
                tasks
                for tasks in self._queues.values()
                if sum(task.rows for task in tasks) >= self._max_batch_size
            )
            chosen = next(full, ())
        batch, rows = [], 0
        for task in chosen:
            if rows + task.rows > self._max_batch_size:
                break
            batch.append(task)
            rows += task.rows
        if batch:
            self._remove(batch)
            self._metrics.batch_rows.observe(rows)
        return batch, seconds


def _unavailable(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.UNAVAILABLE, message)


def _task(model: ServableModel, signature: str, inputs: dict[str, np.ndarray]) -> _Task:
    shapes = {name: array.shape[1:] for name, array in inputs.items()}
    if schema.HISTORY in shapes:
        shapes[schema.HISTORY] = max(shapes[schema.HISTORY][0], _SHORT_HISTORY).bit_length()
    return _Task(
        model,
        signature,
        inputs,
        key=(id(model), signature, tuple(sorted(shapes.items()))),
        rows=max(_rows(inputs), 1),
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


def _compute(
    model: ServableModel, signature: str, requests: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """Each request's part of the outputs of all."""
    if len(requests) == 1:
        return [model.run(signature, requests[0])]
    inputs = {name: _stack([request[name] for request in requests]) for name in requests[0]}
    outputs = model.run(signature, inputs)
    answers, start = [], 0
    for end in itertools.accumulate(map(_rows, requests)):
        answers.append({name: array[start:end] for name, array in outputs.items()})
        start = end
    return answers


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(inputs.values())))


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
