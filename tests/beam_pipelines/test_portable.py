"""Jobs through Beam's job service and a pool of external workers, as on a cluster."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
import pytest

from beam_pipelines import running, triplets
from beam_pipelines.distill import distill
from beam_pipelines.encode import encode
from beam_pipelines.handlers.encoder import LONGEST_TEXT
from beam_pipelines.new_items import encode_new_items
from beam_pipelines.prepare import prepare
from kdsr_tf import artifacts
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from tests import factories
from tests.beam_pipelines import catalogues

ITEM_IDS = [f"item{k:04d}" for k in range(1, 41)]
LONG_SECONDS = 1.2 * running._REMOTE_POLL_SECONDS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Sequence[str]]:
    """Beam options of a job service and a pool of workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # The pool starts `python` from PATH.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    modules = {
        "portability.local_job_service_main": f"--port_file={folder / 'port'}",
        "worker.worker_pool_main": f"--service_port={port}",
    }
    processes = []
    with open(folder / "log", "w") as log:
        for module, option in modules.items():
            command = [sys.executable, "-m", f"apache_beam.runners.{module}", option]
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        try:
            _wait_until(lambda: (folder / "port").exists(), processes)
            _wait_until(lambda: _listens(port), processes)
            yield (
                "--runner=PortableRunner",
                f"--job_endpoint=localhost:{(folder / 'port').read_text()}",
                "--environment_type=EXTERNAL",
                f"--environment_config=localhost:{port}",
            )
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _wait_until(ready: Callable[[], bool], processes: Sequence[subprocess.Popen]) -> None:
    while not ready():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("localhost", port)) == 0


@pytest.fixture
def early_answers(monkeypatch) -> list[dict[str, int]]:
    """Lets the progress ask for counters long before a job ends; what the counters were."""
    answers, count = [], running.counters

    def counted(result: beam.runners.runner.PipelineResult) -> dict[str, int]:
        answers.append(count(result))
        return answers[-1]

    monkeypatch.setattr(running, "counters", counted)
    monkeypatch.setattr(running, "_REMOTE_POLL_SECONDS", 0.05)
    return answers


def _configure(folder: pathlib.Path, *overrides: str) -> Config:
    """Forty items, one of them with too long a title, and ten users, one row without a time."""
    titles = {item: f"Title {item[-1]}" for item in ITEM_IDS} | {
        ITEM_IDS[7]: "x" * (LONGEST_TEXT + 1)
    }
    rows = [{"item_id": item, "title": title} for item, title in titles.items()]
    clicks = [
        {
            "user_id": f"u{user}",
            "item_id": ITEM_IDS[(user * 7 + place * 3) % 40],
            "timestamp": place,
        }
        for user in range(10)
        for place in range(8)
    ]
    clicks.append({"user_id": "u1", "item_id": ITEM_IDS[0]})
    folder.mkdir(exist_ok=True)
    (folder / "items.jsonl").write_bytes(catalogues.json_lines(rows))
    (folder / "interactions.jsonl").write_bytes(catalogues.json_lines(clicks))
    (folder / "new.jsonl").write_bytes(
        catalogues.json_lines([rows[0], {**rows[1], "item_id": "n"}])
    )
    small = (
        "encode.text.dim=16",
        "model.dim=16",
        "teach.num_codes=12",
        "windows.max_length=6",
        "windows.stride=3",
    )
    new = f"export.add_items={folder / 'new.jsonl'}"
    return catalogues.configure(str(folder), folder / "work", "text", *small, new, *overrides)


def _run_stages(config: Config, beam_args: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts of every stage that runs on Beam."""
    found = {"prepare": prepare(config, beam_args)}
    (found["encode"],) = encode(config, beam_args)
    factories.write_teacher(config, "text")
    found["distill"] = distill(config, beam_args)
    found["triplets"] = triplets.triplets(config, beam_args)
    found["new items"] = encode_new_items(config, beam_args)
    return {name: manifest.counts for name, manifest in found.items()}


def _files(config: Config) -> dict[str, bytes]:
    """Every file of a working directory but the manifests, which hold times."""
    folder = pathlib.Path(config.workdir)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != artifacts.MANIFEST
    }


def test_a_job_longer_than_the_first_look_at_its_counters_returns_the_last(cluster):
    def count(element: int) -> None:
        running.advance(element)
        time.sleep(LONG_SECONDS)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create([3]) | beam.Map(count)

    assert running.run_pipeline(build, cluster, title="long", total=3) == {"done": 3}


def test_stages_commit_the_bytes_and_counts_that_they_commit_in_memory(
    cluster, early_answers, tmp_path
):
    here, there = _configure(tmp_path / "here"), _configure(tmp_path / "there")
    expected = _run_stages(here, ())
    early_answers.clear()
    assert _run_stages(there, cluster) == expected
    assert len(early_answers) > 2 * len(expected)
    assert _files(there) == _files(here)
    assert expected["prepare"]["rejected"] == expected["encode"]["rejected"] == 1
    assert expected["encode"]["encoded"] == 39 and expected["new items"]["text_vectors"] == 1
    assert expected["distill"]["pairs"] > 0 and expected["triplets"]["text"] > 0


def test_too_many_rejected_rows_stop_a_job(cluster, early_answers, tmp_path):
    config = _configure(tmp_path / "shop", "encode.max_rejected_fraction=0.01")
    prepare(config)
    early_answers.clear()
    with pytest.raises(InputError, match=r"^text: 1 of 40 items were rejected"):
        encode(config, cluster)
    assert {} in early_answers
