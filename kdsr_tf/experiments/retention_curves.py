"""What the students of an experiment kept of the modalities (paper, Fig. 1 right).

The curve over epochs, against the modality's own vectors, is part of every student's
history. Against the ids of a model that has nothing else, it is measured here: for every
epoch on the similarities that training kept, and on the students that came out of it.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence

import fsspec
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.console import csv_text
from kdsr_tf.metrics.modality_retention import (
    correlation,
    modality_retention,
    pair_cosines,
    sample_pairs,
)

_PREFIX, _IDS = "retention_", "_ids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Retention of one run.

    `values` has a figure per epoch by modality; under `<modality>_ids` that against the ids of
    another model.
    """

    arm: str
    seed: int
    epochs: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    best_epoch: int


def read_ids(runs: Sequence[Config]) -> dict[int, np.ndarray]:
    """Ids `(num_items + 1, d)` of the students that were kept, by training seed."""
    from kdsr_tf.schema import IDS

    return {run.training_seed: _rows(run)[IDS] for run in runs}


def read_curves(
    runs: Mapping[str, Sequence[Config]], ids: Mapping[int, np.ndarray] | None = None
) -> list[Curve]:
    """The curves of all runs whose student has modality tables.

    With `ids`, the result of `read_ids` for an arm without modality tables, the tables are compared
    with those of the same seed, too.
    """
    ids, curves = ids or {}, []
    for arm, seeded in runs.items():
        for run in seeded:
            directory = stages.location(run, "student")
            student = artifacts.read_manifest(directory, written_by="train")
            with fsspec.open(join(directory, "history.csv"), "r") as file:
                rows = list(csv.DictReader(file))
            names = [name for name in rows[0] if name.startswith(_PREFIX)]
            if names:
                table = ids.get(run.training_seed)
                by_ids = {} if table is None else _curves_against(run, table, len(rows))
                curves.append(
                    Curve(
                        arm=arm,
                        seed=run.training_seed,
                        epochs=tuple(int(row["epoch"]) for row in rows),
                        values={
                            name.removeprefix(_PREFIX): tuple(float(row[name]) for row in rows)
                            for name in names
                        }
                        | by_ids,
                        best_epoch=int(student.details["best_epoch"]),
                    )
                )
    return curves


def write_curves(directory: str, curves: Sequence[Curve]) -> None:
    """Write `retention.csv`, `retention.svg` and `retention.png` of at least one curve."""
    rows = [
        {"arm": curve.arm, "seed": curve.seed, "epoch": epoch}
        | {"selected": epoch == curve.best_epoch}
        | {_PREFIX + modality: values[place] for modality, values in curve.values.items()}
        for curve in curves
        for place, epoch in enumerate(curve.epochs)
    ]
    artifacts.write_text(join(directory, "retention.csv"), csv_text(rows))
    figure = plot_curves(curves)
    for kind in ("svg", "png"):
        with (
            matplotlib.rc_context({"svg.hashsalt": "retention"}),
            fsspec.open(join(directory, f"retention.{kind}"), "wb") as file,
        ):
            stamp = {"Date": None} if kind == "svg" else {}
            figure.savefig(file, format=kind, dpi=150, metadata=stamp)


def plot_curves(curves: Sequence[Curve]) -> Figure:
    """A panel per modality; a colour per arm, a line per seed, a dot at the selected epoch.

    What is against ids stands in a second row.
    """
    modalities = sorted(
        dict.fromkeys(m for curve in curves for m in curve.values), key=lambda m: m.endswith(_IDS)
    )
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    columns = sum(not modality.endswith(_IDS) for modality in modalities)
    rows = -(-len(modalities) // columns)
    figure = Figure(figsize=(5.6 * columns, 3.6 * rows), layout="constrained")
    for place, modality in enumerate(modalities, start=1):
        panel = figure.add_subplot(rows, columns, place)
        labelled = set()
        for curve in curves:
            if modality not in curve.values:
                continue
            values, colour = curve.values[modality], f"C{arms.index(curve.arm) % 10}"
            label = None if curve.arm in labelled else curve.arm
            labelled.add(curve.arm)
            panel.plot(curve.epochs, values, color=colour, alpha=0.8, linewidth=1.4, label=label)
            best = curve.epochs.index(curve.best_epoch)
            panel.plot(curve.best_epoch, values[best], "o", color=colour, markersize=5)
        title = modality.replace(_IDS, " against ids")
        panel.set(title=title, xlabel="epoch (dot: selected)", ylabel="retention")
        low, high = panel.get_ylim()
        if title == modality:
            panel.set_ylim(min(0.0, low), 1.02)
        else:  # mostly near 0
            panel.set_ylim(min(-0.1, low), max(0.3, high))
        panel.locator_params(axis="x", integer=True)
        panel.grid(alpha=0.2)
        panel.legend(fontsize=8)
    return figure


def against_ids(
    runs: Mapping[str, Sequence[Config]], ids: Mapping[int, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Correlate item-item similarities in modality tables with those in an id-only model's ids.

    Both students are those that were kept, of the same seed; a seed that `ids`, the result of
    `read_ids` for the id-only arm, lacks is left out.

    Returns:
        Per name of a run: `retention_{m}_ids`, Pearson's correlation over a fixed sample
        of pairs of items that have modality m; arms without tables are left out.
    """
    found = {}
    for seeded in runs.values():
        for run in seeded:
            if run.training_seed not in ids or run.model.modality_tables == "off":
                continue
            theirs, tables = ids[run.training_seed], _rows(run)
            found[run.run or ""] = {
                f"{_PREFIX}{m}{_IDS}": modality_retention(tables[m], theirs, *_pairs(run, m))
                for m in run.modalities
            }
    return found


def _curves_against(run: Config, ids: np.ndarray, epochs: int) -> dict[str, tuple[float, ...]]:
    """Per modality and epoch; nothing where training did not keep its similarities."""
    from kdsr_tf.training.callbacks import SIMILARITIES, similarities_file

    folder = join(stages.location(run, "student"), "logs", "select", SIMILARITIES)
    curves = {}
    for modality in run.modalities:
        files = [similarities_file(folder, modality, epoch + 1) for epoch in range(epochs)]
        if all(map(artifacts.exists, files)):
            theirs = pair_cosines(ids, *_pairs(run, modality))
            curves[f"{modality}{_IDS}"] = tuple(correlation(_load(f), theirs) for f in files)
    return curves


def _load(path: str) -> np.ndarray:
    with fsspec.open(path, "rb") as file:
        return np.load(file).astype(np.float64)


def _rows(run: Config) -> dict[str, np.ndarray]:
    import keras

    from kdsr_tf.methods.served import read_served

    tables = read_served(run).item_encoder.row_variables()
    return {name: keras.ops.convert_to_numpy(rows) for name, rows in tables.items()}


def _pairs(run: Config, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of which training kept the similarities."""
    from kdsr_tf.training.callbacks import RETENTION_PAIRS

    path = join(stages.location(run, f"teacher/{modality}"), "present.npy")
    return sample_pairs(_load(path), RETENTION_PAIRS, run.training_seed)
