"""Each planted fault is found by its check, and by no other leak check; clean data is clean."""

from __future__ import annotations

import itertools
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf import artifacts, schema, stages
from kdsr_tf.config import load_config
from kdsr_tf.evaluation.checks.finding import LEAK, NOTE, OK, WARNING
from kdsr_tf.evaluation.checks.run_checks import check
from tests import factories

NUM_ITEMS, NUM_USERS = 40, 60


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A working directory in which every user has every item at most once."""
    config = load_config(
        overrides=[
            "encode.text={}",
            "model.dim=16",
            "teach.num_codes=12",
            "windows.max_length=12",
            "windows.stride=6",
        ],
        workdir=str(tmp_path_factory.mktemp("clean")),
    )
    factories.write_sequences(config, NUM_ITEMS, NUM_USERS)
    rng = np.random.default_rng(5)
    with factories.editing(config, "sequences") as target:
        rows = _read(target)
        for row in rows:
            row["items"] = (1 + rng.permutation(NUM_ITEMS)[: len(row["items"])]).tolist()
        _rewrite(target, rows)
    factories.write_features(config, "text")
    factories.write_teacher(config, "text")
    factories.write_examples(config)
    return config


@pytest.fixture
def workdir(clean, tmp_path):
    """A copy to plant a fault in."""
    shutil.copytree(clean.workdir, tmp_path, dirs_exist_ok=True)
    return clean.model_copy(update={"workdir": str(tmp_path)})


def found_by(config, **options):
    findings, _ = check(config, **options)
    return {one.check: one for one in findings if one.severity != OK}


CLEAN = {"items without text", "test points older than the newest train interaction"}
"""True of the clean data too: a tenth of the items has no text; the split is per user."""


def test_clean_data_has_no_fault(clean):
    findings, skipped = check(clean)
    assert skipped == []
    assert {one.check for one in findings if one.severity != OK} == CLEAN
    assert len(findings) == 25
    clean = clean.model_copy(deep=True)
    clean.windows.max_length = 2  # not what the sequences were made with
    assert check(clean)[0] == findings


def test_only_what_exists_is_checked(workdir):
    shutil.rmtree(stages.location(workdir, "features/text"))
    manifest = artifacts.read_manifest(stages.location(workdir, "examples"), written_by="distill")
    manifest.inputs["sequences"] = "another"
    with artifacts.committing(stages.location(workdir, "examples"), manifest):
        pass
    findings, skipped = check(workdir)
    assert skipped == [
        "features/text does not exist yet (kdsr encode)",
        "examples was made from other sequences and will be made again",
    ]
    assert all("text" not in one.check and "window" not in one.check for one in findings)


def _two_rows_of_one_user(rows):
    rows[1]["user_id"] = rows[0]["user_id"]


def _another_spelling(rows):
    rows[1]["user_id"] = rows[0]["user_id"].upper()


def _a_copied_user(rows):
    rows[1] |= {key: rows[0][key] for key in ("items", "timestamps", "num_train")}


def _an_early_test(rows):
    rows[_tested(rows)]["timestamps"][-1] = 1


def _unordered(rows):
    times = rows[0]["timestamps"]
    times[0], times[1] = times[1], times[0]


def _positions(rows):
    for row in rows:
        row["timestamps"] = list(range(len(row["items"])))


def _tied(rows):
    row = rows[_tested(rows)]
    row["timestamps"][row["num_train"]] = row["timestamps"][row["num_train"] - 1]


def _twice(rows):
    rows[0]["items"][1] = rows[0]["items"][0]


def _repeated_target(rows):
    row = rows[_tested(rows)]
    row["items"][-1] = row["items"][0]


def _tested(rows):
    """A user with a test interaction and enough before it."""
    return next(k for k, row in enumerate(rows) if 5 <= row["num_train"] < len(row["items"]))


@pytest.mark.parametrize(
    ("plant", "name", "severity", "count"),
    [
        (_two_rows_of_one_user, "users in several rows", LEAK, 1),
        (_another_spelling, "user ids that differ in case or spaces only", WARNING, 2),
        (_a_copied_user, "users with identical histories", WARNING, 2),
        (_an_early_test, "test interactions before train ones", LEAK, 1),
        (_unordered, "histories out of order", WARNING, 1),
        (_positions, "timestamps that are mere positions", NOTE, NUM_USERS),
        (_tied, "train and test at the same moment", NOTE, 1),
        (_twice, "same item twice in a row", WARNING, 1),
        (_repeated_target, "test targets the user has had before", NOTE, 1),
    ],
)
def test_a_fault_in_the_interactions_is_found(workdir, plant, name, severity, count):
    shutil.rmtree(stages.location(workdir, "examples"))
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        plant(rows)
        _rewrite(target, rows)
    found = found_by(workdir)
    assert (found[name].severity, found[name].count) == (severity, count)
    assert found.keys() - CLEAN == {name}


def test_targets_never_in_train_are_cold(workdir):
    shutil.rmtree(stages.location(workdir, "examples"))
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        cold = rows[_tested(rows)]["items"][-1]
        spare = next(k for k in range(1, NUM_ITEMS + 1) if k != cold)
        for row in rows:
            row["items"] = [
                spare if item == cold and place < row["num_train"] else item
                for place, item in enumerate(row["items"])
            ]
        points = sum(item == cold for row in rows for item in row["items"])
        _rewrite(target, rows)
    found = found_by(workdir)["test targets that are never in train"]
    assert (found.count, found.examples) == (points, (f"item{cold:04d} (Item {cold})",))


def test_popularity_that_counts_test_interactions_leaks(workdir):
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        _count(target, [row | {"num_train": len(row["items"])} for row in rows])
        tested = {item for row in rows for item in row["items"][row["num_train"] :]}
    found = found_by(workdir)
    assert found.keys() - CLEAN == {"item popularity not from train alone"}
    assert found["item popularity not from train alone"].severity == LEAK
    assert found["item popularity not from train alone"].count == len(tested)


def test_a_teachers_pair_of_test_items_leaks(workdir):
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        tested = (tuple(sorted((row["items"][0], row["items"][-1]))) for row in rows)
        first, second = next(pair for pair in tested if pair not in _train_pairs(rows))
        _sample(target, rows, (first, second))
    found = found_by(workdir)
    name = "teacher's pairs that are in no train history"
    assert found.keys() - CLEAN == {name}
    assert (found[name].severity, found[name].count) == (LEAK, 1)
    assert found[name].examples == (
        f"item{first:04d} (Item {first}) + item{second:04d} (Item {second})",
    )


def test_items_that_look_alike_are_found(workdir):
    users = _read(stages.location(workdir, "sequences"))
    with factories.editing(workdir, "features/text") as target:
        path = os.path.join(target, "vectors-00000-of-00001.parquet")
        table = pq.read_table(path)
        rows = {row["item"]: row for row in table.to_pylist()}
        tested = [row["items"] for row in users if row["num_train"] < len(row["items"])]
        first, *_, last = next(u for u in tested if u[0] in rows and u[-1] in rows)
        rows[last] |= {key: rows[first][key] for key in ("content", "vector")}
        near, far, zero = sorted(rows.keys() - {first, last})[:3]
        rows[near]["vector"] = [1.001 * value for value in rows[far]["vector"]]
        rows[zero]["vector"] = [0.0] * len(rows[zero]["vector"])
        pq.write_table(pa.Table.from_pylist(list(rows.values()), table.schema), path)
    found = found_by(workdir)
    assert found["items with the same text"].count == 2
    assert found["near-duplicates by text (cosine from 0.98)"].count == 2
    assert found["text vectors that say nothing"].count == 1
    points = sum(
        {row["items"][place], *row["items"][:place]} >= {first, last}
        and row["items"][place] in (first, last)
        for row in users
        for place in range(row["num_train"], len(row["items"]))
    )
    name = "test targets whose text is that of an item in the history"
    assert found[name].count == points > 0


def test_equal_titles_are_found(workdir):
    with factories.editing(workdir, "sequences") as target:
        path = os.path.join(target, "items.parquet")
        table = pq.read_table(path)
        titles = ["Item 2 ", "item 2", *table["title"].to_pylist()[2:]]
        pq.write_table(table.set_column(2, "title", [titles]), path)
    assert found_by(workdir)["items with the same title"].count == 2


def test_titles_with_html_entities_are_found(workdir):
    assert "titles with HTML entities" not in found_by(workdir)
    with factories.editing(workdir, "sequences") as target:
        path = os.path.join(target, "items.parquet")
        table = pq.read_table(path)
        titles = ["Salt &amp; Pepper", "5&#39;", "R&D; 1 & 2", *table["title"].to_pylist()[3:]]
        pq.write_table(table.set_column(2, "title", [titles]), path)
    found = found_by(workdir)["titles with HTML entities"]
    assert (found.severity, found.count, found.total) == ("warning", 2, len(titles))
    assert "Salt &amp; Pepper" in found.examples[0] and "--unescape-html" in found.meaning


@pytest.mark.parametrize(
    ("split", "change", "leaks"),
    [
        # One more target: the validation item is learnt.
        (
            "train",
            lambda row, items, target: (row[: len(items) + 1], row[1 : len(items) + 2]),
            True,
        ),
        # A test item among the inputs.
        ("train", lambda row, items, target: ([*items[:-1], row[-1]], target), True),
        # The target stands in its own history.
        ("test", lambda row, items, target: ([*items[:-1], target[-1]], target), True),
        # A target that was trained on.
        ("test", lambda row, items, target: (row[:2], [0, row[2]]), True),
        ("validation", lambda row, items, target: (row[:2], [0, row[2]]), True),
        # Other records, but none that tells an answer.
        ("train", lambda row, items, target: ([items[1], items[0], *items[2:]], target), False),
    ],
)
def test_a_fault_in_the_windows_is_found(clean, split, change, leaks):
    from kdsr_tf.evaluation.checks.interaction_log import Log
    from kdsr_tf.evaluation.checks.window_checks import _examine
    from kdsr_tf.evaluation.evaluation_inputs import Windows, read_windows

    log = Log(stages.location(clean, "sequences"))
    (windows,) = read_windows(stages.location(clean, "examples"), split, 1000)
    rows = [log.row_of[user] for user in windows.user_ids]
    chosen = next(k for k, row in enumerate(rows) if 7 <= log.num_train[row] < log.lengths[row])
    sequence = log.sequence(rows[chosen]).tolist()
    items, targets = list(windows.items), list(windows.targets)
    items[chosen], targets[chosen] = (
        np.array(part, np.int32)
        for part in change(sequence, items[chosen].tolist(), targets[chosen].tolist())
    )
    changed = Windows(windows.user_ids, windows.starts, items, targets)
    leaking, differs = _examine(log, changed, split)
    assert np.flatnonzero(leaking).tolist() == ([chosen] if leaks else [])
    assert np.flatnonzero(differs & ~leaking).tolist() == ([] if leaks else [chosen])


def test_windows_cut_before_the_split_moved_leak(workdir):
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        before = sum(row["num_train"] - 1 for row in rows)
        for row in rows:
            row["num_train"] -= 2
        _rewrite(target, rows)
        after = sum(row["num_train"] - 1 for row in rows)
    found = found_by(workdir)
    leak = found["train windows that show held-out interactions"]
    assert (leak.severity, leak.count, leak.total) == (LEAK, NUM_USERS, NUM_USERS)
    assert leak.examples[0].endswith("from position 0")
    assert found["train points without a target, or with several"].count == before - after


def test_status_tells_leaks_from_oddities(workdir, capsys):
    from kdsr_tf.cli.main import main
    from kdsr_tf.config import dump_config

    path = os.path.join(workdir.workdir, "config.yaml")
    with open(path, "w") as file:
        file.write(dump_config(workdir))

    def status():
        with pytest.raises(SystemExit) as ended:
            main(["check", "--workdir", workdir.workdir])
        return ended.value.code, capsys.readouterr().out

    code, text = status()
    assert code == 0 and "No leak." in text and "items without text" in text
    with factories.editing(workdir, "sequences") as target:
        rows = _read(target)
        _count(target, [row | {"num_train": len(row["items"])} for row in rows])
    code, text = status()
    assert code == 1 and "item popularity not from train alone" in text


def _read(folder):
    return pq.read_table(os.path.join(folder, "sequences-00000-of-00001.parquet")).to_pylist()


def _rewrite(folder, rows):
    """Write the users, and what `prepare` derives from them."""
    path = os.path.join(folder, "sequences-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)
    _count(folder, rows)
    _sample(folder, rows)


def _count(folder, rows):
    """Make `train_count` that of `rows`."""
    path = os.path.join(folder, "items.parquet")
    table = pq.read_table(path)
    train = [item for row in rows for item in row["items"][: row["num_train"]]]
    counts = np.bincount(train, minlength=NUM_ITEMS + 1)[1:]
    place = table.column_names.index(schema.TRAIN_COUNT)
    pq.write_table(table.set_column(place, schema.TRAIN_COUNT, [counts]), path)


def _sample(folder, rows, *more):
    """Make the pair sample all train pairs of `rows`, and `more`."""
    pairs = [*sorted(_train_pairs(rows)), *more]
    first, second = (pa.array(column, pa.int32()) for column in zip(*pairs, strict=True))
    path = os.path.join(folder, "pairs.parquet")
    pq.write_table(pa.table({"first": first, "second": second}), path)


def _train_pairs(rows):
    return {
        pair
        for row in rows
        for pair in itertools.combinations(sorted(set(row["items"][: row["num_train"]])), 2)
    }
