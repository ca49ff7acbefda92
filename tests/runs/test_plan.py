from __future__ import annotations

import pytest

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError, StaleArtifactError
from kdsr_tf.runs.plan import make_plan, plan_of_stage

EXTERNAL = {"source": "0123456789abcdef", "encoder/text": "a" * 16, "encoder/image": "b" * 16}


def config_in(folder, *overrides):
    return load_config(overrides=["encode.text.encoder=embedded", *overrides], workdir=str(folder))


def commit_all(config):
    """Commit every artifact, empty, as a complete run would have left it."""
    for artifact in stages.artifacts_of(config):
        inputs = stage_frame.read_inputs(config, artifact.name)
        manifest = stage_frame.new_manifest(config, artifact.name, inputs, EXTERNAL)
        with artifacts.committing(stages.location(config, artifact.name), manifest):
            pass


def reasons(config, **changed):
    states = make_plan(config, EXTERNAL | changed)
    return {state.artifact.name: state.reasons for state in states if state.reasons}


def test_everything_is_missing_at_first(tmp_path):
    config = config_in(tmp_path)
    assert set(reasons(config).values()) == {("missing",)}
    assert len(reasons(config)) == len(stages.artifacts_of(config)) == 8


def test_nothing_is_left_after_a_run(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    assert reasons(config) == {}


def test_changed_key_is_named_and_reaches_what_depends_on_it(tmp_path):
    commit_all(config_in(tmp_path))
    found = reasons(config_in(tmp_path, "train.epochs=7"))
    assert found["student"] == ("`train.epochs` changed from 50 to 7",)
    assert found["evaluation"] == ("student changed",)
    assert set(found) == {"student", "evaluation", "serving_model", "report"}


def test_changed_source_makes_everything_again(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    found = reasons(config, source="f" * 16)
    assert found["sequences"] == ("source changed",)
    assert len(found) == 8


def test_changed_weights_make_what_descends_from_them_again(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    found = reasons(config, **{"encoder/text": "f" * 16})
    assert found["features/text"] == ("encoder/text changed",)
    assert "sequences" not in found and len(found) == 7


def test_added_modality_runs_its_own_stages(tmp_path):
    commit_all(config_in(tmp_path))
    found = reasons(config_in(tmp_path, "encode.image.encoder=embedded"))
    assert found["features/image"] == ("missing",)
    assert "sequences" not in found and "features/text" not in found
    assert "teacher/image changed" in found["examples"]


def test_uncommitted_directory_is_missing(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    (tmp_path / "student" / artifacts.MANIFEST).unlink()
    assert reasons(config) == {"student": ("missing",)}


def test_stage_out_of_order_names_the_stage_to_run_first(tmp_path):
    with pytest.raises(MissingArtifactError, match="Run `kdsr prepare` first"):
        plan_of_stage(config_in(tmp_path), "train")


def test_stage_refuses_inputs_of_different_descent(tmp_path):
    config = config_in(tmp_path)
    commit_all(config)
    other = config_in(tmp_path, "seed=5")
    manifest = stage_frame.new_manifest(other, "sequences", {}, EXTERNAL)
    with artifacts.committing(stages.location(config, "sequences"), manifest):
        pass
    with pytest.raises(StaleArtifactError, match="sequences"):
        plan_of_stage(config, "train")


def test_stage_sees_its_own_changed_key(tmp_path):
    commit_all(config_in(tmp_path))
    [same] = plan_of_stage(config_in(tmp_path), "train")
    [changed] = plan_of_stage(config_in(tmp_path, "model.dropout=0.5"), "train")
    assert same.up_to_date
    assert changed.reasons == ("`model.dropout` changed from 0.2 to 0.5",)
    fused = ("encode.text={}", "model.output=fused", "model.last_item=true")
    [renamed] = plan_of_stage(config_in(tmp_path, *fused), "train")
    assert "`model.last_item` changed from false to true" in renamed.reasons
