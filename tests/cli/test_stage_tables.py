from __future__ import annotations

from rich.console import Console

from kdsr_tf.artifacts import Manifest
from kdsr_tf.cli.stage_tables import StageOutcome, metrics_table, run_table, slices_table
from kdsr_tf.runs.child_processes import Spent


def shown(table, width=160):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_stage_that_did_not_run_shows_what_it_took_then():
    manifest = Manifest(artifact="student", fingerprint="x", seconds=3.2, counts={"epochs": 7})
    text = shown(
        run_table(
            [
                StageOutcome(stage="train", state="up to date", manifests=[manifest]),
                StageOutcome(stage="train", state="done", spent=Spent(4.5, 7.25, 2**30)),
            ]
        )
    )
    kept, ran = (line.split() for line in text.splitlines() if line.startswith("  train"))
    assert kept == ["train", "up", "to", "date", "(3.2)", "epochs", "7"]
    assert ran == ["train", "done", "4.5", "7.2", "1,024"]
    words = " ".join(text.split())
    assert "(seconds): of the stage alone, in the earlier run that wrote it" in words


def test_a_stage_that_was_not_needed_took_no_time():
    text = shown(run_table([StageOutcome(stage="teach", state="not needed")]))
    [row] = (line.split() for line in text.splitlines() if line.startswith("  teach"))
    assert row == ["teach", "not", "needed"]
    assert "earlier" not in text


def test_metrics_stand_beside_their_intervals_and_popularity():
    # In the order of a manifest, whose keys are sorted as words.
    diversity = {"text_diversity_10": 0.5, "text_diversity_5": 0.4375}
    metrics = {"coverage_5": 0.25, "hr_5": 12.5, "mrr_5": 6.25, **diversity}
    details = {
        "metrics": metrics,
        "intervals": {"hr_5": [12.0, 13.0], "mrr_5": [6.0, 6.5]},
        "popularity": {"hr_5": 1.0, "mrr_5": 0.5},
        "selection": "test_oracle",
    }
    text = shown(metrics_table(details, [5]))
    assert "selected on test oracle" in text
    assert "HR@5" in text and "12.50" in text and "12.00 – 13.00" in text and "0.50" in text
    order = ["coverage@5 (share of items)", *(f"text diversity@{k} (1 − cosine)" for k in (5, 10))]
    places = [text.index(name) for name in order]
    assert "0.438" in text and places == sorted(places)


def test_every_group_has_its_own_row_of_80_columns():
    head = {
        "counts": {"test_points": 1200, "users": 30},
        "metrics": {"hr_5": 12.54, "mrr_5": 6.25},
        "intervals": {"hr_5": [12.0, 13.0], "mrr_5": [6.0, 6.5]},
    }
    text = shown(slices_table({"target_popularity": {"head": head}}, 5), width=80)
    [row] = (line for line in text.splitlines() if "1,200" in line)
    assert row.strip().split("  ")[0] == "target popularity: head"
    assert "12.5 (12.0 – 13.0)" in row and "6.2 (6.0 – 6.5)" in row
