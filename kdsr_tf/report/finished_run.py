"""What the report reads of one run."""

from __future__ import annotations

import csv
import dataclasses

import fsspec

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.evaluation.evaluation_files import Evaluation, read_evaluation

Columns = dict[str, list[float | None]]
"""Values per epoch by name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run, its name for where there are two, and `student/history.csv` by column."""

    name: str
    config: Config
    inputs: dict[str, Manifest]
    evaluation: Evaluation
    history: Columns

    @property
    def best_epoch(self) -> float | None:
        """The epoch whose weights were kept, from 1."""
        return self.inputs["student"].details.get("best_epoch")

    @property
    def is_distilled(self) -> bool:
        """Whether the teacher took part in training."""
        return bool(self.config.needs.pairs)

    def manifests(self) -> list[Manifest]:
        """Manifests of everything committed but the report, in running order."""
        found = (
            artifacts.find_manifest(stages.location(self.config, artifact.name))
            for artifact in stages.artifacts_of(self.config)
            if artifact.name != "report"
        )
        return [manifest for manifest in found if manifest is not None]


def read_finished_run(config: Config, name: str | None = None) -> FinishedRun:
    """Read a run; without a `name` it has that of its folder.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if two stages descend from different data.
    """
    return FinishedRun(
        name=name or config.run_directory.rstrip("/").rsplit("/", 1)[-1],
        config=config,
        inputs=stage_frame.read_inputs(config, "report"),
        evaluation=read_evaluation(stages.location(config, "evaluation")),
        history=_read_history(join(stages.location(config, "student"), "history.csv")),
    )


def _read_history(path: str) -> Columns:
    with fsspec.open(path, "r") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) if row[name] else None for row in rows] for name in rows[0]}
