"""Splits, k-core and windows against values a reader can check."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf import splits


@pytest.mark.parametrize(
    ("length", "fraction", "train"),
    [(1, 0.2, 1), (4, 0.2, 4), (5, 0.2, 4), (14, 0.2, 12), (100, 0.29, 71), (10, 0.0, 10)],
)
def test_ratio_takes_the_exact_floor(length, fraction, train):
    assert splits.num_train_ratio(length, fraction) == train


def test_leave_last_out_keeps_a_single_interaction_in_train():
    assert [splits.num_train_leave_last_out(n) for n in (0, 1, 2, 5)] == [0, 1, 1, 4]


def test_global_time_divides_all_users_at_one_moment():
    times = np.array([10, 20, 30, 40, 50])
    moment = splits.first_test_time(times[::-1], 0.4)
    assert moment == 40
    assert splits.num_train_global_time(times, moment) == 3
    assert splits.num_train_global_time(np.array([41, 60]), moment) == 0
    assert splits.first_test_time(times, 0.0) == 51
    last = np.array([1, 2**63 - 1])
    assert splits.num_train_global_time(last, splits.first_test_time(last, 0.0)) == 2


@pytest.mark.parametrize("first", [0, 1])
def test_positions_stay_positions_with_gaps(first):
    counts = np.array([5, 2, 9])
    assert splits.are_positions(counts - 1 + first, counts)
    # Each user lost interactions: the last of 5, 2 and 9 are 6, 3 and 14.
    assert splits.are_positions(np.array([6, 3, 14]) + first, counts)


@pytest.mark.parametrize(
    ("last", "counts"),
    [
        ([364, 200, 31], [5, 2, 9]),  # days of a year
        ([3, 3, 3], [7, 2, 8]),  # several on a day
        ([0, 0], [4, 2]),  # no time is known
        ([978300760, 978300761], [978300760, 2]),  # seconds
        ([], []),
    ],
)
def test_other_numbers_are_no_positions(last, counts):
    assert not splits.are_positions(np.array(last, np.int64), np.array(counts, np.int64))


def test_k_core_reaches_the_fixed_point_in_several_rounds():
    # Item 2 has one interaction; without it user 1 has one; without user 1
    # item 1 has one; then user 0 and item 0 keep only their pair with user 2.
    users = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    items = np.array([0, 1, 1, 2, 3, 4, 3, 4])
    kept = splits.k_core(users, items, 2)
    assert kept.tolist() == [False] * 4 + [True] * 4
    assert splits.k_core(users, items, 0).all()
    assert splits.k_core(users[:0], items[:0], 2).shape == (0,)


def test_k_core_agrees_with_removing_one_interaction_at_a_time():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 40, 200), rng.integers(0, 30, 200)
    edges = set(range(200))
    while True:
        weak = [
            e
            for e in edges
            if sum(users[o] == users[e] for o in edges) < 4
            or sum(items[o] == items[e] for o in edges) < 4
        ]
        if not weak:
            break
        edges.discard(weak[0])
    assert 0 < len(edges) < 200
    assert set(np.flatnonzero(splits.k_core(users, items, 4)).tolist()) == edges


@pytest.mark.parametrize(("max_length", "stride"), [(50, 25), (7, 7), (5, 1), (1, 1), (6, 4)])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7, 8, 49, 50, 51, 75, 76, 130])
def test_every_target_has_its_loss_once_in_the_earliest_window_with_context(
    count, max_length, stride
):
    windows = splits.training_windows(count, max_length, stride)
    seen = []
    for index, (start, stop, first_loss) in enumerate(windows):
        assert 0 < stop - start <= max_length
        for position in range(start + first_loss, stop):
            seen.append(position)
            enough = [
                earlier
                for earlier in windows[: index + 1]
                if earlier.start <= position < earlier.stop
                and (earlier.start == 0 or position + 1 - earlier.start >= max_length - stride)
            ]
            assert enough[0].start == start
    assert seen == list(range(count))


def test_windows_refuse_a_stride_that_would_skip_targets():
    with pytest.raises(ValueError, match="stride"):
        splits.training_windows(10, max_length=4, stride=5)


def test_context_lost_by_hand():
    # max_length 4, stride 2: of 7 targets, those at 4 and 6 see 3 items of 4.
    assert splits.context_lost(7, 4, 2) == 2
    assert splits.context_lost(4, 4, 2) == 0


def test_validation_is_held_out_of_training():
    assert [splits.num_inputs(n) for n in (0, 1, 2, 3, 10)] == [0, 0, 1, 1, 8]


def test_every_test_interaction_with_a_history_is_a_point():
    assert list(splits.evaluation_positions(5, 4)) == [4]
    assert list(splits.evaluation_positions(3, 0)) == [1, 2]
    assert splits.evaluation_span(120, 50) == (70, 120)
    assert splits.evaluation_span(3, 50) == (0, 3)
