"""Committed `evaluation/` folders with given ranks."""

from __future__ import annotations

import numpy as np

from kdsr_tf import artifacts
from kdsr_tf.artifacts import Manifest
from kdsr_tf.evaluation.evaluation_files import write_metrics, write_users
from kdsr_tf.evaluation.summary import Rankings, TestPoints, slice_points, summarise

NUM_ITEMS = 50
CUTOFFS = [5, 20]


def test_points(num_users: int = 40, seed: int = 0) -> TestPoints:
    """One to four points per user, in a mixed order."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users), rng.integers(1, 5, num_users))
    positions = np.concatenate([np.arange(4, 4 + n) for n in np.bincount(users)])
    order = rng.permutation(len(users))
    return TestPoints(
        user_ids=[f"user{users[k]:03d}" for k in order],
        positions=positions[order],
        window_starts=np.zeros(len(users), np.int64),
        targets=rng.integers(1, NUM_ITEMS + 1, len(users)),
    )


test_points.__test__ = False


def write_evaluation(
    folder: str,
    points: TestPoints,
    ranks: np.ndarray,
    *,
    selection: str = "validation",
    seed: int = 0,
    oracle: dict[str, float] | None = None,
    **protocol: object,
) -> str:
    """Commit `folder`; every item was seen in training as often as its index says."""
    found = Rankings(
        points=points,
        ranks=ranks,
        popularity_ranks=np.full(len(ranks), 7),
        lists=np.tile(np.arange(1, 21), (len(ranks), 1)),
    )
    counts = np.arange(NUM_ITEMS + 1)
    slices = slice_points(points.targets, points.positions, counts, {}, 0.2, 5)
    summary = {
        "selection": selection,
        "training": {"seed": seed, "best_epoch": 1, "refit": False},
        "cutoffs": CUTOFFS,
        "protocol": {
            "split": "ratio",
            "test_fraction": 0.2,
            "candidates": NUM_ITEMS,
            "filter_seen": False,
            "ties": "pessimistic",
            **protocol,
        },
        **({"oracle": oracle} if oracle else {}),
        **summarise(found, slices, {}, NUM_ITEMS, CUTOFFS, seed=0),
    }
    manifest = Manifest(artifact="evaluation", fingerprint="0" * 16, inputs={"sequences": "s1"})
    manifest.details = {key: summary[key] for key in summary if key != "slices"}
    with artifacts.committing(folder, manifest) as target:
        write_users(target, found, slices, [f"i{k}" for k in counts], counts, selection)
        write_metrics(target, summary)
    return folder
