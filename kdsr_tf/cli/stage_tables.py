"""The tables a stage and a run end with, made from manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.console import console, table
from kdsr_tf.evaluation.evaluation_files import read_evaluation
from kdsr_tf.evaluation.significance import Spread
from kdsr_tf.runs.pipeline import NOT_NEEDED, UP_TO_DATE, StageOutcome
from kdsr_tf.runs.plan import State
from kdsr_tf.schema import ACCURACY, HEADLINES
from kdsr_tf.stages import count_name

_MIB = 2**20
_KEY_COUNTS = {
    "prepare": ("users", "items", "interactions", "test_points", "rejected"),
    "encode": ("encoded", "reused", "rejected"),
    "teach": ("items", "pairs"),
    "distill": ("train_windows", "test_windows", "pairs"),
    "train": ("epochs", "steps", "parameters"),
    "evaluate": ("test_points", "users"),
    "export": ("version", "items", "checks"),
    "report": ("bytes",),
}
"""Counts in the table of a run; a stage's own table shows all."""


def show_plan(states: Iterable[State]) -> None:
    """Print what `--dry-run` shows: what would run, and why."""
    rows = [
        (
            state.artifact.stage,
            state.artifact.name,
            UP_TO_DATE if state.up_to_date else "would run: " + "; ".join(state.reasons),
        )
        for state in states
    ]
    console.print(table("What would run, and why", ("stage", "artifact", "state"), rows))


def show_outcome(config: Config, outcome: StageOutcome) -> None:
    """Print what one stage has written; of an evaluation also its figures."""
    stage = outcome.stage
    if outcome.state == NOT_NEEDED:
        why = "nothing reads it" if config.modalities else "no modality has an encoder"
        if stage == stages.TRIPLETS:
            why = "nothing is distilled"
        console.print(f"{stage}: nothing to do, because {why}.")
        return
    if outcome.state == UP_TO_DATE:
        console.print(f"{stage}: {UP_TO_DATE}.")
        return
    console.print(stage_table(stage, outcome.manifests))
    if stage == "evaluate":
        evaluation = read_evaluation(stages.location(config, "evaluation"))
        cutoffs = config.evaluate.cutoffs
        console.print(metrics_table(evaluation.summary, cutoffs))
        console.print(slices_table(evaluation.summary["slices"], max(cutoffs)))


def show_run(config: Config, outcomes: Iterable[StageOutcome]) -> None:
    """Print what a whole run did, its figures and where its report is."""
    evaluation = artifacts.read_manifest(
        stages.location(config, "evaluation"), written_by="evaluate"
    )
    console.print(run_table(outcomes))
    console.print(metrics_table(evaluation.details, config.evaluate.cutoffs))
    page = artifacts.join(stages.location(config, "report"), "index.html")
    console.print(f"The report: {page}", markup=False, soft_wrap=True)


def stage_table(stage: str, manifests: Sequence[Manifest]) -> Table:
    """What one stage has written: counts, plain details and seconds."""
    rows = []
    for manifest in manifests:
        plain = {k: v for k, v in manifest.details.items() if isinstance(v, int | float | str)}
        for name, value in (manifest.counts | plain | {"seconds": manifest.seconds}).items():
            rows.append((manifest.artifact, count_name(manifest.artifact, name), value))
    return table(f"{stage}: done", ("artifact", "what", "value"), rows)


def run_table(outcomes: Iterable[StageOutcome]) -> Table:
    """What a whole run did, a row per stage.

    The seconds of a stage that was up to date are those of the run that wrote it, in
    brackets: of the stage alone, where the others are of a whole process.
    """
    outcomes = list(outcomes)
    rows = [
        (
            outcome.stage,
            outcome.state,
            _seconds(outcome),
            f"{outcome.spent.processor_seconds:.1f}" if outcome.spent else "",
            f"{outcome.spent.peak_bytes / _MIB:,.0f}" if outcome.spent else "",
            _counts(outcome),
        )
        for outcome in outcomes
    ]
    columns = ("stage", "state", "seconds", "processor s", "peak MiB", "counts")
    made = table("Stages", columns, rows)
    if any(outcome.spent is None and outcome.manifests for outcome in outcomes):
        made.caption = "(seconds): of the stage alone, in the earlier run that wrote it"
        made.caption_justify = "left"
    return made


