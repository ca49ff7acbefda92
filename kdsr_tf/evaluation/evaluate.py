"""The `evaluate` stage: every test point ranked against the whole catalogue."""

from __future__ import annotations

import csv
import os
from typing import Any

import fsspec
import numpy as np

from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.console import console, progress
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation import rank_metrics
from kdsr_tf.evaluation.evaluation_files import ORACLE, ORACLE_WARNING, write_metrics, write_users
from kdsr_tf.evaluation.evaluation_inputs import (
    ItemCatalogue,
    read_catalogue,
    read_features,
    read_windows,
)
from kdsr_tf.evaluation.ranker import Ranker, exclude, parts, popularity_ranks
from kdsr_tf.evaluation.summary import Rankings, TestPoints, slice_points, summarise
from kdsr_tf.methods.served import read_served
from kdsr_tf.sequences import NO_TEST_POINT, check_test_points, read_users
from kdsr_tf.stage_frame import StageFrame

_BATCHES_AT_ONCE = 16
"""Batches of test points read together, to find windows that share a pass or a length."""

_DISTILLED = ("retention", "agreement", "code_accuracy")


def evaluate(config: Config) -> Manifest:
    """Rank all items for every test point; write `metrics.json`, `users.parquet`, `retention.csv`.

    Equal scores rank against the model. The manifest's details are `metrics.json` without slices.

    Raises:
        MissingArtifactError: naming the stage to run first.
        InputError: if there is no test point.
    """
    with StageFrame(config, "evaluation") as frame:
        inputs, manifest = frame.inputs, frame.manifest
        check_test_points(stages.location(config, "sequences"))
        catalogue = read_catalogue(config)
        ranker = Ranker(read_served(config), config.evaluate.batch_size)
        spaces = {
            m: read_features(config, m, inputs[f"features/{m}"].details["size"])
            for m in config.modalities
        }
        target = frame.new_folder()
        found = rank(config, ranker, catalogue, inputs[stages.windows_of(config)])
        slices = slice_points(
            found.points.targets,
            found.points.positions,
            catalogue.train_counts,
            {m: present for m, (_, present) in spaces.items()},
            config.evaluate.head_share,
            config.evaluate.cold_below,
        )
        origin = _origin(config, inputs["student"], len(catalogue))
        selection = origin["selection"]
        cutoffs = config.evaluate.cutoffs
        summary = origin | summarise(found, slices, spaces, len(catalogue), cutoffs, config.seed)
        write_users(target, found, slices, catalogue.item_ids, catalogue.train_counts, selection)
        write_metrics(target, summary)
        _copy_retention(config, target)
        manifest.counts = summary["counts"] | {"items": len(catalogue)}
        manifest.details = {key: summary[key] for key in summary if key != "slices"}
        if selection == ORACLE:
            console.print(f"Warning: {ORACLE_WARNING}", style="yellow", markup=False)
    return manifest


def _origin(config: Config, student: Manifest, num_items: int) -> dict[str, Any]:
    """What the figures were made under."""
    trained = student.details
    origin = {
        "selection": trained.get("selection", "validation"),
        "training": {
            "seed": config.training_seed,
            **{key: trained.get(key) for key in ("best_epoch", "refit")},
        },
        "cutoffs": config.evaluate.cutoffs,
        "protocol": {
            "split": config.prepare.split,
            "test_fraction": config.prepare.test_fraction,
            "candidates": num_items,
            "filter_seen": config.evaluate.filter_seen,
            "ties": "pessimistic",
            "head_share": config.evaluate.head_share,
            "cold_below": config.evaluate.cold_below,
            "max_length": config.windows.max_length,
        },
    }
    if trained.get("oracle"):
        origin["oracle"] = {name: 100 * value for name, value in trained["oracle"].items()}
    return origin


def rank(config: Config, ranker: Ranker, catalogue: ItemCatalogue, examples: Manifest) -> Rankings:
    """Rank the target of every test window; ranks and lists are in the order of the records.

    `examples` is the manifest of `examples/`, for the number of test windows.
    """
    seen = None
    if config.evaluate.filter_seen:
        users_in_order = read_users(stages.location(config, "sequences"))
        seen = {user.user_id: user.items for user in users_in_order}
    k = max(config.evaluate.cutoffs)
    users: list[str] = []
    starts, positions, targets, ranks, popularity, lists = ([] for _ in range(6))
    with progress("evaluate", total=examples.counts.get("test_windows")) as bar:
        location = stages.location(config, stages.windows_of(config))
        at_once = _BATCHES_AT_ONCE * config.evaluate.batch_size
        for batch in read_windows(location, "test", at_once):
            target = np.array([row[-1] for row in batch.targets], np.int64)
            position = batch.starts + [len(history) for history in batch.items]
            known = None
            if seen is not None:
                stops = zip(batch.user_ids, position, strict=True)
                known = [seen[user][:stop] for user, stop in stops]
            vectors = ranker.vectors(batch.items)
            for part in parts(len(target), ranker.rows_at_once):
                scores = ranker.scores(vectors[part])
                if known:
                    exclude(scores, known[part])
                ranks.append(rank_metrics.pessimistic_ranks(scores, target[part]))
                lists.append(rank_metrics.top_k(scores, k))
                bar.advance(len(scores))
            popularity.append(popularity_ranks(catalogue.train_counts, target, known))
            users += batch.user_ids
            starts.append(batch.starts)
            positions.append(position)
            targets.append(target)
    if not ranks:
        raise InputError(NO_TEST_POINT.format(location))
    return Rankings(
        points=TestPoints(
            user_ids=users,
            positions=np.concatenate(positions),
            window_starts=np.concatenate(starts),
            targets=np.concatenate(targets),
        ),
        ranks=np.concatenate(ranks),
        popularity_ranks=np.concatenate(popularity),
        lists=np.concatenate(lists),
    )


def _copy_retention(config: Config, target: str) -> None:
    """What the student kept of its teacher, per epoch, out of its history."""
    with fsspec.open(join(stages.location(config, "student"), "history.csv"), "r") as file:
        rows = list(csv.DictReader(file))
    columns = [
        name
        for name in (rows[0] if rows else [])
        if name == "epoch" or any(part in name for part in _DISTILLED)
    ]
    with fsspec.open(os.path.join(target, "retention.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
