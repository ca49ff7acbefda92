"""Running arms and reading them together, on runs with known ranks."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.errors import InputError, KDSRError
from kdsr_tf.experiments import experiment_table
from kdsr_tf.experiments.experiment import Experiment, load_experiment
from kdsr_tf.experiments.experiment_results import collect
from kdsr_tf.experiments.planned_arms import input_locations, plan_arms
from kdsr_tf.runs import experiment_runs
from kdsr_tf.runs.seeded_runs import with_seeds
from tests.experiments import planted

SEEDS = 3
INPUTS = ("sequences", "features/text", "teacher/text", "examples")


@pytest.fixture(scope="module")
def experiment():
    return load_experiment("retention").model_copy(update={"ids_of": None})


@pytest.fixture(scope="module")
def runs(tmp_path_factory, experiment):
    """Three arms of three seeds: the distilled one ranks every target twice as high."""
    arms = plan_arms(experiment, planted.config_in(tmp_path_factory.mktemp("w")), planted.external)
    runs = {arm.name: with_seeds(arm.config, SEEDS) for arm in arms}
    for name, seeded in runs.items():
        for run in seeded:
            planted.write_run(run, name, divisor=2 if name == "distilled" else 1)
    return runs


def hit_rate(divisor, k=20):
    return [100 * np.mean(planted.ranks(seed, divisor) <= k) for seed in range(SEEDS)]


def test_rows_are_means_over_seeds_and_differences_are_to_the_reference(experiment, runs):
    results = collect(experiment, runs, {}, {})
    assert [arm.name for arm in results.arms] == ["ids", "tuned", "distilled"]
    ids, tuned, distilled = results.arms
    assert distilled.figures["hr_20"].values == pytest.approx(hit_rate(2))
    assert tuned.differences == {}
    assert ids.differences["hr_20"].value == 0
    gain = np.mean(hit_rate(2)) - np.mean(hit_rate(1))
    assert distilled.differences["hr_20"].value == pytest.approx(gain)
    assert distilled.differences["hr_20"].p_holm < 0.01
    assert distilled.differences["hr_20"].seeds_test == "paired t"
    assert tuned.figures["seconds_per_epoch"].mean == 3.0
    assert tuned.figures["retention_text"].mean == pytest.approx(0.6)
    assert "retention_text" not in ids.figures
    assert results.selections == ("validation",)


def test_markdown_and_csv_say_the_same_and_how_epochs_were_selected(experiment, runs):
    more = {run.run: {"retention_text_ids": 0.25} for run in runs["tuned"]}
    results = collect(experiment, runs, {"other": "No memory."}, more)
    said = experiment_table.markdown(results)
    heading = next(line for line in said.splitlines() if line.startswith("| arm"))
    assert heading == (
        "| arm | HR@5 | Δ HR@5 | HR@20 | Δ HR@20 | MRR@20 | Δ MRR@20 | retention text "
        "| retention text against ids | epoch | s/epoch |"
    )
    assert "Epochs selected on validation" in said and "Answers Fig. 1" in said
    assert "Not run: other. No memory." in said
    cells = {line.split(" | ")[0]: line.split(" | ") for line in said.splitlines()}
    rows = {
        row["arm"]: row for row in csv.DictReader(io.StringIO(experiment_table.as_csv(results)))
    }
    assert set(rows) == {"ids", "tuned", "distilled"}
    for name, row in rows.items():
        mean, high = float(row["hr_20"]), float(row["hr_20_high"])
        assert cells[f"| {name}"][3] == f"{mean:.2f} ± {high - mean:.2f}"
        assert row["selection"] == "validation"
    assert float(rows["distilled"]["hr_20_p_users"]) < 0.01
    assert cells["| tuned"][8] == "0.250 ± 0.000" and cells["| ids"][8] == ""


def test_oracle_selection_is_said_and_shown_metric_by_metric(experiment, tmp_path):
    arms = plan_arms(experiment, planted.config_in(tmp_path), planted.external, only=["ids"])
    runs = {arm.name: with_seeds(arm.config, 1) for arm in arms}
    [run] = runs["ids"]
    planted.write_run(run, "ids", selection="test_oracle", oracle={"hr_20": 77.0})
    results = collect(experiment, runs, {}, {})
    said = experiment_table.markdown(results)
    assert "Epochs selected on test oracle" in said and "flatter the model" in said
    assert "HR@20 at its own best epoch" in said and "77.00" in said
    # One seed and no reference: neither intervals nor differences are pretended.
    assert "±" not in said.replace("± half", "") and "Δ" not in said
    assert "reference arm tuned has not run" in said and "one seed" in said


def test_unknown_metric_lists_those_there_are(experiment, runs):
    asked = experiment.model_copy(update={"metrics": ["image_diversity_20"]})
    with pytest.raises(InputError, match=r"image_diversity_20.*hr_5, "):
        collect(asked, runs, {}, {})


def test_curves_reach_the_last_epoch_of_every_run_and_mark_the_selected(runs, tmp_path):
    from kdsr_tf.experiments.retention_curves import read_curves, write_curves

    curves = read_curves(runs)
    assert {curve.arm for curve in curves} == {"tuned", "distilled"}
    write_curves(str(tmp_path), curves)
    with open(tmp_path / "retention.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * SEEDS * 3
    chosen = [row for row in rows if row["arm"] == "tuned" and row["selected"] == "True"]
    assert [(r["epoch"], float(r["retention_text"])) for r in chosen] == [("2", 0.6)] * SEEDS
    assert (tmp_path / "retention.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "retention.svg").read_text()


class Stages:
    """Stands for the child processes: commits what a stage would, or fails."""

    def __init__(self, monkeypatch, broken=()):
        self.done: list[tuple[str, str]] = []
        self.broken = broken
        monkeypatch.setattr(experiment_runs, "run_inputs", self.run_inputs)
        monkeypatch.setattr(experiment_runs, "run_seed", self.run_seed)

    def run_inputs(self, config, external, beam_args):
        self.done.append(("inputs", config.run))
        if ("inputs", config.teach.codebook) in self.broken:
            raise KDSRError("Out of luck.")
        planted.commit(config, INPUTS, external)

    def run_seed(self, run, external):
        self.done.append(("seed", run.run))
        if run.run in self.broken:
            raise KDSRError("Loss is nan.")
        planted.write_run(run, "tuned")


GRID = Experiment(
    name="grid",
    description="Which?",
    axes={
        "codebook": {"kmeans": ["teach.codebook=kmeans"], "vq": ["teach.codebook=vq"]},
        "rate": {"slow": ["train.learning_rate=0.001"], "fast": ["train.learning_rate=0.1"]},
    },
    reference="kmeans-slow",
)


def test_failed_arm_does_not_stop_the_others(monkeypatch, tmp_path):
    arms = plan_arms(GRID, planted.config_in(tmp_path), planted.external)
    ran = Stages(monkeypatch, broken=[("inputs", "vq"), "grid-kmeans-fast-seed-0"])
    runs, failures = experiment_runs.run_arms(arms, seeds=2)
    assert list(runs) == ["kmeans-slow"]
    assert failures == {
        "vq-slow": "Out of luck.",
        "vq-fast": "Out of luck.",
        "kmeans-fast": "Loss is nan.",
    }
    # What two arms share fails once; a failed arm's other seeds are not tried.
    assert [what for what in ran.done if what[0] == "inputs"] == [
        ("inputs", "grid-kmeans-slow"),
        ("inputs", "grid-kmeans-fast"),
        ("inputs", "grid-vq-slow"),
    ]
    assert [name for kind, name in ran.done if kind == "seed"] == [
        "grid-kmeans-slow-seed-0",
        "grid-kmeans-fast-seed-0",
        "grid-kmeans-slow-seed-1",
    ]
    # The arm is what `kdsr compare work/runs/grid-kmeans-slow` reads.
    path = tmp_path / "runs" / "grid-kmeans-slow" / "seeds.json"
    assert json.loads(path.read_text())["seeds"] == [0, 1]
    experiment_runs.run_arms(arms, seeds=1)
    assert not path.exists(), "it would name a run that this command did not make"


def test_plan_says_who_makes_what_is_shared_and_what_is_left(tmp_path):
    arms = plan_arms(GRID, planted.config_in(tmp_path), planted.external)

    def cells():
        return {name: tuple(cells) for name, *cells in experiment_runs.left_to_do(arms, seeds=2)}

    assert cells() == {
        "kmeans-slow": ("to do", "to do", "to do", "to do", "2 to do", "2 to do"),
        "kmeans-fast": (*["as kmeans-slow"] * 4, "2 to do", "2 to do"),
        "vq-slow": (*["as kmeans-slow"] * 2, "to do", "to do", "2 to do", "2 to do"),
        "vq-fast": (*["as kmeans-slow"] * 2, *["as vq-slow"] * 2, "2 to do", "2 to do"),
    }
    slow = arms[0]
    planted.commit(slow.config, INPUTS, slow.external)
    first = with_seeds(slow.config, 2)[0]
    planted.commit(first, ("student", "evaluation"), slow.external)
    assert cells()["kmeans-slow"] == (*["up to date"] * 4, "1 to do", "1 to do")
    assert cells()["vq-slow"][:3] == ("up to date", "up to date", "to do")
    assert len(set(map(input_locations, (arm.config for arm in arms)))) == 2
    # A key of training leaves the other arm's runs alone.
    [other] = plan_arms(
        GRID, planted.config_in(tmp_path), planted.external, ["model.dropout=0.4"], ["kmeans-slow"]
    )
    assert experiment_runs.left_to_do([other], seeds=2)[0][5:] == ["2 to do", "2 to do"]
    assert artifacts.find_manifest(stages.location(first, "student")) is not None
