"""Requests that wait together are computed together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np

from kdsr_tf import schema
from serving.fair_queue import FairQueue, Room, Task, strings_of_a_row
from serving.metrics import Metrics
from serving.model import ServableModel
from serving.request_error import full, invalid, unavailable

_SHORT_HISTORY = 255
_NICENESS = 5


class Batcher:
    """Computes requests on a few threads, those that fit together in one batch.

    What fits: the same version and signature, and inputs of equal shape but for the rows
    and the length of histories, which are padded with "" (ignored by the model). Histories
    above 255 items share a batch with their like only, so that one of them does not
    lengthen all others by more than twice. A request with more rows than a batch is cut.
    A request whose caller has gone is not computed. The order is that of `FairQueue`.

    It belongs to the event loop it is started in; its threads take batches from a queue and hand
    the answers back to that loop.

    Args:
        max_batch_size: Rows computed at once, >= 1.
        timeout_ms: Longest wait of a request for others to fill its batch, in
            milliseconds, >= 0. With 0 a batch is what came while others were computed.
        max_batch_elements: Strings computed at once, >= 1; the longest row.
        queue_rows: Rows that may wait, >= 1; more are refused.
        queue_elements: Strings that may wait, >= 1; more are refused.
        num_threads: Batches computed at once, >= 1.
        metrics: Told the size of batches and of the queue.
    """

    def __init__(
        self,
        max_batch_size: int,
        max_batch_elements: int,
        timeout_ms: float,
        queue_rows: int,
        queue_elements: int,
        num_threads: int,
        metrics: Metrics,
    ) -> None:
        self._max_batch_elements = max_batch_elements
        self._timeout_seconds = timeout_ms / 1e3
        self._queue_rows = queue_rows
        self._queue_elements = queue_elements
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue(max_batch_size, max_batch_elements)
        self._room = Room(self._queue, queue_rows, queue_elements)
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch_{number}", daemon=True)
            for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def require_room(self, caller: str = "") -> None:
        """Refuse, as UNAVAILABLE, a caller whose request of one string could not wait."""
        self._room.require(caller)

    async def run(
        self,
        model: ServableModel,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        caller: str = "",
    ) -> dict[str, np.ndarray]:
        """The outputs of a request that was checked.

        Raises:
            RequestError: UNAVAILABLE if the queue is full or has been stopped,
                INVALID_ARGUMENT if the request could not wait even in an empty one, or
                TensorFlow's own status.
        """
        rows = _rows(inputs)
        width = strings_of_a_row([array.shape for array in inputs.values()])
        self._check_size(rows, width)
        most = self._queue.rows_of_batch(width)
        tasks = [
            _task(
                model,
                signature,
                {name: a[start : start + most] for name, a in inputs.items()},
                width,
                caller,
            )
            for start in range(0, max(rows, 1), most)
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
            waiting = list(self._queue)
            self._remove(waiting)
            self._changed.notify_all()
        _fail(waiting, unavailable("The server is stopping."))
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _check_size(self, rows: int, width: int) -> None:
        if rows > self._queue_rows:
            raise invalid(
                f"Task size {rows} is larger than maximum input batch size {self._queue_rows}"
            )
        if width > self._max_batch_elements:
            raise invalid(
                f"A row has {width} strings; at most {self._max_batch_elements} are taken."
            )
        if rows * width > self._queue_elements:
            raise invalid(
                f"The request has {rows * width} strings; at most {self._queue_elements} are taken."
            )

    def _enter(self, tasks: Sequence[Task]) -> None:
        rows = sum(task.rows for task in tasks)
        elements = sum(task.elements for task in tasks)
        with self._changed:
            if self._stopped:
                raise unavailable("The server is stopping.")
            displaced = self._room.find(tasks[0].caller, rows, elements)
            self._remove(displaced)
            for task in tasks:
                self._queue.add(task)
            self._tell_size()
            self._changed.notify()
        for task in displaced:
            _fail([task], full())

    def _abandon(self, tasks: Sequence[Task]) -> None:
        with self._changed:
            self._remove([task for task in tasks if task.waits])
        for task in tasks:
            task.answer.cancel()

    def _remove(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._queue.remove(task)
        self._tell_size()

    def _tell_size(self) -> None:
        self._metrics.queue_rows.set(self._queue.rows)
        self._metrics.queue_elements.set(self._queue.elements)

    def _work(self) -> None:
        _yield_to_the_event_loop()
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

    def _next_batch(self) -> list[Task]:
        """What to compute next, as soon as there is something; empty at the end."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if batch := self._queue.take(now - self._timeout_seconds):
                    self._tell_size()
                    self._metrics.batch_rows.observe(sum(task.rows for task in batch))
                    if self._queue:
                        self._changed.notify()
                    return batch
                self._changed.wait(
                    self._queue.oldest() + self._timeout_seconds - now if self._queue else None
                )
        return []


def _yield_to_the_event_loop() -> None:
    """Lower the priority of this thread.

    The event loop answers what the queue has no room for. If computing took its processor,
    calls would wait unseen before the queue, where nothing can refuse them.
    """
    if sys.platform == "linux":  # elsewhere it would be the priority of the process
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _task(
    model: ServableModel,
    signature: str,
    inputs: dict[str, np.ndarray],
    width: int,
    caller: str,
) -> Task:
    shapes = {name: array.shape[1:] for name, array in inputs.items()}
    if schema.HISTORY in shapes:
        shapes[schema.HISTORY] = max(shapes[schema.HISTORY][0], _SHORT_HISTORY).bit_length()
    return Task(
        model,
        signature,
        inputs,
        key=(id(model), signature, tuple(sorted(shapes.items()))),
        rows=max(_rows(inputs), 1),
        width=width,
        caller=caller,
        arrived=time.monotonic(),
        answer=asyncio.get_running_loop().create_future(),
    )


def _answer(batch: list[Task], answers: list[dict[str, np.ndarray]]) -> None:
    for task, answer in zip(batch, answers, strict=True):
        if not task.answer.done():
            task.answer.set_result(answer)


def _fail(batch: list[Task], error: Exception) -> None:
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
