"""Two arms with teachers of their own and two seeds, small and for real."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kdsr_tf import artifacts
from kdsr_tf.datasets.demo import generate

ROOT = Path(__file__).parent.parent.parent
EXPERIMENT = """
name: codes
description: Do few codes do?
base: [train.epochs=1]
arms:
  ids: [model.modality_tables=off, distillation.enabled=false]
  few: [teach.num_codes=4]
reference: ids
metrics: [hr_20]
ids_of: ids
"""


def kdsr(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "kdsr_tf", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_experiment_on_the_boutique(tmp_path):
    generate(str(tmp_path / "shop"), num_items=40, num_users=80, seed=0)
    config = {
        "source": {"path": "shop"},
        "encode": {"text": {"encoder": "embedded", "template": "{title}"}},
        "windows": {"max_length": 10, "stride": 5},
        "model": {"dim": 16, "num_layers": 1},
        "teach": {"num_codes": 8},
        "train": {"epochs": 1},
    }
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "codes.yaml").write_text(EXPERIMENT)
    command = ["experiment", "codes.yaml", "--config", "shop.yaml", "--seeds", "2"]
    done = kdsr(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert "HR@20" in done.stdout and "Epochs selected on validation" in done.stdout

    work = tmp_path / "work"
    folder = work / "experiments" / "codes"
    with open(folder / "table.csv") as file:
        ids, few = csv.DictReader(file)
    assert (ids["arm"], few["arm"], few["seeds"]) == ("ids", "few", "0 1")
    assert float(few["hr_20_difference"]) == pytest.approx(
        float(few["hr_20"]) - float(ids["hr_20"])
    )
    assert -1 <= float(few["retention_text_ids"]) < 0.9 < float(few["retention_text"]) <= 1
    with open(folder / "retention.csv") as file:
        curves = {(row["seed"], row["epoch"]): row for row in csv.DictReader(file)}
    assert set(curves) == {("0", "1"), ("1", "1")}
    at_the_end = [float(row["retention_text_ids"]) for row in curves.values()]
    assert sum(at_the_end) / 2 == pytest.approx(float(few["retention_text_ids"]), abs=1e-3)
    assert (folder / "retention.png").stat().st_size > 1000
    # One teacher, of the arm that reads one, and one set of features for both; none of them
    # takes the place of the user's own.
    assert (work / "features" / "text").is_dir() and not (work / "variants" / "features").exists()
    [few_teacher] = (work / "variants" / "teacher" / "text").iterdir()
    manifest = artifacts.read_manifest(str(few_teacher), written_by="teach")
    assert manifest.config["teach"]["num_codes"] == 4 and not (work / "teacher").exists()

    compared = kdsr(tmp_path, "compare", "work/runs/codes-ids", "work/runs/codes-few", "--csv")
    assert f",{few['hr_20_difference']}," in compared.stdout
    before = {path: path.stat().st_mtime_ns for path in work.rglob("manifest.json")}
    again = kdsr(tmp_path, *command)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert {path: path.stat().st_mtime_ns for path in work.rglob("manifest.json")} == before
