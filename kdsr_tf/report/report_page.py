"""The `report` stage: one self-contained HTML page about a run, or about two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import fsspec
import jinja2
import keras

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config, dump_config
from kdsr_tf.console import progress
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation.evaluation_inputs import read_catalogue
from kdsr_tf.evaluation.ranker import Ranker
from kdsr_tf.methods.served import read_served
from kdsr_tf.report import (
    data_section,
    index_section,
    metrics_section,
    teacher_section,
    training_section,
    users_section,
)
from kdsr_tf.report.finished_run import FinishedRun, read_finished_run
from kdsr_tf.report.page_items import PageItems
from kdsr_tf.stage_frame import StageFrame

PAGE = "index.html"


def report(config: Config) -> Manifest:
    """Write `report/index.html`, which needs no network and no other file.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if two stages descend from different data.
    """
    with StageFrame(config, "report") as frame:
        _write(frame.new_folder(), frame.manifest, [read_finished_run(config)])
    return frame.manifest


def report_two_runs(first: FinishedRun, second: FinishedRun) -> tuple[Manifest, str]:
    """Write `report-with-<second>/` in the first run's folder: a page that shows both.

    Returns:
        The manifest and the path of the page.

    Raises:
        InputError: if the runs have the same name or do not share their data.
    """
    if first.name == second.name:
        raise InputError(
            f"Two runs have the same name. Received: {first.name}. Give them names: NAME=PATH."
        )
    one, other = (run.inputs["sequences"].fingerprint for run in (first, second))
    if one != other:
        raise InputError(
            f"{first.name} and {second.name} were made from different data (sequences {one} and "
            f"{other}), so that nobody can be shown beside each other. Give two runs of one "
            "working directory, or of the same source and `prepare` configuration."
        )
    inputs = {
        f"{run.name}: {name}": manifest.fingerprint
        for run in (first, second)
        for name, manifest in run.inputs.items()
    }
    manifest = Manifest(artifact="report", fingerprint=artifacts.fingerprint(inputs), inputs=inputs)
    folder = join(first.config.run_directory, f"report-with-{_file_name(second.name)}")
    with artifacts.committing(folder, manifest) as target:
        _write(target, manifest, [first, second])
    return manifest, join(folder, PAGE)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "other"


def _write(target: str, manifest: Manifest, runs: Sequence[FinishedRun]) -> None:
    with progress("report", total=4) as bar:
        config = runs[0].config
        items = read_catalogue(config)
        pictures = PageItems(items, folders=config.source.image_folders)
        content: dict[str, Any] = {
            "training": training_section.describe(runs),
            "metrics": metrics_section.describe(runs),
        }
        bar.advance()
        # First the users: should there be too many pictures, theirs are there.
        content |= _with_students(runs, pictures)
        bar.advance()
        content["catalogue"] = data_section.describe(runs[0], items)
        content["teachers"] = [
            teacher_section.describe(config, m, pictures) for m in config.needs.teachers
        ]
        bar.advance()
        content |= {"runs": _described(runs), "stages": _stages(runs), "items": pictures.items}
        content |= {"ratio": pictures.ratio, "rows": pictures.are_few}
        page = _environment().get_template("page.html").render(content)
        with fsspec.open(join(target, PAGE), "w", encoding="utf-8") as file:
            file.write(page)
        bar.advance()
        manifest.counts = {
            "bytes": len(page.encode()),
            "pictures": pictures.num_pictures,
            "sample_users": len(content["users"]),
        }
        manifest.details = {"page": PAGE}


def _with_students(runs: Sequence[FinishedRun], pictures: PageItems) -> dict[str, Any]:
    """What the students themselves are asked: offers, and vectors to search with."""
    users = users_section.draw_users(runs[0])
    students = [read_served(run.config) for run in runs]
    rankers = [Ranker(student) for student in students]
    length = rankers[0].max_length
    queries = rankers[0].vectors([user.items[: user.num_train][-length:] for user in users])
    vectors = keras.ops.convert_to_numpy(students[0].item_vectors())[1:]
    return {
        "users": users_section.describe(runs, rankers, users, pictures),
        "index": index_section.describe(runs[0].inputs["serving_model"], vectors, queries),
    }


def _described(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    return [
        {
            "name": run.name,
            "backbone": run.config.model.backbone,
            "distilled": run.is_distilled,
            "epoch": run.best_epoch,
            "config": dump_config(run.config),
            "versions": run.inputs["evaluation"].versions,
        }
        for run in runs
    ]


def _stages(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Every committed artifact with its seconds; what two runs share is there once."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        stage_of = {artifact.name: artifact.stage for artifact in stages.artifacts_of(run.config)}
        for manifest in run.manifests():
            row = rows.setdefault(
                manifest.fingerprint,
                {
                    "artifact": manifest.artifact,
                    "stage": stage_of[manifest.artifact],
                    "runs": [],
                    "seconds": manifest.seconds,
                    "counts": {
                        stages.count_name(manifest.artifact, name): count
                        for name, count in manifest.counts.items()
                    },
                    "details": {
                        name: f"{value:,.4g}" if isinstance(value, float) else str(value)
                        for name, value in manifest.details.items()
                        if isinstance(value, int | float | str)
                    },
                },
            )
            row["runs"].append(run.name)
    shown = sorted(rows.values(), key=lambda row: stages.STAGES.index(row["stage"]))
    for row in shown:
        row["shared"] = len(row["runs"]) == len(runs)
    return {
        "rows": shown,
        "seconds": sum(row["seconds"] for row in shown),
        "longest": max(row["seconds"] for row in shown) or 1.0,
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdsr_tf.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: name.replace("_", " ")
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["fixed"] = lambda number, digits=2: f"{number:,.{digits}f}"
    return environment
