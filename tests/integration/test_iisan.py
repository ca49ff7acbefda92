"""A model without ids, small and for real: the demo, and the paper's values on its files."""

from __future__ import annotations

import csv
import json

import pytest

from tests.integration.conftest import ROOT, SMALL


@pytest.fixture(scope="module")
def demo(kdsr):
    done = kdsr("demo", "--method", "iisan", *SMALL)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_demo_ends_with_recommendations(kdsr, demo):
    work = kdsr.folder / "work" / "demo-iisan"
    assert not (work / "teacher").exists() and (work / "states" / "image" / "rows.npy").exists()
    assert "demo_iisan.yaml" in demo and "recommend" in demo
    details = json.loads((work / "student" / "manifest.json").read_text())["details"]
    assert details["groups"]["side"] > 0
    assert (work / "report" / "index.html").exists()


def test_the_papers_values_run_from_files_to_a_served_answer(kdsr, demo):
    arguments = ("--set", "source.path=work/demo-iisan/source", "--workdir", "work/side")
    config = str(ROOT / "configs" / "iisan.yaml")
    done = kdsr("run", "--config", config, *arguments, "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    work = kdsr.folder / "work" / "side"
    with open(work / "student" / "history.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["learning_rate_side"]) == pytest.approx(1e-4)
    assert float(row["learning_rate_rest"]) == pytest.approx(2e-4)
    metrics = json.loads((work / "evaluation" / "metrics.json").read_text())
    assert metrics["protocol"]["filter_seen"] and "hr_10" in metrics["metrics"]
