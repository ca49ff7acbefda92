"""How much may wait, and who gives way."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from serving.fair_queue import FairQueue, Held, Task
from serving.request_error import full


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
        """The tasks that must give way to a request; mostly none.

        Raises:
            RequestError: UNAVAILABLE if there is no room for it.
        """
        found: dict[Task, None] = {}
        for what, missing, most in self._shortages(caller, rows, elements):
            for task in reversed(most.tasks):
                if missing <= 0:
                    break
                found[task] = None
                missing -= getattr(task, what)
        return list(found)

    def require(self, caller: str) -> None:
        """Refuse a caller whose request of one string could not wait.

        Other threads may change the queue meanwhile: about right is enough.

        Raises:
            RequestError: UNAVAILABLE.
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
