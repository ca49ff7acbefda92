"""Requests that wait: the order, in which no caller can hold up another, and who gives way."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import itertools
import math
import operator
from collections import Counter
from collections.abc import Collection, Hashable, Iterator

import numpy as np

from serving.model import ServableModel
from serving.request_error import full


@dataclasses.dataclass(eq=False)
class Task:
    """At most a batch of rows of one request; inputs are object arrays of bytes.

    Tasks of one `key` can share a batch. `rows` and `width`, the strings of a row, are at least 1:
    an empty request takes a place too. `arrived` is in seconds. The rest is the queue's business:
    whether the task `waits` there, its `flow`, what it shares its caller's batches with, and its
    `turn` in the order.
    """

    model: ServableModel
    signature: str
    inputs: dict[str, np.ndarray]
    key: Hashable
    rows: int
    width: int
    caller: str
    arrived: float
    answer: asyncio.Future
    waits: bool = False
    flow: Hashable = None
    turn: tuple[float, int] = (0.0, 0)

    @property
    def elements(self) -> int:
        """Strings of all rows."""
        return self.rows * self.width


@dataclasses.dataclass
class Held:
    """What one caller has waiting: rows and strings, and its tasks in the order they came."""

    rows: int = 0
    elements: int = 0
    tasks: dict[Task, None] = dataclasses.field(default_factory=dict)


class FairQueue:
    """Tasks by key; those of a key are in the order of their turns.

    It is weighted fair queueing. Every caller gets an equal share of the batches: a task's
    turn is the time at which it would be done if all callers were computed side by side. So
    a caller who sends one short request waits for the batches under way, and not for what
    another caller has sent before. Short and long requests of one caller are told apart in
    the same way, because a proxy sends those of many people.

    `rows` and `elements`, strings, are those of all tasks; `held` has what waits, by caller, and no
    caller without tasks.
    """

    def __init__(self, max_batch_size: int, max_batch_elements: int) -> None:
        self._max_batch_size = max_batch_size
        self._max_batch_elements = max_batch_elements
        # A key without tasks is absent.
        self._tasks: dict[Hashable, list[tuple[tuple[float, int], Task]]] = {}
        self._now = 0.0
        self._numbers = itertools.count()
        self._ends: dict[Hashable, float] = {}
        self._waiting: Counter[Hashable] = Counter()
        self.rows = 0
        self.elements = 0
        self.held: dict[str, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return (task for tasks in self._tasks.values() for _, task in tasks)

    def rows_of_batch(self, width: int) -> int:
        """Most rows of a width that are computed at once."""
        return max(1, min(self._max_batch_size, self._max_batch_elements // width))

    def add(self, task: Task) -> None:
        """Give a task its turn."""
        cost = self._cost(task)
        task.flow = task.caller, math.frexp(cost)[1]
        end = max(self._now, self._ends.get(task.flow, 0.0)) + cost
        task.turn = end, next(self._numbers)
        self._ends[task.flow] = end
        self._waiting[task.flow] += 1
        task.waits = True
        bisect.insort(self._tasks.setdefault(task.key, []), (task.turn, task))
        held = self.held.setdefault(task.caller, Held())
        held.tasks[task] = None
        self._count(held, task, 1)

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it is."""
        tasks = self._tasks[task.key]
        del tasks[bisect.bisect_left(tasks, (task.turn,))]
        if not tasks:
            del self._tasks[task.key]
        task.waits = False
        self._waiting[task.flow] -= 1
        if not self._waiting[task.flow]:
            del self._waiting[task.flow], self._ends[task.flow]
        held = self.held[task.caller]
        del held.tasks[task]
        self._count(held, task, -1)
        if not held.tasks:
            del self.held[task.caller]

    def take(self, before: float) -> list[Task]:
        """The next batch: of what is full, or has waited since `before`; empty if none is."""
        batches = [
            batch
            for key, (batch, full) in ((key, self._batch(key)) for key in self._tasks)
            if full or self._oldest(key) <= before
        ]
        if not batches:
            return []
        batch = min(batches, key=lambda tasks: tasks[0].turn)
        self._now += sum(map(self._cost, batch)) / len(self._waiting)
        for task in batch:
            self.remove(task)
        return batch

    def oldest(self) -> float:
        """When the task that has waited longest arrived; there must be one."""
        return min(map(self._oldest, self._tasks))

    def _count(self, held: Held, task: Task, sign: int) -> None:
        for counts in (self, held):
            counts.rows += sign * task.rows
            counts.elements += sign * task.elements

    def _oldest(self, key: Hashable) -> float:
        return min(task.arrived for _, task in self._tasks[key])

    def _batch(self, key: Hashable) -> tuple[list[Task], bool]:
        """The first tasks of a key that fit together, and whether that is a full batch."""
        batch: list[Task] = []
        rows = width = 0
        for _, task in self._tasks[key]:
            rows, width = rows + task.rows, max(width, task.width)
            if batch and rows > self.rows_of_batch(width):
                return batch, True
            batch.append(task)
        return batch, rows >= self.rows_of_batch(width)

    def _cost(self, task: Task) -> float:
        """Share of a batch."""
        return max(task.rows / self._max_batch_size, task.elements / self._max_batch_elements)


def strings_of_a_row(shapes: Collection[tuple[int, ...]]) -> int:
    """Strings of a row of all inputs; a size of 0 counts as 1, because others are padded to it."""
    return max(1, sum(math.prod(max(size, 1) for size in shape[1:]) for shape in shapes))


class Room:
    """Places of a queue: how many rows and strings may wait, each >= 1.

    One caller may fill it, so that none is wasted. When it is full, a caller who would not hold
    more than the one who holds most afterwards gets places of that one, the last first. So a
    heavy caller cannot shut out the others.
    """

    def __init__(self, queue: FairQueue, rows: int, elements: int) -> None:
        self._queue = queue
        self._limits = {"rows": rows, "elements": elements}

    def find(self, caller: str, rows: int, elements: int) -> list[Task]:
        """The tasks that must give way to a request, mostly none; UNAVAILABLE without room."""
        found: dict[Task, None] = {}
        for what, missing, most in self._shortages(caller, rows, elements):
            for task in reversed(most.tasks):
                if missing <= 0:
                    break
                found[task] = None
                missing -= getattr(task, what)
        return list(found)

    def require(self, caller: str) -> None:
        """Refuse, as UNAVAILABLE, a caller whose request of one string could not wait.

        Other threads may change the queue meanwhile: about right is enough.
        """
        for _ in self._shortages(caller, 1, 1):
            pass

    def _shortages(self, caller: str, rows: int, elements: int) -> Iterator[tuple[str, int, Held]]:
        """What there is too little of, how much is missing, and who holds most of it."""
        queue, wanted = self._queue, {"rows": rows, "elements": elements}
        own = queue.held.get(caller, Held())
        for what, limit in self._limits.items():
            missing = getattr(queue, what) + wanted[what] - limit
            if missing > 0:
                size = operator.attrgetter(what)
                most = max(list(queue.held.values()), key=size, default=own)
                if size(most) - missing < size(own) + wanted[what]:
                    raise full()
                yield what, missing, most
