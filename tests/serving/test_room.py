"""Who gives way where a queue is full."""

from __future__ import annotations

import pytest

from serving.fair_queue import FairQueue, Task
from serving.request_error import RequestError
from serving.room import Room


@pytest.fixture
def queue():
    return FairQueue(max_batch_size=4, max_batch_elements=40)


@pytest.fixture
def room(queue):
    return Room(queue, rows=6, elements=60)


def wait(queue, caller, *names, rows=1, width=1):
    for name in names:
        queue.add(Task(name, "s", {}, "x", rows, width, caller, arrived=0.0, answer=None))


def names(tasks):
    return [task.model for task in tasks]


def test_one_caller_may_fill_the_queue_and_no_more(queue, room):
    wait(queue, "a", 1, 2, 3, 4, 5)
    assert room.find("a", 1, 1) == []
    wait(queue, "a", 6)
    with pytest.raises(RequestError, match="full"):
        room.find("a", 1, 1)


def test_who_holds_less_gets_the_last_places_of_who_holds_most(queue, room):
    wait(queue, "b", "x")
    wait(queue, "a", 1, 2, 3, 4, 5)
    assert names(room.find("c", 1, 1)) == [5]
    assert names(room.find("c", 2, 2)) == [5, 4]
    assert names(room.find("b", 1, 1)) == [5]
    for caller, rows in (("c", 3), ("b", 3), ("a", 1)):
        with pytest.raises(RequestError, match="full"):
            room.find(caller, rows, rows)


def test_equal_callers_displace_nobody(queue, room):
    for caller in "abcdef":
        wait(queue, caller, caller)
    for caller in "ag":
        with pytest.raises(RequestError, match="full"):
            room.find(caller, 1, 1)


def test_strings_are_places_too(queue, room):
    wait(queue, "a", 1, 2, width=15)
    wait(queue, "a", 3, width=29)
    assert room.find("b", 1, 1) == []
    assert names(room.find("b", 1, 20)) == [3]
    assert names(room.find("b", 1, 30)) == [3]
    with pytest.raises(RequestError, match="full"):
        room.find("b", 1, 31)


def test_a_caller_is_asked_before_a_request_is_read(queue, room):
    wait(queue, "b", "x")
    wait(queue, "a", 1, 2, 3, 4)
    room.require("a")
    wait(queue, "a", 5)
    with pytest.raises(RequestError, match="full"):
        room.require("a")
    for caller in "bc":
        room.require(caller)


def test_what_a_caller_held_is_forgotten(queue, room):
    wait(queue, "a", 1, 2, 3, 4, rows=2)
    while queue.take(1.0):
        pass
    assert (queue.held, queue.rows, queue.elements) == ({}, 0, 0)
    assert room.find("b", 6, 60) == []
