"""Who is refused for being at the limit of its connection."""

from __future__ import annotations

import contextlib

import pytest

from serving.crowding import Crowding
from serving.request_error import RequestError


@pytest.fixture
def crowding():
    return Crowding(32, patience=5)


def end(crowding, calls):
    for _ in range(calls):
        with crowding.call("another"):
            pass


def refused(crowding, caller):
    try:
        crowding.require_room(caller)
    except RequestError:
        return True
    return False


def test_what_python_does_not_know_is_unread(crowding):
    assert crowding.look(5, now=0.0) == 5
    with crowding.call("a"), crowding.call("b"):
        assert crowding.look(5, now=0.0) == 3
        assert crowding.look(1, now=0.0) == 0  # gRPC counts one that has ended no more
    assert crowding.look(5, now=0.0) == 5


def test_only_who_is_at_the_limit_for_long_is_refused_beyond_a_part_of_it(crowding):
    with contextlib.ExitStack() as calls:
        for _ in range(3):
            calls.enter_context(crowding.call("a"))
        calls.enter_context(crowding.call("b"))
        for now in (10.0, 11.0, 11.9):
            crowding.look(33, now)  # 3 of a and 29 unread
            assert not refused(crowding, "a")
            end(crowding, calls=2 if now < 11.9 else 1)
        assert refused(crowding, "a") and not refused(crowding, "b")
    calls.enter_context(crowding.call("a"))
    assert not refused(crowding, "a")


@pytest.mark.parametrize(("pause", "is_refused"), [(0.5, True), (0.6, False)])
def test_a_moment_below_the_limit_changes_nothing_and_a_pause_does(crowding, pause, is_refused):
    with crowding.call("a"), crowding.call("a"), crowding.call("a"):
        crowding.look(32, 10.0)
        end(crowding, calls=5)
        for now, received in ((12.0, 32), (12.0 + pause, 31), (12.7, 32)):
            crowding.look(received, now)
        assert refused(crowding, "a") == is_refused


def test_a_slow_machine_refuses_after_a_time(crowding):
    with crowding.call("a"), crowding.call("a"), crowding.call("a"):
        for now in (10.0, 14.9):
            crowding.look(32, now)
            assert not refused(crowding, "a")
        crowding.look(32, 15.0)
        assert refused(crowding, "a")


def test_calls_of_all_together_are_no_crowd(crowding):
    with contextlib.ExitStack() as calls:
        for caller in "abcd":
            for _ in range(4):
                calls.enter_context(crowding.call(caller))
        crowding.look(16 + 27, 10.0)
        end(crowding, calls=9)
        assert not any(refused(crowding, caller) for caller in "abcd")