def metrics_table(details: Mapping[str, Any], cutoffs: Sequence[int]) -> Table:
    """Accuracy of the student in per cent, beside the popularity ranking; then the rest.

    `details` are those of the manifest of `evaluation/`, `cutoffs` the values of k.
    """
    metrics, intervals = details["metrics"], details["intervals"]
    oracle, rows = details.get("oracle", {}), []
    names = [f"{kind}_{k}" for kind in ACCURACY for k in cutoffs]
    for name in (name for name in names if name in intervals):
        low, high = intervals[name]
        rows.append(
            (
                name.upper().replace("_", "@"),
                f"{metrics[name]:.2f}",
                f"{low:.2f} – {high:.2f}",
                f"{details['popularity'][name]:.2f}",
                *([f"{oracle[name]:.2f}" if name in oracle else ""] if oracle else []),
            )
        )
    empty = ("",) * (3 if oracle else 2)
    others = (name.rpartition("_") for name in metrics if name not in intervals)
    # A manifest holds them in the order of their spelling, @20 before @5.
    for kind, _, k in sorted(others, key=lambda parts: (parts[0], int(parts[2]))):
        unit = "share of items" if kind == "coverage" else "1 − cosine"
        value = metrics[f"{kind}_{k}"]
        rows.append((f"{_words(kind)}@{k} ({unit})", f"{value:.3f}", *empty))
    points = details.get("counts", {}).get("test_points")
    on = f", all {points:,} test points" if points else ""
    title = f"Test metrics in %{on} (epoch selected on {details['selection'].replace('_', ' ')})"
    columns = ["metric", "student", "95% interval", "popularity"]
    return table(title, [*columns, "at its own best epoch"] if oracle else columns, rows)


def slices_table(slices: Mapping[str, Any], k: int) -> Table:
    """HR and MRR at one cutoff, in per cent, for every kind of test points (of `metrics.json`).

    Few columns, because a terminal of 80 columns shall break no word.
    """
    rows = []
    for name, groups in slices.items():
        for group, found in groups.items():
            cells: list[object] = [f"{_words(name)}: {group}", found["counts"]["test_points"]]
            for kind in (f"{kind}_{k}" for kind in HEADLINES):
                low, high = found["intervals"][kind]
                cells.append(f"{found['metrics'][kind]:.1f} ({low:.1f} – {high:.1f})")
            rows.append(cells)
    headlines = (f"{kind.upper()}@{k}" for kind in HEADLINES)
    title = "Kinds of test points, in % (95% interval)"
    return table(title, ["slice", "points", *headlines], rows)


def seeds_table(spreads: Mapping[str, Spread], selection: str) -> Table:
    """Mean over seeds, its interval and every value, as `over_seeds` gives them."""
    rows = [
        (
            name.replace("_", "@") if name.count("_") == 1 else name,
            f"{spread.mean:.4g}",
            f"{spread.low:.4g} – {spread.high:.4g}",
            "  ".join(f"{value:.4g}" for value in spread.values),
        )
        for name, spread in spreads.items()
    ]
    number = len(next(iter(spreads.values())).values)
    title = f"{number} seeds (epochs selected on {selection.replace('_', ' ')})"
    return table(title, ("metric", "mean", "95% interval of the mean", "values"), rows)


def _seconds(outcome: StageOutcome) -> str:
    if outcome.spent is not None:
        return f"{outcome.spent.seconds:.1f}"
    earlier = sum(manifest.seconds for manifest in outcome.manifests)
    return f"({earlier:.1f})" if outcome.manifests else ""


def _counts(outcome: StageOutcome) -> str:
    parts = []
    for manifest in outcome.manifests:
        prefix = manifest.artifact.rpartition("/")[2] + ": " if len(outcome.manifests) > 1 else ""
        found = [
            f"{count_name(manifest.artifact, name)} {manifest.counts[name]:,}"
            for name in _KEY_COUNTS[outcome.stage]
            if name in manifest.counts
        ]
        parts.append(prefix + ", ".join(found))
    return "; ".join(parts)


def _words(name: str) -> str:
    return name.replace("_", " ")
