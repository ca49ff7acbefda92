"""Curves over epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from kdsr_tf.report import plots
from kdsr_tf.report.finished_run import Columns, FinishedRun
from kdsr_tf.schema import HEADLINES

Series = dict[str, list[float | None]]


def describe(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Epochs and plots of one run or two."""
    shown = []
    for title, say, choose, logarithmic in _PLOTS:
        series = [(run.name, _epochs(run), choose(run), run.best_epoch) for run in runs]
        curves = plots.curves_of_runs(series)
        if curves:
            logs = ["y"] if logarithmic and _positive(curves) else []
            svg = plots.lines(curves, title, "epoch", logarithmic=logs)
            shown.append({"title": title, "say": say, "svg": svg})
    return {
        "plots": shown,
        "retention": [
            {"modality": m, "values": [_kept(run, f"retention_{m}") for run in runs]}
            for m in runs[0].config.modalities
        ],
        "runs": [
            {
                "name": run.name,
                "epochs": len(run.history["epoch"]),
                "best": run.best_epoch,
                "rising": run.best_epoch == run.config.train.epochs and _selects(run),
            }
            for run in runs
        ],
    }


def _selects(run: FinishedRun) -> bool:
    """Whether the best epoch was chosen, not just the last one kept."""
    return run.inputs["student"].details.get("selection") in ("validation", "test_oracle")


def _kept(run: FinishedRun, name: str) -> float | None:
    """A column's value at the epoch whose weights were kept."""
    epoch = run.best_epoch or run.history["epoch"][-1]
    return run.history[name][run.history["epoch"].index(epoch)] if name in run.history else None


def _positive(curves: Sequence[plots.Curve]) -> bool:
    values = [value for curve in curves for value in curve.y if value is not None]
    return bool(values) and min(values) > 0


def _ranking(run: FinishedRun) -> Series:
    """HR and MRR at the largest cutoff, in %, of the split that selects."""
    k = max(run.config.evaluate.cutoffs)
    names = {f"{split}_{m}_{k}": m for split in ("val", "test") for m in HEADLINES}
    return {
        f"{metric.upper()}@{k}": [None if v is None else 100 * v for v in run.history[name]]
        for name, metric in names.items()
        if name in run.history
    }


def _measures(**names: str) -> Callable[[FinishedRun], Series]:
    return lambda run: _named(run.history, names)


def _by_modality(pattern: str) -> Callable[[FinishedRun], Series]:
    return lambda run: _named(run.history, {m: pattern.format(m) for m in run.config.modalities})


def _by_prefix(prefix: str) -> Callable[[FinishedRun], Series]:
    def choose(run: FinishedRun) -> Series:
        found = sorted(name for name in run.history if name.startswith(prefix))
        return _named(run.history, {n.removeprefix(prefix).replace("_", " "): n for n in found})

    return choose


def _weighted(run: FinishedRun) -> Series:
    names = sorted(n for n in run.history if n.endswith("_weighted") and not n.startswith("val_"))
    return _named(run.history, {n.removesuffix("_weighted").replace("_", " "): n for n in names})


def _epochs(run: FinishedRun) -> list[float]:
    return cast(list[float], run.history["epoch"])  # never empty, unlike measures


def _named(history: Columns, names: dict[str, str]) -> Series:
    return {shown: history[name] for shown, name in names.items() if name in history}


_PLOTS: tuple[tuple[str, str, Callable[[FinishedRun], Series], bool], ...] = (
    ("Ranking, %", "On the split that selects the epoch.", _ranking, False),
    (
        "Modality retention",
        "Correlation of the similarities in the student's modality tables with the teacher's.",
        _by_modality("retention_{}"),
        False,
    ),
    (
        "Next-item loss",
        "What ranking is learnt from.",
        _measures(train="next_item", validation="val_next_item", test="test_next_item"),
        False,
    ),
    (
        "Total loss",
        "All terms, weighted.",
        _measures(train="loss", validation="val_loss"),
        False,
    ),
    ("Weighted terms", "What each term adds to the total.", _weighted, True),
    ("Score loss", "Before its weight.", _by_modality("{}_score"), True),
    ("Code loss", "Before its weight.", _by_modality("{}_code"), False),
    (
        "Score agreement",
        "Pearson correlation with the teacher's scores on validation pairs.",
        _by_modality("val_{}_score_agreement"),
        False,
    ),
    (
        "Code accuracy",
        "Share of validation pairs whose code is told.",
        _by_modality("val_{}_code_accuracy"),
        False,
    ),
    ("Gradient norm per term", "On one fixed batch.", _by_prefix("term_gradient_"), True),
    (
        "Gradient norm per group",
        "In the last step of the epoch, before clipping.",
        _by_prefix("gradient_norm_"),
        True,
    ),
    ("Learning rate per group", "At the end of the epoch.", _by_prefix("learning_rate_"), True),
)
"""Title, a sentence, the series of a run, and whether the ordinate is logarithmic."""
