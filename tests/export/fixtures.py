"""Fixtures of the export and serving tests: models are built once, in another process."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest
from filelock import FileLock

from tests import warm

_BUILD = os.path.join(os.path.dirname(__file__), "build_models.py")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(_BUILD)))


_DRIVER = os.path.join(os.path.dirname(__file__), "export_versions.py")
OVERRIDES = (
    "encode.text.dim=16",
    "model.dim=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.output=fused",
    "model.logit_scale=20",
    "model.last_item=true",
    "windows.max_length=10",
    "windows.stride=5",
    "export.k=30",
    "export.max_exclusions=8",
    "export.keep_versions=2",
    "serve.model_name=shop",
)


def _export(folder: pathlib.Path) -> None:
    """Sequences, an untrained student and what it is made of; then the exports."""
    from kdsr_tf import artifacts, stage_frame, stages
    from kdsr_tf.config import load_config
    from kdsr_tf.methods.student import Student
    from tests import factories

    config = load_config(overrides=OVERRIDES, workdir=str(folder))
    factories.write_workdir(config)
    inputs = stage_frame.read_inputs(config, "student")
    student = Student(
        num_items=inputs["sequences"].counts["items"],
        dim=16,
        max_length=10,
        num_layers=1,
        modalities=config.modalities,
        output="fused",
        logit_scale=20.0,
        last_item=True,
    )
    manifest = stage_frame.new_manifest(config, "student", inputs)
    with artifacts.committing(stages.location(config, "student"), manifest) as target:
        student.save(os.path.join(target, "student.keras"))
    outcomes = run_python(_DRIVER, str(folder), *OVERRIDES)
    (folder / "outcomes.json").write_text(outcomes.splitlines()[-1])


def _once(
    factory: pytest.TempPathFactory, name: str, build: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """A folder that one of pytest's processes fills; the others wait and read."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    built = folder.with_suffix(".built")
    with FileLock(folder.with_suffix(".lock")):
        if not built.exists():
            folder.mkdir()
            build(folder)
            built.touch()
    return folder


def run_python(*arguments: str, python: str | None = None) -> str:
    """Standard output of a Python process that sees the repository; `warm.python()`, or another."""
    done = subprocess.run(
        [python or warm.python(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": ROOT},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> str:
    """Folder with the models of `build_models.py`: `<name>/<variant>`."""
    return str(_once(tmp_path_factory, "models", lambda folder: run_python(_BUILD, str(folder))))


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> pathlib.Path:
    """A working directory after its first export of a real student."""
    return _once(tmp_path_factory, "exported", _export)
