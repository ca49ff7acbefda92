"""The frame of a stage: checked inputs before, a committed artifact after, or nothing."""

from __future__ import annotations

import os

import pytest

from kdsr_tf import stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.stage_frame import StageFrame

EXTERNAL = {stages.SOURCE: "a" * 16, "encoder/text": "b" * 16}


def config_in(folder, *overrides):
    return load_config(overrides=["encode.text.encoder=embedded", *overrides], workdir=str(folder))


def write(config, name="sequences"):
    with StageFrame(config, name, EXTERNAL) as frame:
        with open(os.path.join(frame.new_folder(), "rows"), "w") as file:
            file.write("seven\n")
        frame.manifest.counts["users"] = 7
    return frame


def test_what_a_stage_writes_is_committed_with_its_manifest(tmp_path):
    config = config_in(tmp_path)
    frame = write(config)
    committed = StageFrame(config, "sequences", EXTERNAL).committed
    assert committed == frame.manifest and committed.counts == {"users": 7}
    assert committed.files == {"rows": 6}
    assert (tmp_path / "sequences" / "rows").read_text() == "seven\n"


def test_what_is_current_follows_from_inputs_and_keys(tmp_path):
    write(config_in(tmp_path))
    assert StageFrame(config_in(tmp_path), "sequences", EXTERNAL).current is not None
    for frame in (
        StageFrame(config_in(tmp_path), "sequences", EXTERNAL | {stages.SOURCE: "c" * 16}),
        StageFrame(config_in(tmp_path, "prepare.k_core=2"), "sequences", EXTERNAL),
    ):
        assert frame.committed is not None and frame.current is None


def test_inputs_are_there_and_checked_before_the_block(tmp_path):
    config = config_in(tmp_path)
    with pytest.raises(MissingArtifactError, match="Run `kdsr prepare` first"):
        StageFrame(config, "features/text", EXTERNAL)
    written = write(config)
    with StageFrame(config, "features/text", EXTERNAL) as frame:
        assert frame.inputs == {"sequences": written.manifest}


def test_a_block_that_asks_for_no_folder_changes_nothing(tmp_path):
    config = config_in(tmp_path)
    before = write(config).manifest
    with StageFrame(config, "sequences", EXTERNAL) as frame:
        frame.manifest.counts["users"] = 8
    assert os.listdir(tmp_path) == ["sequences"]
    assert StageFrame(config, "sequences", EXTERNAL).committed == before


def test_a_failed_block_keeps_what_was_there(tmp_path):
    config = config_in(tmp_path)
    before = write(config).manifest
    with pytest.raises(ZeroDivisionError), StageFrame(config, "sequences", EXTERNAL) as frame:
        frame.new_folder()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["sequences"]
    assert StageFrame(config, "sequences", EXTERNAL).committed == before
