"""The files of `evaluation/`, written and read back. No TensorFlow.

docs/architecture.md describes every field.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf import artifacts, schema
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.errors import StaleArtifactError
from kdsr_tf.evaluation.summary import Rankings, Slice

VERSION = 1
"""Of `metrics.json` and `users.parquet`; raised when a field changes its meaning."""

METRICS_FILE = "metrics.json"
USERS_FILE = "users.parquet"

ORACLE = "test_oracle"
ORACLE_WARNING = (
    "The epoch was selected on the test points (train.selection=test_oracle): these figures "
    "flatter the model. They compare with published tables that were made the same way only."
)

TARGET_ID = "target_id"
TARGET_TRAIN_COUNT = "target_train_count"
POSITION = "position"
RANK = "rank"
POPULARITY_RANK = "popularity_rank"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A committed `evaluation/`, read back; `summary` is the content of `metrics.json`."""

    directory: str
    manifest: Manifest
    summary: dict[str, Any]

    def users(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of `users.parquet`, one per test point, sorted by user and position."""
        with fsspec.open(join(self.directory, USERS_FILE), "rb") as file:
            return pq.read_table(file, columns=None if columns is None else list(columns))


def read_evaluation(directory: str) -> Evaluation:
    """A committed `evaluation/`.

    Raises:
        MissingArtifactError: if it is not there or not committed.
        StaleArtifactError: if another version of KDSR-TF wrote it.
    """
    manifest = artifacts.read_manifest(directory, written_by="evaluate")
    with fsspec.open(join(directory, METRICS_FILE), "r") as file:
        summary = json.load(file)
    if summary.get("version") != VERSION:
        raise StaleArtifactError(
            f"{join(directory, METRICS_FILE)} has version {summary.get('version')}; this KDSR-TF "
            f"reads version {VERSION}. Run `kdsr evaluate` again."
        )
    return Evaluation(directory=directory, manifest=manifest, summary=summary)


def figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by name, of `metrics.json` or of the details of its manifest.

    Under `test_oracle` also each metric at its own best epoch, as `oracle_*`.
    """
    oracle = summary.get("oracle", {})
    return summary["metrics"] | {f"oracle_{name}": value for name, value in oracle.items()}


def write_metrics(directory: str, summary: Mapping[str, Any]) -> None:
    """Write `metrics.json`."""
    with fsspec.open(join(directory, METRICS_FILE), "w") as file:
        json.dump({"version": VERSION, **summary}, file, indent=2)


def write_users(
    directory: str,
    found: Rankings,
    slices: Mapping[str, Slice],
    item_ids: Sequence[str],
    train_counts: np.ndarray,
    selection: str,
) -> None:
    """Write `users.parquet`.

    Each of the slices becomes a column. `item_ids` and `train_counts` are `(items + 1,)`; the way
    the epoch was selected is kept as metadata of the file.
    """
    points = found.points
    order = np.lexsort((points.positions, np.array(points.user_ids)))
    targets = points.targets[order]
    table = pa.table(
        {
            schema.USER_ID: [points.user_ids[row] for row in order],
            POSITION: points.positions[order],
            schema.WINDOW_START: points.window_starts[order],
            schema.TARGET: pa.array(targets, pa.int32()),
            TARGET_ID: pa.array([item_ids[target] for target in targets]).dictionary_encode(),
            TARGET_TRAIN_COUNT: pa.array(train_counts[targets], pa.int64()),
            RANK: pa.array(found.ranks[order], pa.int32()),
            POPULARITY_RANK: pa.array(found.popularity_ranks[order], pa.int32()),
            **{
                title: pa.DictionaryArray.from_arrays(codes[order], pa.array(groups))
                for title, (groups, codes) in slices.items()
            },
        }
    ).replace_schema_metadata({"version": str(VERSION), "selection": selection})
    with fsspec.open(join(directory, USERS_FILE), "wb") as file:
        pq.write_table(table, file)
