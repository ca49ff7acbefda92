"""How well are items recommended that were added without training?

    python benchmarks/added_items.py --config configs/demo.yaml --source FOLDER --workdir FOLDER

Leaves a share of the items, with all their interactions, out of a source, trains with and
without them, and adds them to the second student as `kdsr export --add-items` does. Every
test point is ranked over the whole catalogue. Prints one JSON line with HR@5, HR@20 and
MRR@20 in %, of the points whose target is a left-out item (`of_new`) and of the others
(`of_known`), for

- `trained`: the student that was trained with their interactions;
- `added`: the other one, after the left-out items were added;
- `not_added`: the other one before (their own points cannot be hit);
- `popularity`: the ranking by train interactions, those of left-out items included.

`--share` is the share of items left out. Further arguments are configuration overrides.
"""

from __future__ import annotations

import argparse
import json
import os

import keras
import numpy as np
import pandas as pd

from kdsr_tf import sequences, stages
from kdsr_tf.config import Config, load_config
from kdsr_tf.hashing import shard_of
from kdsr_tf.methods.new_item_rows import Condensed, with_new_items
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.schema import ITEM_ID, TRAIN_COUNT
from kdsr_tf.teacher.autoencoder import Autoencoder
from kdsr_tf.teacher.feature_files import Features

_MOST_POINTS = 10_000
_USERS_AT_ONCE = 512
_BUCKETS = 10_000


def is_left_out(item_id: str, share: float) -> bool:
    """Whether an item is among those that arrive later."""
    return shard_of(item_id.encode(), _BUCKETS) < share * _BUCKETS


def write_without(source: str, folder: str, share: float) -> str:
    """A source without a share of the items; pictures stay where they are."""
    os.makedirs(folder, exist_ok=True)
    interactions = pd.read_parquet(os.path.join(source, "interactions.parquet"))
    kept = [not is_left_out(str(item), share) for item in interactions[ITEM_ID]]
    interactions[kept].to_parquet(os.path.join(folder, "interactions.parquet"))
    with (
        open(os.path.join(source, "items.jsonl"), encoding="utf-8") as rows,
        open(os.path.join(folder, "items.jsonl"), "w", encoding="utf-8") as file,
    ):
        for row in map(json.loads, rows):
            if is_left_out(str(row[ITEM_ID]), share):
                continue
            if row.get("image"):
                row["image"] = os.path.abspath(os.path.join(source, row["image"]))
            file.write(json.dumps(row) + "\n")
    return folder


def run_stages(config: Config) -> None:
    """Everything up to the student."""
    from beam_pipelines.distill import distill
    from beam_pipelines.encode import encode
    from beam_pipelines.prepare import prepare
    from kdsr_tf.teacher.teach import teach
    from kdsr_tf.training.fit import train

    for stage in (prepare, encode, teach, distill, train):
        stage(config)


def measure(whole: Config, without: Config) -> dict:
    """Compare the students of two working directories; one lacks items of the other."""
    items = sequences.read_items(stages.location(whole, "sequences"), ITEM_ID, TRAIN_COUNT)
    counts = np.concatenate([[0], items[TRAIN_COUNT].to_numpy()])
    ids = items[ITEM_ID].to_pylist()
    known = sequences.read_items(stages.location(without, "sequences"), ITEM_ID)
    known = known[ITEM_ID].to_pylist()
    new = sorted(set(ids) - set(known))
    place = {item_id: row for row, item_id in enumerate([*known, *new], start=1)}
    mapping = np.array([0, *(place[item_id] for item_id in ids)], np.int32)
    condensed = {m: _condense(whole, without, m, mapping, len(known)) for m in without.modalities}
    trained, before = (
        keras.saving.load_model(os.path.join(stages.location(c, "student"), "student.keras"))
        for c in (whole, without)
    )
    boost = without.export.added_items_boost
    after = before.with_items(with_new_items(before.item_encoder, condensed, boost))
    points = _points(whole)
    is_new = mapping[[target for _, target in points]] > len(known)
    unknown = np.where(mapping > len(known), 0, mapping)
    targets = counts[[target for _, target in points]]
    ranks = {
        "trained": _ranks(trained, points, np.arange(len(mapping))),
        "added": _ranks(after, points, mapping),
        "not_added": _ranks(before, points, unknown),
        "popularity": (counts[1:] >= targets[:, None]).sum(axis=1),
    }
    return {
        "items": len(ids),
        "new_items": len(new),
        **{
            f"{name}_{part}": {"points": int(rows.sum()), **_figures(values[rows])}
            for part, rows in (("of_new", is_new), ("of_known", ~is_new))
            for name, values in ranks.items()
        },
    }


