"""The stage table: what a fingerprint depends on, and what stages refuse."""

from __future__ import annotations

import pytest

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.config import load_config, methods, select
from kdsr_tf.config.learning_sections import ModelConfig
from kdsr_tf.errors import ConfigError, MissingArtifactError, StaleArtifactError


def _config(workdir="work", *overrides):
    return load_config(overrides=("encode.text.encoder=embedded", *overrides), workdir=str(workdir))


def _commit(config, name, source="s" * 16):
    inputs = stage_frame.read_inputs(config, name)
    external = dict.fromkeys(stages.external_inputs(config), source)
    manifest = stage_frame.new_manifest(config, name, inputs, external)
    with artifacts.committing(stages.location(config, name), manifest):
        pass
    return manifest


def test_every_artifact_comes_after_its_inputs():
    config = _config("work", "encode.image.encoder=embedded")
    seen = {"source", "encoder/image", "encoder/text"}
    for artifact in stages.artifacts_of(config):
        assert set(artifact.inputs) <= seen, artifact.name
        assert artifact.stage in stages.STAGES
        seen.add(artifact.name)


def test_fingerprint_follows_used_keys_and_inputs_only():
    artifact = stages.artifact_of(_config(), "sequences")

    def fingerprint(*overrides, source="1"):
        return stages.fingerprint_of(_config("work", *overrides), artifact, {"source": source})

    first = fingerprint()
    assert fingerprint("train.epochs=3", "workdir=elsewhere") == first
    assert fingerprint("prepare.k_core=3") != first
    assert fingerprint("windows.max_length=40") != first
    assert fingerprint(source="2") != first


def test_inputs_are_read_and_recorded(tmp_path):
    config = _config(tmp_path)
    sequences = _commit(config, "sequences")
    features = _commit(config, "features/text")
    assert features.inputs == {
        "sequences": sequences.fingerprint,
        "source": "s" * 16,
        "encoder/text": "s" * 16,
    }
    assert set(stage_frame.read_inputs(config, "teacher/text")) == {"sequences", "features/text"}


def test_a_missing_input_names_the_stage_to_run(tmp_path):
    with pytest.raises(MissingArtifactError, match="Run `kdsr prepare` first"):
        stage_frame.read_inputs(_config(tmp_path), "features/text")


def test_features_of_another_vocabulary_are_refused(tmp_path):
    config = _config(tmp_path)
    _commit(config, "sequences")
    _commit(config, "features/text")
    changed = _config(tmp_path, "prepare.k_core=2")
    _commit(changed, "sequences")
    with pytest.raises(StaleArtifactError, match="features/text was made from sequences"):
        stage_frame.read_inputs(changed, "teacher/text")


def test_input_made_with_another_configuration_is_refused(tmp_path):
    _commit(_config(tmp_path), "sequences")
    stage_frame.read_inputs(_config(tmp_path, "teach.num_codes=7"), "features/text")
    with pytest.raises(StaleArtifactError) as caught:
        stage_frame.read_inputs(_config(tmp_path, "windows.max_length=40"), "features/text")
    for part in ("encode", "sequences", "windows.max_length=50", "says 40", "kdsr prepare"):
        assert part in str(caught.value)


def test_a_source_reader_must_give_its_fingerprint():
    with pytest.raises(ValueError, match="needs the fingerprints of: source"):
        stage_frame.new_manifest(_config(), "sequences", {})


@pytest.mark.parametrize(
    ("overrides", "teachers", "windows", "inputs"),
    [
        ((), ["teacher/text"], "examples", ["sequences", "teacher/text"]),
        (("distillation.enabled=false",), ["teacher/text"], "windows", ["sequences"]),
        (
            ("distillation.enabled=false", "model.modality_tables=off"),
            [],
            "windows",
            ["sequences"],
        ),
    ],
    ids=["distilled", "tables only", "ids only"],
)
def test_a_stage_runs_only_if_training_reads_it(overrides, teachers, windows, inputs):
    config = _config("work", *overrides)
    found = {artifact.name: artifact for artifact in stages.artifacts_of(config)}
    assert [name for name in found if name.startswith("teacher/")] == teachers
    assert list(found[windows].inputs) == inputs
    assert list(found["student"].inputs) == ["sequences", windows, *teachers]
    assert len({"examples", "windows"} & found.keys()) == 1


def test_new_items_are_placed_by_a_teacher_even_if_training_reads_none():
    off = ("distillation.enabled=false", "model.modality_tables=off")
    config = _config("work", *off, "export.add_items=new.csv")
    found = {artifact.name: artifact for artifact in stages.artifacts_of(config)}
    assert "teacher/text" in found["serving_model"].inputs
    assert "teacher/text" not in found["student"].inputs


def test_a_student_from_before_there_were_methods_stays_up_to_date():
    selected = select(_config(), ["model"])["model"]
    assert "method" not in selected and selected["first_order"] is False


def test_vectors_from_before_there_were_states_stay_up_to_date():
    config = _config("work", "encode.text.states.groups=2")
    features = stages.artifact_of(config, "features/text")
    assert select(config, features.keys)["encode.text"]["states"]["groups"] == 2
    for modality in ("text", "image"):
        key = f"encode.{modality}"
        plain = _config("work", f"{key}.batch_size=8")
        assert "states" not in select(plain, [key])[key]


def test_every_method_says_what_it_reads_and_how_it_is_built():
    from kdsr_tf.methods.registry import METHODS

    assert set(methods.NEEDS) == set(METHODS)
    for method in METHODS:
        assert ModelConfig(method=method).method == method
    with pytest.raises(ConfigError, match=r"model.method.*must be one of kdsr"):
        load_config(overrides=["model.method=kdrs"])


def _student_of(monkeypatch, needs):
    monkeypatch.setitem(methods.NEEDS, "own", lambda config: needs)
    config = _config("work", "model.method=own", "model.modality_tables=off")
    return config, stages.artifact_of(config, "student")


def test_a_student_is_outdated_by_the_sections_that_its_method_reads(monkeypatch):
    # Without tables nothing is distilled: what `distillation` says is not asked.
    config, student = _student_of(monkeypatch, methods.Needs(sections=("teach",)))
    before = stages.fingerprint_of(config, student, {})
    config.distillation.score_weight = 9.0
    assert stages.fingerprint_of(config, student, {}) == before
    config.teach.num_codes = 9
    assert stages.fingerprint_of(config, student, {}) != before


def test_the_student_of_kdsr_is_outdated_by_its_distillation():
    assert "distillation" in stages.artifact_of(_config(), "student").keys
