"""Two finished runs of one small working directory, and their pages."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.config import Config, dump_config, load_config
from tests import factories

TITLE = 'Tie <script>alert("x")</script> & Söhne'
REASON = "no timestamp <b>"
CODES = 6
CORES = [
    {"k": 1, "users": 400, "items": 90, "interactions": 3000},
    {"k": 3, "users": 240, "items": 60, "interactions": 2300},
    {"k": 5, "users": 60, "items": 40, "interactions": 500},
]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Config:
    """A finished run on hostile titles, with a picture for every item but one."""
    from kdsr_tf.teacher.teach import teach

    work = tmp_path_factory.mktemp("work")
    config = load_config(
        overrides=[
            "encode.text={}",
            "model.dim=16",
            f"teach.num_codes={CODES}",
            "windows={max_length: 10, stride: 5}",
        ],
        workdir=str(work),
    )
    factories.write_sequences(config, longest=10)
    _describe_items(config, work)
    factories.write_features(config, "text")
    with factories.editing(config, "features/text") as folder:
        pq.write_table(
            pa.table({"reason": [], "where": [], "row": []}),
            os.path.join(folder, "rejected-00000-of-00001.parquet"),
        )
    teach(config)
    factories.write_examples(config)
    _finish(config)
    return config


def _describe_items(config: Config, work) -> None:
    """Hostile titles, a picture for nearly every item, and rejects."""
    Image.fromarray(np.full((300, 200, 3), (200, 30, 40), np.uint8)).save(work / "red.png")
    with factories.editing(config, "sequences") as folder:
        path = os.path.join(folder, "items.parquet")
        table = pq.read_table(path)
        number = table.num_rows
        images = pa.array([str(work / "red.png")] * (number - 1) + [None], pa.string())
        table = table.set_column(table.column_names.index("title"), "title", [[TITLE] * number])
        pq.write_table(table.set_column(table.column_names.index("image"), "image", images), path)
        rejected = {
            "reason": [REASON] * 4,
            "where": ["a.csv"] * 4,
            "row": ['{"item_id": "<i>"}'] * 4,
        }
        for shard in range(2):
            name = f"rejected-{shard:05d}-of-00002.parquet"
            pq.write_table(pa.table(rejected), os.path.join(folder, name))
        with open(os.path.join(folder, "statistics.json"), "w", encoding="utf-8") as file:
            statistics = {"lengths": {"5": 20, "8": 39, "10": 1}, "sparsity": 0.9, "cores": CORES}
            json.dump(statistics, file)


def _finish(config: Config) -> None:
    """Student, evaluation, and what the report reads of an export: its manifest."""
    from kdsr_tf.evaluation.evaluate import evaluate

    factories.write_student(config)
    evaluate(config)
    path = artifacts.join(config.run_directory, "config.yaml")
    artifacts.write_text(path, dump_config(config))
    inputs = stage_frame.read_inputs(config, "serving_model")
    manifest = stage_frame.new_manifest(config, "serving_model", inputs)
    manifest.counts = {"items": 40, "k": 10, "version": 3}
    manifest.details = {
        "index": {"num_leaves": 0, "num_leaves_to_search": 0, "num_reordering_candidates": 40},
        "exact: recall@10": 1.0,
        "scann: recall@10": 0.9925,
    }
    with artifacts.committing(stages.location(config, "serving_model"), manifest):
        pass


@pytest.fixture(scope="session")
def page(finished) -> str:
    """Path of the page about one run."""
    from kdsr_tf.report.report_page import report

    manifest = report(finished)
    folder = stages.location(finished, "report")
    assert sorted(os.listdir(folder)) == ["index.html", "manifest.json"]
    path = os.path.join(folder, manifest.details["page"])
    assert manifest.counts["bytes"] == os.path.getsize(path)
    return path


@pytest.fixture(scope="session")
def plain(finished) -> Config:
    """A second run, without distillation."""
    distillation = finished.distillation.model_copy(update={"enabled": False})
    config = finished.model_copy(update={"run": "plain", "distillation": distillation})
    factories.write_examples(config)
    _finish(config)
    return config


@pytest.fixture(scope="session")
def page_of_two(finished, plain) -> str:
    """Path of the page that `kdsr report RUN RUN2` writes."""
    from kdsr_tf.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["report", f"distilled={finished.workdir}", plain.run_directory])
    assert ended.value.code == 0
    return os.path.join(finished.workdir, "report-with-plain", "index.html")


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """A headless browser; tests that use it are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'"
    )
    with playwright.sync_playwright() as driver:
        known = [os.environ.get("CHROMIUM"), *map(shutil.which, _BROWSERS)]
        path = next((path for path in known if path), driver.chromium.executable_path)
        if not os.path.exists(path):
            pytest.skip(
                "no Chromium found: apt-get install chromium, or playwright install chromium, "
                "or CHROMIUM=PATH"
            )
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclasses.dataclass
class Visit:
    """A page in a tab, and what the tab reported.

    Args:
        tab: The tab.
        complaints: Console messages, errors and dialogs.
        requests: Addresses asked for beyond the page itself.
    """

    tab: Any
    complaints: list[str]
    requests: list[str]


@pytest.fixture
def visit(chromium):
    """Opens a local file; keyword arguments go to the browser's context."""
    contexts = []

    def opened(path: str, **options) -> Visit:
        context = chromium.new_context(**options)
        contexts.append(context)
        found = Visit(tab=context.new_page(), complaints=[], requests=[])
        found.tab.on("console", lambda message: found.complaints.append(message.text))
        found.tab.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.tab.on("dialog", lambda dialog: found.complaints.append(dialog.message))
        found.tab.on("request", lambda request: found.requests.append(request.url))
        found.tab.goto(f"file://{path}")
        return found

    yield opened
    for context in contexts:
        context.close()