def _condense(
    whole: Config, without: Config, modality: str, mapping: np.ndarray, num_known: int
) -> Condensed:
    """The new items' vectors are in the features of the whole catalogue."""
    teacher = stages.location(without, f"teacher/{modality}")
    autoencoder = Autoencoder.load(os.path.join(teacher, "autoencoder.npz"))
    vectors, present = (
        np.load(os.path.join(teacher, f"{name}.npy"))[1:] for name in ("vectors", "present")
    )
    new = np.zeros((len(mapping) - 1 - num_known, vectors.shape[1]), np.float32)
    new_present = np.zeros(len(new), bool)
    features = Features(stages.location(whole, f"features/{modality}"), len(autoencoder.mean))
    for items, batch in features.batches():
        rows = mapping[items] - num_known - 1
        new[rows[rows >= 0]] = autoencoder.encode(batch[rows >= 0])
        new_present[rows[rows >= 0]] = True
    return Condensed(vectors, present, new, new_present)


def _points(config: Config) -> list[tuple[np.ndarray, int]]:
    """Histories and targets of test points; of many, an even sample."""
    found = [
        (user.items[:point], int(user.items[point]))
        for user in sequences.read_users(stages.location(config, "sequences"))
        for point in range(max(user.num_train, 1), len(user.items))
    ]
    return found[:: max(1, len(found) // _MOST_POINTS)]


def _ranks(
    student: Recommender, points: list[tuple[np.ndarray, int]], mapping: np.ndarray
) -> np.ndarray:
    """Rank of each target, ties last; an item that maps to 0 is unknown to the student."""
    table = np.asarray(student.item_vectors())[1:]
    ranks = np.full(len(points), len(table) + 1)
    for start in range(0, len(points), _USERS_AT_ONCE):
        batch = points[start : start + _USERS_AT_ONCE]
        histories = np.zeros((len(batch), student.max_length), np.int32)
        for row, (history, _) in enumerate(batch):
            last = mapping[history][mapping[history] > 0][-student.max_length :]
            histories[row, : len(last)] = last
        scores = np.asarray(student.user_vectors(histories)) @ table.T
        targets = mapping[[target for _, target in batch]]
        own = scores[np.arange(len(batch)), targets - 1]
        found = (scores >= own[:, None]).sum(axis=1)
        ranks[start : start + len(batch)] = np.where(targets > 0, found, len(table) + 1)
    return ranks


def _figures(ranks: np.ndarray) -> dict[str, float]:
    reciprocal = np.where(ranks <= 20, 1 / ranks, 0)
    figures = {"hr_5": ranks <= 5, "hr_20": ranks <= 20, "mrr_20": reciprocal}
    return {name: round(100 * float(values.mean()), 2) for name, values in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--source", required=True, help="interactions.parquet, items.jsonl")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()

    def configured(name: str, source: str) -> Config:
        overrides = [
            # A user with few items left stays, so that both students have the same users.
            "prepare.k_core=0",
            f"source.image_folders=[{os.path.abspath(options.source)}]",
            f"source.path={source}",
            *options.overrides,
        ]
        return load_config(options.config, overrides, os.path.join(options.workdir, name))

    folder = os.path.join(options.workdir, "source-without")
    whole = configured("whole", options.source)
    without = configured("without", write_without(options.source, folder, options.share))
    for config in (whole, without):
        run_stages(config)
    print(json.dumps({"benchmark": "added_items", **measure(whole, without)}))


if __name__ == "__main__":
    main()
