"""A run whose figures are not those of its configuration is named, with the reason."""

from __future__ import annotations

import json

import pytest

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.cli.main import main
from kdsr_tf.config import dump_config, load_config
from kdsr_tf.runs.several_runs import stale_notes, stale_run
from tests.evaluation.evaluations import test_points, write_evaluation
from tests.runs.test_plan import EXTERNAL, commit_all, config_in

POINTS = test_points()


def left_by_a_run(config):
    artifacts.write_text(artifacts.join(config.run_directory, "config.yaml"), dump_config(config))


def notes(config, name="mine"):
    return list(stale_notes([(name, stages.location(config, "evaluation"))]))


def test_a_finished_run_is_not_stale(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    left_by_a_run(config)
    assert stale_run(config) is None and notes(config) == []


@pytest.mark.parametrize("run", [None, "longer"])
def test_a_changed_key_is_named_with_the_run_and_the_command(tmp_path, run):
    named = [] if run is None else [f"run={run}"]
    config = config_in(tmp_path, *named)
    commit_all(config)
    changed = config_in(tmp_path, *named, f"train.epochs={config.train.epochs + 5}")
    left_by_a_run(changed)
    [note] = notes(changed)
    before, after = config.train.epochs, changed.train.epochs
    assert note.startswith("mine is stale")
    assert f"train.epochs={before}, and the configuration says {after}" in note or (
        f"`train.epochs` changed from {before} to {after}" in note
    )
    path = artifacts.join(changed.run_directory, "config.yaml")
    assert note.endswith(f"kdsr run --config {path} --workdir {tmp_path}")


def test_a_student_trained_again_makes_its_evaluation_stale(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    left_by_a_run(config)
    student = artifacts.read_manifest(stages.location(config, "student"), written_by="train")
    student.fingerprint = "another"
    with artifacts.committing(stages.location(config, "student"), student):
        pass
    [note] = notes(config)
    assert "evaluation: student changed" in note


def test_without_a_configuration_nothing_is_said(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    assert notes(config) == []


@pytest.mark.parametrize("style", ["--json", "--csv", None])
def test_compare_says_which_run_is_stale(tmp_path, capsys, style):
    for name in ("fresh", "old"):
        write_evaluation(f"{tmp_path}/{name}/evaluation", POINTS, POINTS.positions % 7 + 1)
    config = load_config(overrides=["encode.text.encoder=embedded"], workdir=str(tmp_path / "old"))
    for artifact in stages.artifacts_of(config)[:5]:
        inputs = stage_frame.read_inputs(config, artifact.name)
        manifest = stage_frame.new_manifest(config, artifact.name, inputs, EXTERNAL)
        with artifacts.committing(stages.location(config, artifact.name), manifest):
            pass
    left_by_a_run(config)
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"{tmp_path}/fresh", f"{tmp_path}/old", *([style] if style else [])])
    assert ended.value.code == 0
    said = capsys.readouterr()
    text = said.err if style == "--csv" else said.out
    if style == "--json":
        [text] = json.loads(text)["notes"]
    words = " ".join(text.split())
    assert "old is stale" in words and "sequences changed" in words and "fresh is" not in words
