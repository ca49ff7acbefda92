"""The prepare job against sources small enough to check by hand."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.prepare import prepare
from beam_pipelines.running import job_arguments
from beam_pipelines.transforms.item_vocabulary import Entry, number_items
from beam_pipelines.transforms.kept_interactions import Core, hashes_of
from beam_pipelines.transforms.pair_sample import SmallestPairs, TrainSequences
from kdsr_tf import artifacts, splits, stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation.checks.run_checks import check
from kdsr_tf.hashing import hash_pairs
from tests import warm

SMALL = {
    "anna": [("c", 30), ("a", 10), ("b", 20), ("a", 40), ("e", 50)],
    "bert": [("a", 5), ("c", 5), ("b", 5), ("d", 4), ("b", 90)],
    "cleo": [("d", 1)],
}
ITEMS = [
    {"item_id": "d", "title": "Dress", "image": "pictures/d.png"},
    {"item_id": "b", "title": ["Blue", "belt"]},
    {"item_id": "a", "title": "", "colour": "red"},
    {"item_id": "c", "title": "Coat"},
    {"item_id": "e"},
    {"item_id": "unseen", "title": "Never bought"},
]


def _source(folder: pathlib.Path, histories=SMALL, items=ITEMS, extra=(), seed=None) -> None:
    """Write a source; with a seed, its rows in random order."""
    folder.mkdir(exist_ok=True)
    rows = [
        json.dumps({"user_id": user, "item_id": item, "timestamp": time})
        for user, history in histories.items()
        for item, time in history
    ]
    lines = [json.dumps(item) for item in items]
    if seed is not None:
        random.Random(seed).shuffle(rows)
        random.Random(seed).shuffle(lines)
    (folder / "interactions.jsonl").write_text("\n".join([*rows, *extra]) + "\n")
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n" if lines else "")


def _config(tmp_path: pathlib.Path, *overrides: str, workdir: str = "work"):
    source = f"source.path={tmp_path / 'source'}"
    return load_config(
        overrides=("prepare.k_core=0", source, *overrides), workdir=str(tmp_path / workdir)
    )


def _rows(config, stem: str) -> list[dict]:
    folder = pathlib.Path(stages.location(config, "sequences"))
    return [row for path in sorted(folder.glob(stem)) for row in pq.read_table(path).to_pylist()]


def _statistics(config) -> dict:
    path = pathlib.Path(stages.location(config, "sequences")) / "statistics.json"
    return json.loads(path.read_text())


def _random_histories(num_users=80, num_items=25, seed=0) -> dict:
    rng = np.random.default_rng(seed)
    times = iter(rng.permutation(num_users * 30).tolist())
    return {
        f"user{user}": [
            (f"item{int(rng.zipf(1.3)) % num_items}", next(times))
            for _ in range(int(rng.integers(2, 16)))
        ]
        for user in range(num_users)
    }


def _random_source(tmp_path, name="source", seed=None):
    items = [{"item_id": f"item{k}", "title": f"Item {k}"} for k in range(25)]
    _source(tmp_path / name, _random_histories(), items, seed=seed)


def test_every_file_of_a_small_source(tmp_path):
    _source(tmp_path / "source")
    config = _config(tmp_path)
    manifest = prepare(config)
    sequences = {row["user_id"]: row for row in _rows(config, "sequences-*.parquet")}
    # Items a b c d e are 1 2 3 4 5; the k-core keeps no item without an interaction.
    # Bert's three interactions at time 5 stay in the order of the file.
    assert [(row["items"], row["timestamps"], row["num_train"]) for row in sequences.values()] == [
        ([1, 2, 3, 1, 5], [10, 20, 30, 40, 50], 4),
        ([4, 1, 3, 2, 2], [4, 5, 5, 5, 90], 4),
        ([4], [1], 1),
    ]
    assert list(sequences) == ["anna", "bert", "cleo"]
    items = _rows(config, "items.parquet")
    assert [tuple(row.values()) for row in items] == [
        (1, "a", "a", None, 3),
        (2, "b", "Blue, belt", None, 2),
        (3, "c", "Coat", None, 2),
        (4, "d", "Dress", str(tmp_path / "source" / "pictures" / "d.png"), 2),
        (5, "e", "e", None, 0),
    ]
    # Item 5 is a test item only: it is in no pair.
    pairs = {(row["first"], row["second"]) for row in _rows(config, "pairs.parquet")}
    assert pairs == {(1, 2), (1, 3), (2, 3), (1, 4), (3, 4), (2, 4)}
    assert manifest.counts == {
        "users": 3,
        "items": 5,
        "interactions": 11,
        "train_points": 6,
        "test_points": 2,
        "validation_points": 2,
        "pairs": 6,
        "catalogue_rows": 6,
        "interaction_rows": 11,
        "rejected": 0,
    }
    statistics = _statistics(config)
    assert statistics["lengths"] == {"1": 1, "5": 2}
    assert statistics["sparsity"] == pytest.approx(1 - 11 / 15)
    assert statistics["times"] == [1, 90]
    assert statistics["columns"] == {"colour": 0.2, "image": 0.2, "title": 0.6}
    # Only e has neither a title nor another text.
    assert statistics["modalities"] == {"image": 0.2, "text": 0.8}
    assert statistics["counts"] == manifest.counts
    assert manifest.details["modalities"] == statistics["modalities"]


def test_same_bytes_for_any_workers_and_input_order(tmp_path):
    _random_source(tmp_path)
    _random_source(tmp_path, "shuffled", seed=1)
    options = ("prepare.k_core=3", "prepare.num_shards=4", "prepare.pair_sample_size=50")
    digests = []
    for workdir, source, beam_args in (
        ("a", "source", ()),
        ("b", "shuffled", ()),
        ("c", "source", ("--direct_running_mode=multi_processing", "--direct_num_workers=2")),
    ):
        path = f"source.path={tmp_path / source}"
        config = _config(tmp_path, *options, path, workdir=workdir)
        prepare(config, beam_args)
        folder = pathlib.Path(stages.location(config, "sequences"))
        digests.append(
            {
                path.name: hashlib.md5(path.read_bytes()).hexdigest()
                for path in sorted(folder.iterdir())
                if path.name != "manifest.json"
            }
        )
    assert len(digests[0]) == 4 + 4
    assert digests[0] == digests[1] == digests[2]


def test_counts_equal_a_plain_count(tmp_path):
    _random_source(tmp_path)
    config = _config(tmp_path, "prepare.k_core=4", "prepare.num_shards=3")
    counts = prepare(config).counts
    edges = [(user, item) for user, history in _random_histories().items() for item, _ in history]
    while True:
        users = collections.Counter(user for user, _ in edges)
        items = collections.Counter(item for _, item in edges)
        kept = [edge for edge in edges if users[edge[0]] >= 4 and items[edge[1]] >= 4]
        if len(kept) == len(edges):
            break
        edges = kept
    assert 0 < len(edges) < sum(map(len, _random_histories().values()))
    lengths = collections.Counter(user for user, _ in edges).values()
    assert counts["interactions"] == len(edges)
    assert counts["users"] == len(lengths)
    assert counts["items"] == len({item for _, item in edges})
    assert counts["test_points"] == sum(n // 5 for n in lengths)
    assert counts["train_points"] == sum(n - n // 5 - 1 for n in lengths)


def test_nothing_left_is_one_clear_error(tmp_path):
    _source(tmp_path / "source")
    with pytest.raises(InputError, match=r"left with prepare\.k_core=9"):
        prepare(_config(tmp_path, "prepare.k_core=9"))
    _source(tmp_path / "source", items=[])
    with pytest.raises(InputError, match=r"items\.jsonl is empty"):
        prepare(_config(tmp_path))


def test_append_only_vocabulary(tmp_path):
    config = _config(tmp_path, "prepare.max_rejected_fraction=0.5")
    _source(tmp_path / "source")
    prepare(config)
    items = [item for item in ITEMS if item["item_id"] != "c"]
    items += [{"item_id": "aardvark", "title": "Aardvark"}, {"item_id": "Zebra"}]
    _source(tmp_path / "source", {**SMALL, "dora": [("Zebra", 1), ("aardvark", 2)]}, items)
    manifest = prepare(config)
    rows = [(row["item_id"], row["title"]) for row in _rows(config, "items.parquet")]
    assert rows == [
        ("a", "a"),
        ("b", "Blue, belt"),
        ("c", "Coat"),
        ("d", "Dress"),
        ("e", "e"),
        ("Zebra", "Zebra"),
        ("aardvark", "Aardvark"),
    ]
    assert manifest.details["vocabulary"] == {"previous": 5, "new": 2}
    # Another configuration starts a new vocabulary.
    prepare(_config(tmp_path, "prepare.max_rejected_fraction=0.5", "seed=1"))
    ids = [row["item_id"] for row in _rows(config, "items.parquet")]
    assert ids == ["Zebra", "a", "aardvark", "b", "d", "e"]


@pytest.mark.parametrize(("shared", "continued"), [(2, True), (1, False)])
def test_another_catalogue_starts_a_new_vocabulary(tmp_path, shared, continued):
    old = pa.table({"item_id": ["p", "q", "r", "s"]})
    pq.write_table(old, tmp_path / "items.parquet")
    ids = [*["r", "s"][:shared], "a"]
    core = Core(np.zeros(0, np.uint64), hashes_of(pa.array(ids)), None)
    entries = [Entry(item_id, item_id, None, False, (), False) for item_id in ids]
    vocabulary = number_items(None, entries, core, str(tmp_path))
    assert vocabulary.item_ids == (["p", "q", "r", "s", "a"] if continued else ["a", "r"])


@pytest.mark.parametrize(
    ("options", "num_train", "points"),
    [
        (("prepare.split=leave_last_out",), {"anna": 4, "bert": 4, "cleo": 1}, (6, 2, 2)),
        # Of 11 interactions ⌊0.3 · 11⌋ = 3 are test: those at times 40, 50 and 90.
        (
            ("prepare.split=global_time", "prepare.test_fraction=0.3"),
            {"anna": 3, "bert": 4, "cleo": 1},
            (5, 3, 2),
        ),
        # ⌊0.5 · 11⌋ = 5, from time 20 on.
        (
            ("prepare.split=global_time", "prepare.test_fraction=0.5"),
            {"anna": 1, "bert": 4, "cleo": 1},
            (3, 5, 1),
        ),
        (("prepare.split=ratio", "prepare.test_fraction=0"), None, (8, 0, 2)),
        (
            ("prepare.split=global_time", "prepare.test_fraction=0"),
            {"anna": 5, "bert": 5, "cleo": 1},
            (8, 0, 2),
        ),
    ],
)
def test_counts_of_every_split_by_hand(tmp_path, options, num_train, points):
    _source(tmp_path / "source")
    config = _config(tmp_path, *options)
    counts = prepare(config).counts
    rows = _rows(config, "sequences-*.parquet")
    if num_train is not None:
        assert {row["user_id"]: row["num_train"] for row in rows} == num_train
    names = ("train_points", "test_points", "validation_points")
    assert tuple(counts[name] for name in names) == points


def test_global_time_refuses_positions(tmp_path):
    histories = {user: [(item, k) for k, item in enumerate("abc")] for user in ("u", "v")}
    _source(tmp_path / "source", histories)
    with pytest.raises(InputError, match="global_time` needs real times"):
        prepare(_config(tmp_path, "prepare.split=global_time"))


def test_positions_stay_positions_after_the_k_core(tmp_path):
    """Of eight items of a user two are shared; the others are outside the core."""
    users = "uvw"
    histories = {
        user: [(f"s{k}" if k % 4 == 3 else f"{user}{k}", k) for k in range(8)] for user in users
    }
    items = [{"item_id": item} for item in {i: 0 for h in histories.values() for i, _ in h}]
    _source(tmp_path / "source", histories, items)
    config = _config(tmp_path, "prepare.k_core=2")
    assert prepare(config).details["times_are_positions"]
    assert _rows(config, "sequences-*.parquet")[0]["timestamps"] == [3, 7]
    found = {one.check: one.count for one in check(config)[0]}
    assert found["timestamps that are mere positions"] == 3
    assert "test points older than the newest train interaction" not in found
    with pytest.raises(InputError, match="global_time` needs real times"):
        prepare(_config(tmp_path, "prepare.k_core=2", "prepare.split=global_time"))
    # Real times have gaps of their own.
    days = {user: [(item, 1 + 9 * k) for item, k in histories[user]] for user in users}
    _source(tmp_path / "source", days, items)
    assert not prepare(config).details["times_are_positions"]


def test_smallest_pairs_equal_brute_force_for_any_merging():
    rng = np.random.default_rng(5)
    sequences = [rng.integers(1, 40, int(rng.integers(1, 30))).astype(np.int32) for _ in range(30)]
    max_length, size, seed = 7, 120, 11
    pairs = {
        tuple(sorted((int(row[i]), int(row[j]))))
        for row in sequences
        for i, j in itertools.combinations(range(len(row)), 2)
        if j - i < max_length and row[i] != row[j]
    }
    assert len(pairs) > 2 * size
    hashes = {pair: int(hash_pairs(*map(np.uint64, pair), seed)) for pair in pairs}
    expected = sorted(pairs, key=hashes.__getitem__)[:size]
    combine = SmallestPairs(size, max_length, seed)
    for parts in (1, 4, 30):
        sketches = []
        for part in np.array_split(np.arange(30), parts):
            items = np.concatenate([sequences[k] for k in part])
            users = np.repeat(part, [len(sequences[k]) for k in part]).astype(np.int32)
            sketch = combine.create_accumulator()
            sketches.append(combine.add_input(sketch, TrainSequences(items, users)))
        merged = combine.merge_accumulators(sketches[::-1])
        assert [tuple(pair) for pair in combine.extract_output(merged).tolist()] == expected


def test_source_and_workdir_in_an_in_memory_filesystem(tmp_path):
    _source(tmp_path / "source")
    filesystem = fsspec.filesystem("memory")
    for name in ("interactions.jsonl", "items.jsonl"):
        filesystem.put_file(str(tmp_path / "source" / name), f"/prepare/source/{name}")
    (tmp_path / "config.yaml").write_text("prepare: {k_core: 0, max_rejected_fraction: 0.5}\n")
    arguments = ["--config", str(tmp_path / "config.yaml"), "--workdir", "memory://prepare/work"]
    arguments += ["--set", "source.path=memory://prepare/source"]
    assert prepare(*job_arguments(arguments, "prepare", "")).counts["interactions"] == 11
    local = _config(tmp_path, "prepare.max_rejected_fraction=0.5")
    prepare(local)
    name = "sequences-00000-of-00001.parquet"
    assert (
        filesystem.cat(f"/prepare/work/sequences/{name}")
        == (tmp_path / "work" / "sequences" / name).read_bytes()
    )
    # A second run finds the vocabulary of the first and replaces it whole.
    items = "\n".join(json.dumps(item) for item in ITEMS[1:])
    filesystem.pipe("/prepare/source/items.jsonl", items.encode())
    arguments += ["--set", "prepare.max_rejected_fraction=0.5"]
    manifest = prepare(*job_arguments(arguments, "prepare", ""))
    assert manifest.details["vocabulary"] == {"previous": 5, "new": 0}
    assert manifest.counts["rejected"] == 2
    assert artifacts.find_manifest("memory://prepare/work/sequences") == manifest
    assert [name.rsplit("/", 1)[-1] for name in filesystem.ls("/prepare/work", detail=False)] == [
        "sequences"
    ]


def test_own_column_names(tmp_path):
    _source(tmp_path / "source")
    prepare(_config(tmp_path))
    own = tmp_path / "own"
    own.mkdir()
    table = pa.Table.from_pylist(
        [
            {"reviewerID": user, "asin": item, "unixReviewTime": time, "timestamp": "unused"}
            for user, history in SMALL.items()
            for item, time in history
        ]
    )
    pq.write_table(table, own / "interactions.parquet")
    lines = [json.dumps({("name" if k == "title" else k): v for k, v in i.items()}) for i in ITEMS]
    (own / "items.jsonl").write_text("\n".join(lines))
    names = "{user_id: reviewerID, item_id: asin, timestamp: unixReviewTime, title: name}"
    overrides = (f"source.path={own}", f"source.columns={names}")
    renamed = _config(tmp_path, *overrides, workdir="renamed")
    prepare(renamed)
    config = _config(tmp_path)
    assert _rows(renamed, "sequences-*.parquet") == _rows(config, "sequences-*.parquet")
    titles = [[row["title"] for row in _rows(c, "items.parquet")] for c in (renamed, config)]
    assert titles[0] == titles[1]
    assert "title" in _statistics(renamed)["columns"]


def test_the_job_runs_as_a_program_of_its_own(tmp_path):
    _source(tmp_path / "source")
    (tmp_path / "config.yaml").write_text(f"source:\n  path: {tmp_path / 'source'}\n")
    command = [warm.python(), "-m", "beam_pipelines.prepare"]
    command += ["--config", str(tmp_path / "config.yaml"), "--set", "prepare.k_core=0"]
    command += ["--workdir", str(tmp_path / "work"), "--", "--runner=DirectRunner"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert len(_rows(_config(tmp_path), "sequences-*.parquet")) == 3
    command[command.index("prepare.k_core=0")] = "source.path=absent"
    failed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 2
    assert "source folder absent does not exist" in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr


REAL_COUNTS = {
    "ml-1m": (6_040, 3_416, 999_611, 796_045, 197_526),
    "amazon-beauty": (22_363, 12_101, 198_502, 142_197, 33_942),
}


@pytest.mark.slow
@pytest.mark.skipif("KDSR_DATA" not in os.environ, reason="KDSR_DATA names no folder of data sets")
@pytest.mark.parametrize("name", REAL_COUNTS)
def test_counts_of_the_real_data_sets(tmp_path, name):
    path = f"source.path={os.path.join(os.environ['KDSR_DATA'], name)}"
    config = load_config(overrides=(path,), workdir=str(tmp_path))
    counts = prepare(config).counts
    names = ("users", "items", "interactions", "train_points", "test_points")
    assert tuple(counts[name] for name in names) == REAL_COUNTS[name]
    targets = 0
    for row in _rows(config, "sequences-*.parquet"):
        windows = splits.training_windows(splits.num_inputs(row["num_train"]), 50, 25)
        targets += sum(stop - start - first_loss for start, stop, first_loss in windows)
    assert targets + counts["validation_points"] == counts["train_points"]
