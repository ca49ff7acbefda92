"""Checks of the interactions: who acted when, and on what side of the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import fsspec
import numpy as np
import pyarrow.parquet as pq

from kdsr_tf import splits
from kdsr_tf.artifacts import join
from kdsr_tf.evaluation.checks.finding import LEAK, NOTE, WARNING, Finding, finding
from kdsr_tf.evaluation.checks.interaction_log import Log

PAIRS_FILE = "pairs.parquet"


def check_histories(
    log: Log, directory: str, split: str, max_length: int, filter_seen: bool, as_positions: bool
) -> Iterator[Finding]:
    """Check the interactions of a log and, in `directory`, the teacher's pair sample.

    `as_positions` says whether `prepare` found that timestamps are positions.
    """
    yield from _users(log)
    yield from _times(log, split, as_positions or _times_are_positions(log))
    yield from _targets(log, filter_seen)
    yield _train_counts(log)
    yield _pair_sample(log, directory, max_length)


def _users(log: Log) -> Iterator[Finding]:
    total = len(log.user_ids)
    counts = Counter(log.user_ids)
    twice = [user for user, number in counts.items() if number > 1]
    yield finding(
        "users in several rows",
        LEAK,
        len(twice),
        total,
        "users",
        twice,
        "Each row was split by itself, so test of one row may be train of another. "
        "Run `kdsr prepare` again.",
    )
    spelt: dict[str, set[str]] = {}
    for user in counts:
        spelt.setdefault(user.strip().casefold(), set()).add(user)
    alike = [sorted(group) for group in spelt.values() if len(group) > 1]
    yield finding(
        "user ids that differ in case or spaces only",
        WARNING,
        sum(map(len, alike)),
        total,
        "users",
        map(" = ".join, alike),
        "They may be one person, split over train and test. Unify the ids in the source.",
    )
    groups: dict[bytes, list[int]] = {}
    for row in range(total):
        groups.setdefault(log.sequence(row).tobytes(), []).append(row)
    same = [rows for rows in groups.values() if len(rows) > 1]
    yield finding(
        "users with identical histories",
        WARNING,
        sum(map(len, same)),
        total,
        "users",
        (" = ".join(log.user_ids[row] for row in rows[:3]) for rows in same),
        "Copies of one person, or robots: their test points are partly known from the others. "
        "Remove copies from the source.",
    )


def _times(log: Log, split: str, as_positions: bool) -> Iterator[Finding]:
    total = len(log.user_ids)
    same_user = log.users[1:] == log.users[:-1]
    backwards = 1 + np.flatnonzero(same_user & (np.diff(log.times) < 0))
    crossing = _test_before_train(log)
    yield finding(
        "test interactions before train ones",
        LEAK,
        len(crossing),
        total,
        "users",
        (log.user_ids[row] for row in crossing),
        "The model learns from what happened after the test point. Run `kdsr prepare` again.",
    )
    unordered = np.setdiff1d(log.users[backwards], crossing)
    yield finding(
        "histories out of order",
        WARNING,
        len(unordered),
        total,
        "users",
        (log.user_ids[row] for row in unordered),
        "Times fall inside a history. Run `kdsr prepare` again.",
    )
    yield finding(
        "timestamps that are mere positions",
        NOTE,
        total if as_positions else 0,
        total,
        "users",
        (),
        "The order within a user is known, the order between users is not: "
        "prepare.split=global_time is refused.",
    )
    boundary = log.starts[:-1] + log.num_train
    has_both = (log.num_train > 0) & (log.num_train < log.lengths)
    first_test = boundary[has_both]
    tied = first_test[log.times[first_test] == log.times[first_test - 1]]
    yield finding(
        "train and test at the same moment",
        NOTE,
        len(tied),
        total,
        "users",
        map(log.point, tied),
        "Which of equally timed interactions is test follows their order in the file. "
        "Bring finer timestamps.",
    )
    if not as_positions:
        yield _older_than_train(log, split)


def _older_than_train(log: Log, split: str) -> Finding:
    newest = log.times[log.in_train].max(initial=np.iinfo(np.int64).min)
    early = np.flatnonzero(log.is_test_point & (log.times < newest))
    return finding(
        "test points older than the newest train interaction",
        LEAK if split == "global_time" else NOTE,
        len(early),
        log.is_test_point.sum(),
        "test points",
        map(log.point, early),
        "Other users' later behaviour is in train. Every split per user has it; "
        "prepare.split=global_time must not.",
    )


def _test_before_train(log: Log) -> np.ndarray:
    """Rows of users with a test interaction older than one of train."""
    newest = np.full(len(log.user_ids), np.iinfo(np.int64).min)
    oldest = np.full(len(log.user_ids), np.iinfo(np.int64).max)
    np.maximum.at(newest, log.users[log.in_train], log.times[log.in_train])
    np.minimum.at(oldest, log.users[~log.in_train], log.times[~log.in_train])
    return np.flatnonzero(oldest < newest)


def _times_are_positions(log: Log) -> bool:
    last = np.zeros(len(log.user_ids), np.int64)
    np.maximum.at(last, log.users, log.times)
    return splits.are_positions(last, log.lengths)


def _targets(log: Log, filter_seen: bool) -> Iterator[Finding]:
    total = len(log.items)
    same_user = log.users[1:] == log.users[:-1]
    repeated = 1 + np.flatnonzero(same_user & (log.items[1:] == log.items[:-1]))
    yield finding(
        "same item twice in a row",
        WARNING,
        len(repeated),
        total,
        "interactions",
        map(log.point, repeated),
        "Repeating the last item becomes a good guess. Reloads and double clicks belong out of "
        "the source.",
    )
    order = np.lexsort((log.positions, log.items, log.users))
    users, items = log.users[order], log.items[order]
    again = np.zeros(total, bool)
    again[order[1:]] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    num_points = log.is_test_point.sum()
    seen = np.flatnonzero(again & log.is_test_point)
    yield finding(
        "test targets the user has had before",
        WARNING if filter_seen else NOTE,
        len(seen),
        num_points,
        "test points",
        map(log.point, seen),
        "evaluate.filter_seen=true and the served model leave such items out, so these points "
        "cannot be hit there.",
    )
    trained = np.bincount(log.items[log.in_train], minlength=log.num_items + 1) > 0
    cold = np.flatnonzero(log.is_test_point & ~trained[log.items])
    yield finding(
        "test targets that are never in train",
        NOTE,
        len(cold),
        num_points,
        "test points",
        (log.item(item) for item in np.unique(log.items[cold])),
        "Only their modalities can tell of them; see the slice target_training.",
    )


def _train_counts(log: Log) -> Finding:
    actual = np.bincount(log.items[log.in_train], minlength=log.num_items + 1)
    wrong = np.flatnonzero(actual != log.train_counts)
    return finding(
        "item popularity not from train alone",
        LEAK,
        len(wrong),
        log.num_items,
        "items",
        (f"{log.item(k)}: {log.train_counts[k]} instead of {actual[k]}" for k in wrong),
        "train_count of items.parquet counts other interactions. Run `kdsr prepare` again.",
    )


def _pair_sample(log: Log, directory: str, max_length: int) -> Finding:
    with fsspec.open(join(directory, PAIRS_FILE), "rb") as file:
        table = pq.read_table(file)
    first, second = (table[name].to_numpy().astype(np.int64) for name in ("first", "second"))
    keys = first << 32 | second
    unfound = np.unique(keys)
    items, users = log.items[log.in_train].astype(np.int64), log.users[log.in_train]
    for distance in range(1, max_length):
        together = users[distance:] == users[:-distance]
        if not (together.any() and len(unfound)):
            break
        earlier, later = items[:-distance][together], items[distance:][together]
        occur = np.minimum(earlier, later) << 32 | np.maximum(earlier, later)
        places = np.minimum(np.searchsorted(unfound, occur), len(unfound) - 1)
        unfound = np.delete(unfound, places[unfound[places] == occur])
    return finding(
        "teacher's pairs that are in no train history",
        LEAK,
        len(unfound),
        len(keys),
        "pairs",
        (f"{log.item(key >> 32)} + {log.item(key & 0xFFFFFFFF)}" for key in unfound.tolist()),
        "The teacher has seen test interactions. Run `kdsr prepare` again.",
    )
