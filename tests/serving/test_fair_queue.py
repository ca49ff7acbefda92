"""Whose turn it is, and who gives way where a queue is full."""

from __future__ import annotations

import numpy as np
import pytest

from serving.fair_queue import FairQueue, Room, Task, strings_of_a_row
from serving.request_error import RequestError

SOON = 1.0
"""Every task of these tests has arrived before."""


def task(name, caller="a", rows=1, width=1, key="x"):
    return Task(name, "s", {}, key, rows, width, caller, arrived=0.0, answer=None)


@pytest.fixture
def queue():
    return FairQueue(max_batch_size=4, max_batch_elements=40)


def names(batch):
    return [task.model for task in batch]


def order(queue):
    """The batches until nothing waits."""
    found = []
    while batch := queue.take(SOON):
        found.append(names(batch))
    return found


def test_a_batch_is_bounded_in_rows_and_in_strings(queue):
    for name in "abcdef":
        queue.add(task(name))
    for name in "ghi":
        queue.add(task(name, width=20, key="y"))
    assert (queue.rows, queue.elements) == (9, 66)
    assert order(queue) == [["a", "b", "c", "d"], ["g", "h"], ["e", "f"], ["i"]]
    assert (queue.rows, queue.elements, bool(queue)) == (0, 0, False)
    assert [queue.rows_of_batch(width) for width in (1, 10, 11, 20, 40, 99)] == [4, 4, 3, 2, 1, 1]


@pytest.mark.parametrize("same", [True, False], ids=["one caller", "another caller"])
def test_a_short_request_waits_for_no_long_one_that_came_before(queue, same):
    for name in "ABCD":
        queue.add(task(name, rows=4, key="long"))
    queue.add(task("short", caller="a" if same else "b"))
    assert order(queue)[0] == ["short"]


def test_many_short_requests_of_one_caller_do_not_hold_up_another(queue):
    for number in range(20):
        queue.add(task(number))
    queue.add(task("other", caller="b"))
    assert "other" in order(queue)[0]


def test_a_long_request_has_its_turn_while_short_ones_keep_coming(queue):
    queue.add(task("long", rows=4, key="long"))
    found = []
    for number in range(40):
        queue.add(task(number, caller=str(number), key=number))
        found += names(queue.take(SOON))
        if "long" in found:
            break
    assert 0 < found.index("long") < 20


def test_two_callers_of_long_requests_take_turns(queue):
    for name in "ABC":
        queue.add(task(name, caller="a", rows=4))
    for name in "DEF":
        queue.add(task(name, caller="b", rows=4))
    assert order(queue) == [["A"], ["D"], ["B"], ["E"], ["C"], ["F"]]


def test_what_is_not_full_and_has_not_waited_stays(queue):
    early, late = task("early"), task("late", key="y")
    late.arrived = 5.0
    queue.add(late)
    queue.add(early)
    assert queue.oldest() == 0.0
    assert names(queue.take(before=1.0)) == ["early"]
    assert queue.take(before=1.0) == [] and queue.oldest() == 5.0
    queue.add(task("full", rows=4, key="y", caller="b"))
    assert names(queue.take(before=-1.0)) == ["late"]  # nothing more fits beside it
    assert names(queue.take(before=-1.0)) == ["full"]


def test_a_task_can_leave_from_anywhere(queue):
    tasks = [task(name, caller=name) for name in "abcde"]
    for one in tasks:
        queue.add(one)
    queue.remove(tasks[2])
    assert [one.waits for one in tasks] == [True, True, False, True, True]
    assert order(queue) == [["a", "b", "d", "e"]]


def test_strings_of_a_row_count_all_inputs_and_sizes_of_none():
    arrays = [np.empty((3, 7), object), np.empty((3, 0), object)]
    assert strings_of_a_row([array.shape for array in arrays]) == 8
    assert strings_of_a_row([(5,)]) == 1


@pytest.fixture
def room(queue):
    return Room(queue, rows=6, elements=60)


def wait(queue, caller, *names, rows=1, width=1):
    for name in names:
        queue.add(Task(name, "s", {}, "x", rows, width, caller, arrived=0.0, answer=None))


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
