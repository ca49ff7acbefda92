"""`kdsr search`: a real Optuna study; a formula stands for training."""

from __future__ import annotations

import csv
import os

import numpy as np
import optuna
import psutil
import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.cli.main import main
from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.experiments.search import SearchSpace, open_study
from kdsr_tf.runs import trials
from kdsr_tf.runs.child_processes import run_child
from kdsr_tf.runs.workdir import write_config
from kdsr_tf.training.checkpoints import Checkpoints, State
from tests.experiments import planted

SPACE = SearchSpace.model_validate(
    {
        "name": "rate",
        "parameters": {
            "model.dropout": {"low": 0.0, "high": 0.8},
            "teach.num_codes": {"low": 10, "high": 20, "integer": True},
            "train.slow_start_epochs": {"choices": [2, 5, 10]},
        },
        "startup_trials": 4,
        "warmup_epochs": 1,
    }
)


def quality(run):
    return 0.5 - abs(run.model.dropout - 0.3)


class Training:
    """Stands for `kdsr train`: commits a student as good as the formula says."""

    def __init__(self, monkeypatch):
        self.runs = []
        self.inputs = []
        self.falls_behind = False
        monkeypatch.setattr(trials, "run_inputs", lambda own, *_: self.inputs.append(own))
        monkeypatch.setattr(trials, "run_stage", self.run_stage)

    def run_stage(self, run, stage, external, watch):
        assert stage == "train" and not run.train.refit
        assert load_config(write_config(run)) == run
        self.runs.append(run)
        value = 0.0 if self.falls_behind else quality(run)
        rows = [{"epoch": e, "val_hr_20": value * e / 3} for e in (1, 2, 3)]
        self.save_checkpoint(run, external, rows)
        watch()
        manifest = artifacts.Manifest(artifact="student", fingerprint="0" * 16)
        manifest.details = {"validation": {"val_hr_20": value}}
        with artifacts.committing(stages.location(run, "student"), manifest) as target:
            planted.write_history(target, rows)

    def save_checkpoint(self, run, external, rows):
        fingerprint = stages.fingerprints(run, external)["student"]
        folder = f"{stages.location(run, 'student')}.checkpoints/{fingerprint}/select"
        log = {"epoch_log": ({"rows": rows}, [np.ones(2)])}
        Checkpoints(folder).save(
            State(epoch=3, step=0, finished=False, variables=[np.ones(3)], callbacks=log)
        )


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)


def search(folder, number, *overrides, space=SPACE):
    config = planted.config_in(folder, *overrides)
    trials.search(space, config, number, find_external=planted.external)


def trials_of(folder):
    with open(f"{folder}/searches/rate/trials.csv") as file:
        return list(csv.DictReader(file))


def test_best_values_become_a_configuration_and_more_trials_go_on(training, tmp_path):
    search(tmp_path, 4)
    assert len(training.runs) == 4
    search(tmp_path, 6)
    assert len(training.runs) == 6, "the trials so far count"
    tried = [run.model.dropout for run in training.runs]
    assert len(set(tried)) == 6, "going on draws other values"
    found = trials_of(tmp_path)
    complete = [row for row in found if row["state"] == "complete"]
    best_run = max(training.runs, key=quality)
    best = load_config(f"{tmp_path}/searches/rate/best.yaml")
    assert best.model.dropout == best_run.model.dropout == float(complete[0]["model.dropout"])
    assert best.teach.num_codes == best_run.teach.num_codes
    assert (best.run, best.artifact_folders) == (None, {}), "the user's own run"
    values = [float(row["value"]) for row in complete]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(quality(best))
    assert {row["run"] for row in found} == {run.run for run in training.runs}
    said = (tmp_path / "searches" / "rate" / "trials.md").read_text()
    assert "Selected on validation" in said and "| key | importance |" in said
    # Trials with other teachers leave the user's own in place.
    assert all(
        "teacher/text" in run.artifact_folders
        for run in training.runs
        if run.teach.num_codes != 100
    )
    assert "sequences" not in training.runs[0].artifact_folders


