"""The command line as a user meets it: real processes, their output and exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from kdsr_tf import artifacts
from kdsr_tf.cli.main import main
from kdsr_tf.config import load_config
from kdsr_tf.runs.workdir import locked

ROOT = Path(__file__).parent.parent.parent
STAGES = ("prepare", "encode", "teach", "distill", "train", "evaluate", "export", "report")


@pytest.fixture
def kdsr(capfd, monkeypatch, tmp_path):
    """Runs `kdsr` in this process, in an empty folder; gives status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capfd.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    rows = [f"u{u},i{(u + n) % 6},{1_700_000_000 + n}" for u in range(8) for n in range(6)]
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows))
    items = [f"i{i},Thing {i}" for i in range(6)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(items))
    return folder


@pytest.fixture
def config_file(tmp_path, source):
    path = tmp_path / "shop.yaml"
    text = {"encoder": "embedded"}
    path.write_text(yaml.safe_dump({"source": {"path": str(source)}, "encode": {"text": text}}))
    return str(path)


@pytest.mark.parametrize("command", [*STAGES, "run", "serve", "query", "demo"])
def test_print_config_works_everywhere(kdsr, config_file, command):
    given = [] if command == "demo" else ["--config", config_file]
    status, out, err = kdsr(command, *given, "--set", "seed=7", "--print-config")
    assert (status, err) == (0, "")
    assert yaml.safe_load(out)["seed"] == 7


@pytest.mark.parametrize("stage", [*STAGES, "run"])
def test_dry_run_says_what_would_run_and_writes_nothing(kdsr, config_file, tmp_path, stage):
    before = sorted(tmp_path.iterdir())
    status, _, err = kdsr(stage, "--config", config_file, "--dry-run")
    assert status == 0
    assert "would run: missing" in err and "sequences" in err
    assert ("report" in err) == (stage in ("run", "report"))
    assert sorted(tmp_path.iterdir()) == before


def test_demo_dry_run_needs_nothing_but_the_package(kdsr, tmp_path):
    status, _, err = kdsr("demo", "--dry-run")
    assert status == 0
    assert "would be generated" in err and "serving_model" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ["--config"]),
        (["train", "--config", "no.yaml"], ["no.yaml", "does not exist"]),
        (["train", "--config", "{config}", "--set", "train.epoch=1"], ["train.epochs"]),
        (["train", "--config", "{config}", "--set", "train.epochs=x"], ["integer", "'x'"]),
        (["train", "--config", "{config}", "--epochs", "3"], ["--epochs"]),
        (["train", "--config", "{config}", "--", "--runner=DirectRunner"], ["--runner"]),
        (["evaluate", "--config", "{config}"], ["does not exist", "kdsr prepare"]),
        (["serve", "--config", "{config}"], ["serving_model", "kdsr export"]),
        (["prepare", "--config", "{config}", "--set", "source.path=nowhere"], ["nowhere"]),
        (["run", "--config", "{config}", "--set", "source.path=null"], ["source.path"]),
        (
            ["run", "--config", "{config}", "--set", "encode.text.encoder=keras_hub"],
            ["encode.text.preset"],
        ),
        (["run", "--config", "{config}", "--workdir", "{config}"], ["{config}", "--workdir"]),
        (["prepare", "--config", "{config}", "--workdir", "{config}"], ["{config}", "--workdir"]),
        (["run", "--config", "{config}", "--workdir", ""], ["`workdir`", "at least 1"]),
        (["query", "--k", "0"], ["--k"]),
        (["fly"], ["fly"]),
    ],
    ids=lambda value: "-".join(value)[:60],
)
def test_mistake_gives_one_message_and_status_2(kdsr, config_file, arguments, words):
    status, out, err = kdsr(*(a.format(config=config_file) for a in arguments))
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    for word in words:
        assert word.format(config=config_file) in err


def test_history_may_hold_ids_with_commas(kdsr):
    status, _, err = kdsr("query", "--dry-run", "--history", 'a 1, "b,2 ""x""",,c')
    assert status == 0
    assert """['a 1', 'b,2 "x"', 'c']""" in err


@pytest.mark.parametrize(
    "history", ["a 1\nb", "\ufeffa 1\nb", "a 1\r\nb\r\n", "a 1\rb", "\n a 1 ,\n\n b,", "a 1,b"]
)
def test_history_may_have_several_lines(kdsr, history):
    status, _, err = kdsr("query", "--dry-run", "--history", history)
    assert status == 0 and "['a 1', 'b']" in err


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--history", '"a,b', "--history cannot be read as CSV: unexpected end of data"),
        ("--history", '"a"b,c', "cannot be read as CSV"),
        ("--similar", "a\nb", "--similar takes one item id. Received: 'a b'"),
        ("--similar", " ", "--similar takes one item id"),
    ],
)
def test_ids_of_a_query_that_cannot_be_read_are_one_message(kdsr, option, value, says):
    status, _, err = kdsr("query", "--dry-run", option, value)
    assert status == 2 and says in " ".join(err.split()) and "Traceback" not in err


def test_query_without_a_server_says_so(kdsr):
    status, _, err = kdsr(
        "query",
        "--history",
        "a,b",
        "--set",
        "serve.grpc_port=1",
        "--set",
        "serve.deadline_seconds=2",
    )
    assert status == 2
    assert "127.0.0.1:1" in err and "kdsr serve" in err and "Traceback" not in err


