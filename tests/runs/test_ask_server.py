"""A question that is typed before the server is ready."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import grpc
import psutil
import pytest

from kdsr_tf.config import load_config
from kdsr_tf.errors import KDSRError
from kdsr_tf.runs import ask_server
from kdsr_tf.runs.ask_server import ask_when_ready
from serving.client import NoServerError, QueryError
from serving.starting import STARTING_FILE, StartingFile, find_starting


def configured(folder, *overrides):
    return load_config(overrides=overrides, workdir=str(folder))


def later(action):
    timer = threading.Timer(0.5, action)
    timer.start()
    return timer


def test_question_waits_for_the_server_that_loads_and_says_for_what(tmp_path, capsys):
    asked = []
    with StartingFile(str(tmp_path)) as starting:
        starting.say("importing TensorFlow")
        later(starting.remove)

        def ask(target):
            asked.append((target, find_starting(str(tmp_path))))
            return "answer"

        assert ask_when_ready(configured(tmp_path), False, None, ask) == "answer"
    assert asked == [("127.0.0.1:8500", None)]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Waiting for `kdsr serve` (process") == 1
    assert "which is importing TensorFlow." in said


def test_server_that_says_so_only_after_the_first_refusal_is_waited_for(tmp_path):
    starting, refused = StartingFile(str(tmp_path)), []

    def ask(target):
        if not refused:
            refused.append(target)
            starting.say("loading the newest version")
            later(starting.remove)
            raise QueryError("refused", grpc.StatusCode.UNAVAILABLE)
        return "answer"

    assert ask_when_ready(configured(tmp_path), False, None, ask) == "answer"


def test_refusal_is_the_end_where_nothing_starts(tmp_path, monkeypatch):
    asked = []

    def ask(target):
        asked.append(target)
        raise QueryError("refused", asked_code)

    monkeypatch.setattr(ask_server, "_FIRST_LOOK_SECONDS", 0.5)
    asked_code = grpc.StatusCode.UNAVAILABLE
    with pytest.raises(QueryError, match="refused"):
        ask_when_ready(configured(tmp_path), False, None, ask)
    assert len(asked) > 1
    asked.clear()
    asked_code = grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(QueryError, match="refused"):
        ask_when_ready(configured(tmp_path), False, None, ask)
    assert len(asked) == 1


def test_chosen_port_is_waited_for(tmp_path, monkeypatch):
    config = configured(tmp_path, "serve.grpc_port=0")
    address = tmp_path / "server.json"
    later(lambda: address.write_text(json.dumps({"target": "a:1", "rest_url": None})))
    assert ask_when_ready(config, False, None, lambda target: target) == "a:1"
    address.unlink()
    monkeypatch.setattr(ask_server, "_FIRST_LOOK_SECONDS", 0.1)
    with pytest.raises(NoServerError, match="kdsr serve"):
        ask_when_ready(config, False, None, lambda target: target)


def test_server_elsewhere_is_asked_at_once(tmp_path):
    with StartingFile(str(tmp_path)) as starting:
        starting.say("importing TensorFlow")
        config = configured(tmp_path, "serve.target=shop:9")
        assert ask_when_ready(config, False, None, lambda target: target) == "shop:9"


def test_wait_has_a_limit_and_ends_with_the_server(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        said = {
            "pid": process.pid,
            "created": psutil.Process(process.pid).create_time(),
            "doing": "importing TensorFlow",
        }
        (tmp_path / STARTING_FILE).write_text(json.dumps(said))
        with pytest.raises(KDSRError, match=r"is still importing TensorFlow after 0\.3 s \(--wait"):
            ask_when_ready(configured(tmp_path), False, 0.3, lambda target: target)
        later(process.kill)
        with pytest.raises(KDSRError, match="ended before it was ready, while importing Tens"):
            ask_when_ready(configured(tmp_path), False, None, lambda target: target)
    finally:
        process.kill()
        process.wait()
    # What it has left stops nobody, nor does another process of the same number.
    assert ask_when_ready(configured(tmp_path), False, None, lambda target: target)
    (tmp_path / STARTING_FILE).write_text(json.dumps(said | {"pid": psutil.Process().pid}))
    assert find_starting(str(tmp_path)) is None


def test_folder_that_cannot_be_written_stops_no_server(tmp_path):
    with StartingFile(str(tmp_path / "absent")) as starting:
        starting.say("importing TensorFlow")
    assert not (tmp_path / "absent").exists()
