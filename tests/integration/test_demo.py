"""A newcomer's path, small and for real: `kdsr demo`, the documented commands, a live server."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import signal
import subprocess

import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from kdsr_tf import artifacts, stages
from kdsr_tf.config import load_config
from kdsr_tf.datasets.demo import generate
from tests import warm
from tests.datasets import official
from tests.doc_commands import ROOT, literal_blocks

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def config(kdsr, demo):
    folder = kdsr.folder / "work" / "demo"
    return load_config(str(folder / "config.yaml"), workdir=str(folder))


SLOW_PAGES = ("README.md", "docs/backbones.md", "docs/quickstart.md")
"""Their blocks run all stages."""


def _documented_blocks():
    for page in ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").iterdir())]:
        marks = [pytest.mark.slow] if page in SLOW_PAGES else []
        for number, script in enumerate(literal_blocks(page)):
            yield pytest.param(script, id=f"{page}-{number}", marks=marks)


@pytest.fixture(scope="module")
def reader(kdsr, demo):
    """The folder of a reader who has run `kdsr demo` and has the files that the pages name."""
    folder = kdsr.folder
    (folder / "configs").symlink_to(ROOT / "configs")
    program = folder / ".venv" / "bin" / "kdsr"
    program.parent.mkdir(parents=True)
    run = shlex.join(["env", f"PYTHONPATH={ROOT}", warm.python(), "-m", "kdsr_tf"])
    program.write_text(f'#!/bin/sh\nexec {run} "$@"\n')
    program.chmod(0o755)

    generate(str(folder / "FOLDER"), num_items=40, num_users=80)
    clicks = pq.read_table(folder / "FOLDER" / "interactions.parquet")
    clicks = clicks.select(["user_id", "item_id", "timestamp"])
    csv.write_csv(clicks.rename_columns(["customer", "sku", "timestamp"]), folder / "clicks.csv")
    items = map(json.loads, (folder / "FOLDER" / "items.jsonl").read_text().splitlines())
    columns = ("item_id", "title", "description", "image")
    goods = [columns, *([item.get(name) or "" for name in columns] for item in items)]
    text = "\n".join(map("\t".join, goods)).replace("item_id", "sku", 1)
    (folder / "goods.tsv.gz").write_bytes(gzip.compress(text.encode()))
    ids = [item[0] for item in goods[1:]]
    (folder / "goods.txt").write_text("".join(f"{item}\tgoods\n" for item in ids))
    rows = enumerate(ids * 3, start=1_600_000_000)
    (folder / "clicks.dat").write_text("".join(f"u{t % 9}\t{i}\t5\t{t}\n" for t, i in rows))
    (folder / "images").symlink_to(folder / "FOLDER" / "images")
    official.write_movielens(folder / "unpacked")
    (folder / "ml-1m").symlink_to(folder / "unpacked" / "ml-1m")
    official.write_amazon(folder, "Beauty")

    work = folder / "work"
    for run in (
        work / "demo" / "runs" / "plain",
        *(work / "runs" / n for n in ("plain", "distilled")),
    ):
        for name in ("student", "evaluation", "serving_model"):
            shutil.copytree(work / "demo" / name, run / name)
        text = (work / "demo" / "config.yaml").read_text()
        (run / "config.yaml").write_text(text.replace("run: null", f"run: {run.name}"))
    return folder


@pytest.mark.parametrize("script", _documented_blocks())
def test_documented_commands_run_as_they_stand(reader, script):
    environment = os.environ | {"PATH": f"{reader}/.venv/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=reader, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_artifact_is_committed(config):
    for artifact in stages.artifacts_of(config):
        manifest = artifacts.read_manifest(
            stages.location(config, artifact.name), written_by=artifact.stage
        )
        assert manifest.seconds > 0, artifact.name
        assert manifest.versions["tensorflow"].startswith("2.20")


def test_output_ends_with_tables_and_titles(demo):
    said = demo
    assert "Traceback" not in said
    for words in ("Stages", "peak MiB", "HR@20", "MRR@5", "95% interval", "Recommended to user"):
        assert words in said
    recommended = said[said.index("Recommended to user") :]
    rows = [line.split(maxsplit=2) for line in recommended.splitlines()]
    ranks = [row for row in rows if len(row) == 3 and row[0].isdecimal()]
    assert [int(row[0]) for row in ranks] == list(range(1, 11))
    assert all(" in " in row[2] for row in ranks), "titles"
    # What fails last, if anything does, hides nothing.
    before = said[: said.index("Recommended to user")]
    for words in ("kdsr run --config", "source.path=FOLDER", "The report: ", "kdsr serve"):
        assert words in before


def test_tensorboard_shows_every_column_of_the_history(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = artifacts.join(stages.location(config, "student"), "logs", "select")
    shown = set()
    for split, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(artifacts.join(folder, split)).Reload()
        tags = events.Tags()["tensors"]
        shown |= {prefix + tag.removeprefix("epoch_") for tag in tags if tag.startswith("epoch_")}
    history = artifacts.join(stages.location(config, "student"), "history.csv")
    with open(history, encoding="utf-8") as file:
        columns = set(file.readline().strip().split(",")) - {"epoch", "seconds"}
    assert {"retention_image", "learning_rate_rest", "val_text_score"} <= columns
    assert columns <= shown


def test_second_run_finds_everything_up_to_date(kdsr, demo):
    done = kdsr("run", "--workdir", "work/demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("up to date") == len(stages.STAGES)
    assert "Recommended to user" in done.stderr


def test_dry_run_names_the_changed_key(kdsr, demo):
    done = kdsr("run", "--workdir", "work/demo", "--set", "train.epochs=3", "--dry-run")
    assert "`train.epochs` changed from 2 to 3" in done.stderr
    assert done.stderr.count("up to date") == 6


def test_running_server_answers_queries(kdsr, config):
    ports = ("--set", "serve.grpc_port=0", "--set", "serve.rest_port=0")
    server = kdsr.start("serve", "--workdir", "work/demo", *ports)
    try:
        items = artifacts.join(stages.location(config, "sequences"), "items.parquet")
        known = pq.read_table(items)["item_id"].to_pylist()
        history = f"{known[0]},{known[1]},nonsense"
        query = ("query", "--workdir", "work/demo", *ports, "--history", history, "--k", "5")
        # At once: it waits for the server, which imports TensorFlow first.
        done = kdsr(*query, "--json")
        assert "Waiting for `kdsr serve` (process" in done.stderr
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert len({row["item_id"] for row in answer}) == 5
        assert {row["item_id"] for row in answer} <= set(known[2:])
        assert all(" in " in row["title"] for row in answer)
        scores = [row["score"] for row in answer]
        assert scores == sorted(scores, reverse=True)
        assert "nonsense" in done.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(300) == 0