def test_trial_that_falls_behind_ends_early_and_leaves_no_checkpoint(training, tmp_path):
    search(tmp_path, 4)
    training.falls_behind = True
    search(tmp_path, 5)
    [pruned] = [row for row in trials_of(tmp_path) if row["state"] == "pruned"]
    assert float(pruned["value"]) == 0.0 and pruned["run"] == training.runs[-1].run
    left = os.listdir(tmp_path / "runs" / pruned["run"])
    assert left == ["config.yaml"]


def test_killed_trial_is_tried_again_in_its_folder(training, tmp_path, monkeypatch):
    killed = []

    def dies(run, *_, **__):
        killed.append(run.run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trials, "run_stage", dies)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, 1)
    search(tmp_path, 1)
    assert [run.run for run in training.runs] == killed
    assert sorted(row["state"] for row in trials_of(tmp_path)) == ["complete", "fail"]


def test_failing_trials_are_told_from_a_failing_cause(training, tmp_path, monkeypatch):
    failures = iter([True, False, True, True, True])

    def inputs(*_):
        if next(failures):
            raise KDSRError("Out of luck.")

    monkeypatch.setattr(trials, "run_inputs", inputs)
    with pytest.raises(KDSRError, match="Out of luck"):
        search(tmp_path, 2)
    states = [row["state"] for row in trials_of(tmp_path)]
    assert len(training.runs) == 1 and states.count("complete") == 1
    assert next(failures, None) is None, "the third failure in a row ends the search"


def test_without_a_validation_point_no_student_is_trained(training, tmp_path, monkeypatch):
    def inputs(config, *_):
        manifest = artifacts.Manifest(
            artifact="sequences", fingerprint="0" * 16, counts={"validation_points": 0}
        )
        with artifacts.committing(stages.location(config, "sequences"), manifest):
            pass

    monkeypatch.setattr(trials, "run_inputs", inputs)
    with pytest.raises(KDSRError, match=r"nothing to select by in .*sequences: no user has the 3"):
        search(tmp_path, 1)
    assert training.runs == []


def test_another_search_in_the_same_folder_is_refused(training, tmp_path):
    search(tmp_path, 1)
    with pytest.raises(ConfigError, match=r"another space, configuration or data"):
        search(tmp_path, 2, "train.batch_size=64")
    other = SPACE.model_copy(update={"parameters": dict(list(SPACE.parameters.items())[:2])})
    with pytest.raises(ConfigError, match=r"Give the space another `name`"):
        search(tmp_path, 2, space=other)


def test_study_survives_without_this_process(training, tmp_path):
    search(tmp_path, 2)
    origin = stages.fingerprints(
        planted.config_in(tmp_path), planted.external(planted.config_in(tmp_path))
    )["student"]
    study = open_study(f"{tmp_path}/searches/rate", SPACE, origin, seed=0)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 2
    assert study.trials[0].intermediate_values[3] == study.trials[0].value


def test_child_is_watched_to_its_end_or_ended():
    looks = []
    spent = run_child(["experiment", "--list"], lambda: looks.append(1))
    assert looks and spent.seconds > 0 and spent.processor_seconds > 0 and spent.peak_bytes > 0

    def pruned():
        raise optuna.TrialPruned

    before = psutil.Process().children()
    with pytest.raises(optuna.TrialPruned):
        run_child(["doctor"], pruned)
    assert psutil.Process().children() == before


def test_test_points_are_never_searched_on(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.yaml").write_text("encode: {text: {encoder: embedded}}")
    arguments = ["search", "--config", "shop.yaml", "--set", "train.selection=test_oracle"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dry-run"])
    assert ended.value.code == 2
    assert "train.selection=validation" in capfd.readouterr().err
