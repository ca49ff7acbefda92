"""Windows read back through TFDS against NumPy recomputed from the teacher's vectors."""

import collections
import hashlib
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from beam_pipelines.distill import distill
from beam_pipelines.prepare import prepare
from kdsr_tf import stages
from kdsr_tf.config import load_config
from kdsr_tf.schema import SPLITS
from kdsr_tf.teacher.teach import teach
from tests import factories

_SETTINGS = (
    "encode.image={}",
    "encode.text={}",
    "prepare.k_core=2",
    "prepare.num_shards=3",
    "model.dim=32",
    "teach.num_codes=40",
    "windows.max_length=20",
    "windows.stride=10",
)
_TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Prepared, taught and distilled: 350 users, 120 items, some without a modality."""
    root = tmp_path_factory.mktemp("contract")
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{rng.integers(120)}", 1_600_000_000 + step)
        for user in range(350)
        for step in range(rng.integers(3, 60))
    ]
    source = root / "source"
    source.mkdir()
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table.sample(frac=1, random_state=0).to_csv(source / "interactions.csv", index=False)
    items = pd.DataFrame({"item_id": [f"i{k}" for k in range(120)]})
    items["title"] = "title " + items["item_id"]
    items.to_csv(source / "items.csv", index=False)
    config = load_config(
        overrides=[*_SETTINGS, f"source.path={source}"], workdir=str(root / "work")
    )
    prepare(config)
    for modality, absent in (("image", 0.3), ("text", 0.05)):
        factories.write_features(config, modality, absent=absent)
    teach(config)
    distill(config)
    return config


@pytest.fixture(scope="module")
def users(config):
    folder = pathlib.Path(stages.location(config, "sequences"))
    table = pd.concat(pd.read_parquet(path) for path in folder.glob("sequences-*.parquet"))
    assert len(table) >= 300
    return {row.user_id.encode(): (row.items, row.num_train) for row in table.itertuples()}


@pytest.fixture(scope="module")
def windows(config):
    builder = tfds.builder_from_directory(stages.location(config, "examples"))
    return {split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in SPLITS}


def test_scores_and_codes_equal_numpy_from_the_teachers_vectors(config, windows):
    some = windows["train"] + windows["validation"]
    chosen = np.random.default_rng(1).choice(len(some), 200, replace=False)
    checked = collections.Counter()
    for modality in ("image", "text"):
        folder = pathlib.Path(stages.location(config, f"teacher/{modality}"))
        vectors, present, codebook = (
            np.load(folder / f"{stem}.npy").astype(np.float64)
            for stem in ("vectors", "present", "codebook")
        )
        for window in (some[index] for index in chosen):
            items = window["items"]
            np.testing.assert_array_equal(window[f"{modality}_present"], present[items])
            scores, codes = window[f"{modality}_scores"], window[f"{modality}_codes"]
            assert scores.dtype == np.float16 and codes.dtype == np.uint8
            assert len(scores) == len(codes) == len(items) * (len(items) - 1) // 2
            for j, second in enumerate(items):
                for i, first in enumerate(items[:j]):
                    score, code = scores[j * (j - 1) // 2 + i], codes[j * (j - 1) // 2 + i]
                    if first == second or not present[first] or not present[second]:
                        assert score == code == 0
                        checked["invalid"] += 1
                        continue
                    a, b = vectors[first], vectors[second]
                    assert abs(score - a @ b / np.sqrt(a @ a * (b @ b))) < 2e-3
                    a, b = a.reshape(8, 4), b.reshape(8, 4)
                    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
                    distances = np.linalg.norm((a * b).sum(1) / norms - codebook, axis=1)
                    assert distances[code] < distances.min() + 1e-5
                    checked["valid"] += 1
    assert checked["valid"] > 10_000 and checked["invalid"] > 1_000


def test_every_train_target_has_its_loss_exactly_once(config, users, windows):
    seen = collections.Counter()
    for split in ("train", "validation"):
        for window in windows[split]:
            sequence, num_train = users[window["user_id"]]
            start, length = window["window_start"], len(window["items"])
            np.testing.assert_array_equal(window["items"], sequence[start : start + length])
            assert 1 <= length <= 20
            for position in np.flatnonzero(window["target"]):
                point = start + position + 1
                assert window["target"][position] == sequence[point]
                assert (split == "validation") == (num_train >= 3 and point == num_train - 1)
                assert position + 1 >= min(point, 10)
                seen[window["user_id"], point] += 1
    expected = {(user, p) for user, (_, num_train) in users.items() for p in range(1, num_train)}
    assert set(seen) == expected and set(seen.values()) == {1}


def test_test_windows_hold_the_last_items_before_every_test_point(users, windows):
    points = collections.Counter()
    for window in windows["test"]:
        sequence, _ = users[window["user_id"]]
        point = window["window_start"] + len(window["items"])
        np.testing.assert_array_equal(window["items"], sequence[max(point - 20, 0) : point])
        assert window["target"][-1] == sequence[point] and np.count_nonzero(window["target"]) == 1
        assert not len(window["image_scores"]) and not len(window["text_codes"])
        points[window["user_id"], point] += 1
    expected = {(u, p) for u, (seq, num_train) in users.items() for p in range(num_train, len(seq))}
    assert set(points) == expected and set(points.values()) == {1}


def test_two_processes_write_the_same_bytes(config):
    def digests():
        folder = pathlib.Path(stages.location(config, "examples"))
        return {
            str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }

    before = digests()
    assert len(before) == 3 * 3 + 2
    manifest = distill(config, _TWO_PROCESSES)
    assert digests() == before
    assert manifest.counts["shards"] == 3
