import csv
import json
import os

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.evaluation.rank_metrics import NOT_RANKED
from tests import factories

NUM_ITEMS = 40


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Everything that evaluation reads, with a student that was never trained."""
    config = load_config(
        overrides=[
            "encode.image={}",
            "encode.text={}",
            "model.dim=16",
            "teach.num_codes=12",
            "windows.max_length=10",
            "windows.stride=5",
            "evaluate.cutoffs=[3, 10]",
            "evaluate.batch_size=7",
        ],
        workdir=str(tmp_path_factory.mktemp("work")),
    )
    factories.write_workdir(config, num_items=NUM_ITEMS)
    return config, factories.write_student(config)


@pytest.fixture(scope="module")
def evaluated(workdir):
    from kdsr_tf.evaluation.evaluate import evaluate

    config, student = workdir
    return config, student, evaluate(config), stages.location(config, "evaluation")


def _points(config):
    """Test points straight from `sequences/`: user, position, history, target."""
    path = os.path.join(stages.location(config, "sequences"), "sequences-00000-of-00001.parquet")
    for row in pq.read_table(path).to_pylist():
        for position in range(row["num_train"], len(row["items"])):
            history = row["items"][:position][-config.windows.max_length :]
            yield row["user_id"], position, history, row["items"][position]


def _oracle_ranks(student, points, excluded=()):
    ranks = []
    for number, (_, _, history, target) in enumerate(points):
        scores = np.array(student.scores(np.array([history], np.int32)))[0, 1:].astype(np.float64)
        for item in excluded[number] if excluded else ():
            if item != target:
                scores[item - 1] = -np.inf
        ranks.append(int(np.sum(scores >= scores[target - 1] - 1e-6)))
    return np.array(ranks)


def test_ranks_are_the_students(evaluated):
    config, student, manifest, location = evaluated
    points = sorted(_points(config))
    table = pq.read_table(os.path.join(location, "users.parquet"))
    assert table["user_id"].to_pylist() == [user for user, *_ in points]
    assert table["position"].to_pylist() == [position for _, position, *_ in points]
    assert table["target"].to_pylist() == [target for *_, target in points]
    starts = [position - len(history) for _, position, history, _ in points]
    assert table["window_start"].to_pylist() == starts
    ranks = _oracle_ranks(student, points)
    assert np.array_equal(table["rank"].to_numpy(), ranks)
    assert table["target_id"].to_pylist() == [f"item{target:04d}" for *_, target in points]
    users = len({user for user, *_ in points})
    assert manifest.counts == {"test_points": len(points), "users": users, "items": NUM_ITEMS}
    metrics = manifest.details["metrics"]
    assert metrics["hr_10"] == pytest.approx(100 * np.mean(ranks <= 10))
    assert metrics["mrr_3"] == pytest.approx(100 * np.mean(np.where(ranks <= 3, 1 / ranks, 0)))
    low, high = manifest.details["intervals"]["hr_10"]
    assert low < metrics["hr_10"] < high


def test_popularity_stands_beside(evaluated):
    config, _, manifest, _ = evaluated
    table = pq.read_table(os.path.join(stages.location(config, "sequences"), "items.parquet"))
    counts = table["train_count"].to_numpy()
    ranks = np.array([np.sum(counts >= counts[t - 1]) for *_, t in _points(config)])
    assert manifest.details["popularity"]["hr_10"] == pytest.approx(100 * np.mean(ranks <= 10))


def test_files_tell_what_the_manifest_tells(evaluated):
    _, _, manifest, location = evaluated
    assert artifacts.find_manifest(location).fingerprint == manifest.fingerprint
    with open(os.path.join(location, "metrics.json")) as file:
        written = json.load(file)
    assert written["metrics"] == manifest.details["metrics"]
    assert (written["version"], written["selection"]) == (1, "validation")
    assert "slices" not in manifest.details
    rows = pq.read_table(os.path.join(location, "users.parquet")).to_pylist()
    assert set(written["slices"]) == {
        "target_popularity",
        "target_training",
        "target_image",
        "target_text",
        "history_length",
    }
    for name, groups in written["slices"].items():
        for group, found in groups.items():
            ranks = np.array([row["rank"] for row in rows if row[name] == group])
            users = {row["user_id"] for row in rows if row[name] == group}
            assert found["counts"] == {"test_points": len(ranks), "users": len(users)}
            assert found["metrics"]["hr_10"] == pytest.approx(100 * np.mean(ranks <= 10))
            low, high = found["intervals"]["hr_10"]
            assert low <= found["metrics"]["hr_10"] <= high
        assert sum(g["counts"]["test_points"] for g in groups.values()) == len(rows)
    assert 0 < written["metrics"]["coverage_10"] <= 1
    assert written["metrics"]["text_diversity_10"] > 0
    with open(os.path.join(location, "retention.csv")) as file:
        rows = list(csv.DictReader(file))
    assert [set(row) for row in rows] == [{"epoch", "retention_image", "retention_text"}] * 2


def test_seen_items_can_be_removed(workdir):
    from kdsr_tf.evaluation.evaluate import rank
    from kdsr_tf.evaluation.evaluation_inputs import read_catalogue
    from kdsr_tf.evaluation.ranker import Ranker

    config, student = workdir
    config = config.model_copy(deep=True)
    config.evaluate.filter_seen = True
    examples = artifacts.read_manifest(stages.location(config, "examples"), written_by="distill")
    found = rank(config, Ranker(student), read_catalogue(config), examples)
    by_point = dict(
        zip(
            zip(found.points.user_ids, found.points.positions, strict=True),
            zip(found.ranks, found.lists, strict=True),
            strict=True,
        )
    )
    points = list(_points(config))
    oracle = _oracle_ranks(student, points, [history for _, _, history, _ in points])
    for (user, position, history, target), expected in zip(points, oracle, strict=True):
        got, shown = by_point[user, position]
        assert got == (NOT_RANKED if target in history else expected)
        assert not set(history) & set(shown.tolist())


@pytest.mark.parametrize("filter_seen", [False, True])
def test_lists_longer_than_the_catalogue_count_what_they_hold(workdir, filter_seen):
    from kdsr_tf.evaluation.evaluate import rank
    from kdsr_tf.evaluation.evaluation_inputs import read_catalogue
    from kdsr_tf.evaluation.ranker import Ranker
    from kdsr_tf.evaluation.summary import summarise

    config, student = workdir
    config = config.model_copy(deep=True)
    config.evaluate.filter_seen, config.evaluate.cutoffs = filter_seen, [NUM_ITEMS + 20]
    examples = artifacts.read_manifest(stages.location(config, "examples"), written_by="distill")
    found = rank(config, Ranker(student), read_catalogue(config), examples)
    metrics = summarise(found, {}, {}, NUM_ITEMS, config.evaluate.cutoffs, 0)["metrics"]
    assert metrics[f"coverage_{NUM_ITEMS + 20}"] == 1
    # Only what was left out of a list can be missed by one that holds all the rest.
    points = list(_points(config))
    seen = [filter_seen and target in history for _, _, history, target in points]
    assert any(seen) == filter_seen
    assert metrics[f"hr_{NUM_ITEMS + 20}"] == pytest.approx(100 * (1 - np.mean(seen)))
    lengths = sorted(np.count_nonzero(found.lists, axis=1))
    taken = (len(set(history)) for _, _, history, _ in points)
    assert lengths == sorted(NUM_ITEMS - filter_seen * number for number in taken)


def test_recommendations_are_unseen_best_first_and_end_with_the_catalogue(workdir):
    from kdsr_tf.evaluation.ranker import Ranker

    _, student = workdir
    history = np.arange(1, 31)
    answers = Ranker(student).recommend([history, np.array([5])], k=12)
    assert sorted(answers[0][answers[0] > 0]) == list(range(31, 41))
    assert answers[0][10:].tolist() == [0, 0]
    scores = np.array(student.scores(np.array([[5]])))[0]
    scores[5] = -np.inf
    assert answers[1].tolist() == np.argsort(-scores, kind="stable")[:12].tolist()


def test_a_student_is_read_from_an_object_store(workdir):
    from kdsr_tf.methods.served import read_served

    config, student = workdir
    remote = config.model_copy(update={"workdir": "memory://kdsr-test/evaluate"})
    local = os.path.join(stages.location(config, "student"), "student.keras")
    path = artifacts.join(stages.location(remote, "student"), "student.keras")
    with open(local, "rb") as file, fsspec.open(path, "wb") as copy:
        copy.write(file.read())
    for found, expected in zip(
        read_served(remote).get_weights(), student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_a_missing_student_names_the_stage(workdir, tmp_path):
    from kdsr_tf.evaluation.evaluate import evaluate

    config = workdir[0].model_copy(update={"workdir": str(tmp_path)})
    factories.write_workdir(config, num_items=NUM_ITEMS, num_users=10)
    with pytest.raises(MissingArtifactError, match="kdsr train"):
        evaluate(config)