def test_unexpected_error_keeps_its_traceback(kdsr, config_file, monkeypatch):
    def broken(config, beam_args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("beam_pipelines.prepare.prepare", broken)
    with pytest.raises(ZeroDivisionError):
        main(["prepare", "--config", config_file])


def test_a_full_disk_is_one_message(kdsr, config_file, monkeypatch):
    def writes(config, beam_args):
        with open("/dev/full", "w") as file:
            file.write("a manifest")

    monkeypatch.setattr("beam_pipelines.prepare.prepare", writes)
    status, _, err = kdsr("prepare", "--config", config_file)
    assert status == 2 and "No space is left on the disk" in err


def test_stage_runs_once_and_is_then_up_to_date(kdsr, config_file, tmp_path):
    status, _, err = kdsr("prepare", "--config", config_file, "--workdir", "w")
    assert status == 0 and "prepare: done" in err
    written = artifacts.find_manifest(str(tmp_path / "w" / "sequences"))
    assert kdsr("prepare", "--config", config_file, "--workdir", "w")[2] == "prepare: up to date.\n"
    assert artifacts.find_manifest(str(tmp_path / "w" / "sequences")) == written
    _, _, err = kdsr("run", "--config", config_file, "--workdir", "w", "--dry-run")
    assert "up to date" in err


def test_prepare_needs_no_encoder(kdsr, config_file):
    without = ("--config", config_file, "--set", "encode.text.encoder=keras_hub")
    status, _, err = kdsr("prepare", *without)
    assert status == 0, err
    status, _, err = kdsr("encode", *without)
    assert status == 2 and "`encode.text.preset` must be set" in err


def test_distill_writes_triplets_on_request(kdsr, config_file, tmp_path):
    for stage in ("prepare", "encode", "teach", "distill"):
        status, _, err = kdsr(stage, "--config", config_file)
        assert status == 0, err
    assert not (tmp_path / "work" / "triplets").exists()
    asked = ["distill", "--config", config_file, "--triplets"]
    assert "triplets" in kdsr(*asked, "--dry-run")[2]
    assert "triplets" not in kdsr("distill", "--config", config_file, "--dry-run")[2]
    status, _, err = kdsr(*asked)
    assert status == 0 and "distill: up to date." in err and "triplets: done" in err
    rows = pq.read_table(tmp_path / "work" / "triplets" / "text").to_pylist()
    # Train and validation windows of eight users hold every pair of six items.
    assert len(rows) == 15 and set(rows[0]) == {"item_i", "item_j", "score", "code"}
    assert kdsr(*asked)[2] == "distill: up to date.\ntriplets: up to date.\n"


def test_source_edited_after_a_run_is_noticed(kdsr, config_file, source):
    kdsr("prepare", "--config", config_file)
    with open(source / "items.csv", "a") as file:
        file.write("\ni99,New thing")
    assert "source changed" in kdsr("prepare", "--config", config_file, "--dry-run")[2]


@pytest.mark.parametrize("command", ["run", "prepare"])
def test_second_writer_in_the_same_folder_is_refused(kdsr, config_file, tmp_path, command):
    with locked(load_config(workdir=str(tmp_path / "work"))):
        status, _, err = kdsr(command, "--config", config_file)
    assert status == 2
    assert "Another `kdsr` command works in" in err


def test_run_left_in_the_folder_replaces_the_config_option(kdsr, config_file, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "config.yaml").write_text("seed: 11\n")
    status, out, _ = kdsr("prepare", "--workdir", "w", "--print-config")
    assert status == 0
    assert yaml.safe_load(out)["seed"] == 11 and yaml.safe_load(out)["workdir"] == "w"


def test_child_dies_with_its_parent(tmp_path):
    """`kill -9` of `kdsr run` must not leave a stage that writes into the folder."""
    parent = (
        "import sys, os; sys.argv = ['x']\n"
        "from kdsr_tf.runs import child_processes\n"
        "child_processes.sys.executable = sys.argv[0] = os.environ['CHILD']\n"
        "child_processes.run_child(['sleep'])\n"
    )
    child = tmp_path / "child"
    child.write_text(
        f"#!{sys.executable}\n"
        "import os, time\n"
        "from kdsr_tf.runs import environment\n"
        "environment.follow_parent()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(3600)\n"
    )
    child.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CHILD": str(child)},
    )
    pid_file = tmp_path / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(pid))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_repeat_shares_what_comes_before_training(kdsr, config_file, tmp_path):
    small = ["prepare.k_core=0", "model.dim=8", "model.num_layers=1", "teach.num_codes=4"]
    small += ["train.epochs=1", "windows.max_length=8", "windows.stride=4"]
    options = [part for value in small for part in ("--set", value)]
    status, _, err = kdsr("repeat", "--seeds", "2", "--config", config_file, *options)
    assert status == 0, err
    assert "2 seeds" in err and "hr@20" in err
    results = json.loads((tmp_path / "work" / "seeds.json").read_text())
    assert results["seeds"] == [0, 1]
    found = results["metrics"]["hr_5"]
    for seed, value in zip(results["seeds"], found["values"], strict=True):
        folder = tmp_path / "work" / "runs" / f"seed-{seed}"
        metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
        assert metrics["metrics"]["hr_5"] == value
        assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "evaluation", "student"]
    assert found["low"] <= found["mean"] <= found["high"]
    status, _, err = kdsr("repeat", "--seeds", "2", "--config", config_file, *options, "--dry-run")
    assert "would run:" not in err and err.count("up to date") == 8
