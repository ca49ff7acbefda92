"""The program that runs what the tests cannot."""

import sys

import pytest

from tests import run_blocks
from tests.doc_commands import NOT_RUN, PAGES, commands, other_blocks, run_by, words


def test_every_command_that_no_test_runs_is_in_one_of_its_blocks():
    for page in PAGES:
        mine = [line for script in other_blocks(page) for line in words(script)]
        for command in commands(page):
            assert run_by(command)[0] not in NOT_RUN or command in mine


def test_words_are_put_whole_and_none_is_forgotten():
    script = "kdsr teach --set source.path=FOLDER --set encode.text.preset=FOLDER_OR_PRESET"
    with pytest.raises(ValueError, match="FOLDER_OR_PRESET: say with --put"):
        run_blocks.replaced(script, {"FOLDER": "a"})
    assert run_blocks.replaced(script, {"FOLDER": "a", "FOLDER_OR_PRESET": "b"}).endswith(
        "source.path=a --set encode.text.preset=b"
    )


def test_blocks_run_until_one_fails(monkeypatch, capfd, tmp_path):
    scripts = ["echo FOLDER", "false\necho never", "echo not reached"]
    monkeypatch.setattr(run_blocks, "other_blocks", lambda page: scripts)
    monkeypatch.setattr(sys, "argv", ["run_blocks", "README.md", "--put", f"FOLDER={tmp_path}"])
    with pytest.raises(SystemExit, match="false"):
        run_blocks.main()
    said = capfd.readouterr().out
    assert f"{tmp_path}\n" in said and "ok" in said and "FAILED" in said
    assert "never" not in said and "reached" not in said


def test_what_still_runs_is_ended_and_not_called_well():
    assert run_blocks.run("sleep 60", seconds=1) == "still ran"
