"""Whose turn it is."""

from __future__ import annotations

import numpy as np
import pytest

from serving.fair_queue import FairQueue, Task, strings_of_a_row

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
