"""The batcher alone: what waits, what is computed together, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import grpc
import numpy as np
import pytest

from serving.batching import Batcher
from serving.metrics import Metrics
from serving.request_error import RequestError

pytestmark = pytest.mark.anyio

_FOREVER_MS = 3.6e6
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Model:
    """Doubles its input; told to hold, it computes only once it may.

    Attributes:
        batches: The rows of every batch, as lists.
        started: Released once per batch that is computed.
        may: Taken once per batch of a model that holds.
    """

    def __init__(self, holds: bool = False, error: type[Exception] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.may = threading.Semaphore(0 if holds else 1000)
        self.error = error

    def run(self, signature, inputs):
        self.batches.append(inputs[signature].tolist())
        self.started.release()
        self.may.acquire()
        if self.error is not None:
            raise self.error("broken")
        return {"twice": 2 * inputs[signature]}


@contextlib.asynccontextmanager
async def started(**changes):
    limits = {
        "max_batch_size": 4,
        "max_batch_elements": 1000,
        "timeout_ms": 0,
        "queue_rows": 100,
        "queue_elements": 5000,
        "num_threads": 1,
    }
    batcher = Batcher(**limits | changes, metrics=Metrics("shop"))
    try:
        yield batcher
    finally:
        await batcher.stop()


def ask(batcher, model, rows, signature="x"):
    """A request under way, in the queue."""
    request = batcher.run(model, signature, {signature: np.array(rows, np.int64)})
    return asyncio.ensure_future(request)


async def answers(*requests):
    async with asyncio.timeout(20):
        found = await asyncio.gather(*requests, return_exceptions=True)
    return [f if isinstance(f, BaseException) else f["twice"].tolist() for f in found]


async def computes(model):
    """Return once a model has begun with one more batch."""
    assert await asyncio.to_thread(model.started.acquire, timeout=20)


async def computing(batcher, model):
    """A request that a thread of the batcher is busy with."""
    request = ask(batcher, model, [0])
    await computes(model)
    return request


def code(error):
    assert isinstance(error, RequestError), error
    return error.code


async def test_what_waits_together_is_computed_together_and_everyone_gets_their_rows():
    async with started() as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        rows = [[1], [2, 3], [], [4, 5], [6]]
        requests = [ask(batcher, model, row) for row in rows]
        await asyncio.sleep(0)
        model.may.release(1000)
        assert await answers(busy, *requests) == [[0], [2], [4, 6], [], [8, 10], [12]]
        assert model.batches == [[0], [1, 2, 3], [6, 4, 5]]  # the shorter of one caller first


async def test_a_request_cut_into_parts_comes_back_in_order_whichever_thread_computes_them():
    async with started(num_threads=3) as batcher:
        model = Model()
        rows = list(range(30))
        [found] = await answers(ask(batcher, model, rows))
        assert found == [2 * row for row in rows]
        assert sorted(map(len, model.batches)) == [2] + [4] * 7


async def test_a_batch_is_computed_when_nothing_more_fits_however_long_others_may_wait():
    """Neither the wait of another signature nor the room that is left holds it up."""
    async with started(timeout_ms=_FOREVER_MS, num_threads=2) as batcher:
        model = Model(holds=True)
        waiting = ask(batcher, model, [1], signature="y")
        full = ask(batcher, model, [1, 2, 3, 4])
        await computes(model)
        too_large = [ask(batcher, model, rows) for rows in ([5, 6, 7], [8, 9])]
        await computes(model)
        model.may.release(1000)
        assert await answers(full, too_large[0]) == [[2, 4, 6, 8], [10, 12, 14]]
        assert model.batches == [[1, 2, 3, 4], [5, 6, 7]]
        assert not waiting.done() and not too_large[1].done()
    assert list(map(code, await answers(waiting, too_large[1]))) == [_UNAVAILABLE] * 2


async def test_two_keys_whose_time_has_come_are_computed_at_once():
    async with started(timeout_ms=1, num_threads=2) as batcher:
        model = Model(holds=True)
        requests = [ask(batcher, model, [1], signature=name) for name in "xy"]
        await computes(model)
        await computes(model)
        model.may.release(1000)
        assert await answers(*requests) == [[2], [2]]


async def test_what_nobody_waits_for_leaves_the_queue():
    async with started(queue_rows=4) as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        gone = ask(batcher, left := Model(), [1, 2, 3])
        [refused] = await answers(ask(batcher, model, [4, 5]))
        assert code(refused) == _UNAVAILABLE
        released = weakref.ref(left)
        del left
        gone.cancel()
        await asyncio.wait([gone])
        del gone
        assert released() is None
        cut = ask(batcher, model, [8, 9])
        model.may.release(1000)
        assert await answers(busy, cut) == [[0], [16, 18]]
        assert model.batches == [[0], [8, 9]]


async def test_a_full_queue_refuses_and_recovers_and_what_never_fits_is_invalid():
    async with started(queue_rows=6) as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        large = ask(batcher, model, range(1, 6))
        empty = ask(batcher, model, [])
        *refused, invalid = await answers(
            ask(batcher, model, [9]), ask(batcher, model, []), ask(batcher, model, range(7))
        )
        assert [code(error) for error in refused] == [_UNAVAILABLE] * 2
        assert code(invalid) == grpc.StatusCode.INVALID_ARGUMENT
        model.may.release(1000)
        assert await answers(busy, large, empty) == [[0], [2, 4, 6, 8, 10], []]
        assert await answers(ask(batcher, model, range(6))) == [[0, 2, 4, 6, 8, 10]]


async def test_strings_are_bounded_and_counted_beside_rows():
    async with started(max_batch_elements=6, queue_elements=20) as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)

        def wide(rows, width):
            array = np.zeros((rows, width), np.int64)
            return asyncio.ensure_future(batcher.run(model, "x", {"x": array}))

        cut = wide(6, 3)
        *invalid, refused = await answers(wide(1, 7), wide(7, 3), wide(1, 3))
        assert [code(error) for error in invalid] == [grpc.StatusCode.INVALID_ARGUMENT] * 2
        assert code(refused) == _UNAVAILABLE and 0.5 <= refused.retry_seconds <= 1.5
        model.may.release(1000)
        assert await answers(busy, cut) == [[0], [[0] * 3] * 6]
        assert [len(rows) for rows in model.batches] == [1, 2, 2, 2]


async def test_a_caller_who_fills_the_queue_gives_way_to_another():
    async with started(queue_rows=12) as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        first, last = (ask(batcher, model, [n] * 6) for n in (1, 2))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(batcher.run(model, "x", {"x": np.array([3])}, "other"))
        await asyncio.sleep(0)
        own = ask(batcher, model, [4] * 7)
        assert list(map(code, await answers(last, own))) == [_UNAVAILABLE] * 2
        model.may.release(1000)
        assert await answers(busy, first, other) == [[0], [2] * 6, [6]]


async def test_an_error_reaches_every_caller_of_its_batch_and_no_other():
    async with started() as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        broken = Model(error=ValueError)
        together = [ask(batcher, broken, [1]), ask(batcher, broken, [2])]
        in_parts = ask(batcher, broken, range(10))
        healthy = ask(batcher, model, [3])
        model.may.release(1000)
        *errors, first, last = await answers(*together, in_parts, busy, healthy)
        assert [str(error) for error in errors] == ["broken"] * 3
        assert [first, last] == [[0], [6]]
        assert await answers(ask(batcher, model, [4])) == [[8]]


async def test_stop_waits_for_the_batch_under_way_and_refuses_what_waits():
    async with started(max_batch_size=2) as batcher:
        model = Model(holds=True)
        busy = await computing(batcher, model)
        waiting = [ask(batcher, model, rows) for rows in ([1], range(5))]
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(batcher.stop())
        assert list(map(code, await answers(*waiting))) == [_UNAVAILABLE] * 2
        assert not stopping.done() and not busy.done()
        model.may.release(1000)
        assert await answers(busy) == [[0]]
        await stopping
        [late] = await answers(ask(batcher, model, [1]))
        assert code(late) == _UNAVAILABLE
        assert model.batches == [[0]]


@pytest.mark.parametrize("error", [None, ValueError], ids=["answered", "failed"])
@pytest.mark.parametrize("timeout_ms", [0, 5])
async def test_a_model_is_freed_with_its_last_call(error, timeout_ms):
    """By counts of references alone: the collector may come late, and a version is large."""

    gc.disable()
    try:
        async with started(timeout_ms=timeout_ms, num_threads=2) as batcher:
            model = Model(error=error)
            released = weakref.ref(model)
            for rows in ([1], range(10)):
                [found] = await answers(ask(batcher, model, rows))
                assert isinstance(found, ValueError if error else list)
            del model, found
            async with asyncio.timeout(20):
                while released() is not None:
                    await asyncio.sleep(0.001)
    finally:
        gc.enable()
