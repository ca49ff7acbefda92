"""The rooms of docs/architecture.md: who may import whom, and what stays neutral."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

GROUND = {
    "class_paths",
    "schema",
    "errors",
    "hashing",
    "keras_internals",
    "light_imports",
    "private_interfaces",
    "processors",
    "rules",
    "paths",
    "types",
    "config",
    "artifacts",
    "stage_frame",
    "stages",
    "sequences",
    "console",
}
LEVELS = (
    GROUND,
    {"sources", "splits", "cores", "datasets"},
    {"ops"},
    {"layers", "losses", "metrics"},
    {"items", "scoring", "backbones"},
    {"models", "objectives"},
    {"teacher", "data"},
    {"methods"},
    {"training", "evaluation"},
    {"export", "report"},
    {"experiments"},
    {"runs"},
    {"cli", "__main__"},
)
NEUTRAL = (
    *("ops", "layers", "losses", "metrics", "items", "scoring", "backbones"),
    *("models", "objectives", "methods"),
)
NO_TENSORFLOW = {"tensorflow", "tensorflow_datasets", "tensorflow_recommenders", "tf_keras"}
ASK_TENSORFLOW = {ROOT / "kdsr_tf" / "ops" / name for name in ("gather.py", "replicas.py")}
"""Keras has no collective and no plain gather; these files ask TensorFlow, inside a function, on
that backend only."""
BEAM_MAY_IMPORT = {
    *GROUND,
    "sources",
    "splits",
    "cores",
    "teacher.pair_correlations",
    "teacher.teacher",
    "datasets",
}


def level_of(room: str) -> int:
    return next(i for i, rooms in enumerate(LEVELS) if room in rooms)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Dotted names a file imports, and whether at module level."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    guarded = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        top_level = id(node) not in inside
        if isinstance(node, ast.Import):
            found += [(alias.name, top_level) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [(f"{node.module}.{alias.name}", top_level) for alias in node.names]
    return found


def own(name: str) -> str | None:
    """The part of a dotted name below `kdsr_tf`."""
    return name.removeprefix("kdsr_tf.") if name.startswith("kdsr_tf.") else None


def test_every_room_has_a_level():
    names = {p.stem if p.suffix == ".py" else p.name for p in (ROOT / "kdsr_tf").iterdir()}
    assert names - {"__init__", "__pycache__", "configs"} == set().union(*LEVELS)


def test_imports_never_go_upward():
    wrong = []
    for path in modules("kdsr_tf"):
        room = path.relative_to(ROOT / "kdsr_tf").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name, _ in imports(path):
            target = own(name)
            if target is not None and level_of(target.split(".")[0]) > level_of(room):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_ground_floor_needs_no_keras():
    for room in GROUND:
        paths = [*modules(f"kdsr_tf/{room}"), *(ROOT / "kdsr_tf").glob(f"{room}.py")]
        assert paths
        heavy = {name.split(".")[0] for path in paths for name, _ in imports(path)}
        assert not heavy & {*NO_TENSORFLOW, "keras", "apache_beam"}


def test_neutral_rooms_import_no_tensorflow():
    for room in NEUTRAL:
        for path in modules(f"kdsr_tf/{room}"):
            for name, top_level in imports(path):
                if path in ASK_TENSORFLOW and not top_level:
                    continue
                assert name.split(".")[0] not in NO_TENSORFLOW, path


def test_who_reads_a_student_knows_the_classes_of_every_method():
    # Keras finds a class of a file by its registered name, so its module must be imported:
    # evaluation and export run in processes that have built no model.
    read = imports(ROOT / "kdsr_tf" / "methods" / "student_file.py")
    assert ("kdsr_tf.methods.registry", True) in read


def test_beam_pipelines_import_only_light_rooms():
    for path in modules("beam_pipelines"):
        for name, _ in imports(path):
            target = own(name)
            allowed = target is None or any(
                target == room or target.startswith(f"{room}.") for room in BEAM_MAY_IMPORT
            )
            assert allowed, f"{path.relative_to(ROOT)} imports {name}"
            assert name.split(".")[0] != "serving", path


def test_serving_imports_little_of_kdsr_tf():
    for path in modules("serving"):
        for name, _ in imports(path):
            target = own(name)
            assert target is None or target.split(".")[0] in {"schema", "errors"}, (path, name)
            assert name.split(".")[0] != "beam_pipelines", path


def test_only_runs_reach_beam_pipelines_and_serving_and_inside_functions():
    for path in modules("kdsr_tf"):
        for name, top_level in imports(path):
            if name.split(".")[0] in {"beam_pipelines", "serving"}:
                assert path.is_relative_to(ROOT / "kdsr_tf" / "runs"), (path, name)
                assert not top_level, (path, name)


def test_only_the_command_line_knows_its_options():
    for package in ("kdsr_tf", "beam_pipelines", "serving"):
        for path in modules(package):
            if any(name.split(".")[0] == "click" for name, _ in imports(path)):
                assert path.is_relative_to(ROOT / "kdsr_tf" / "cli"), path


def test_export_is_the_only_importer_of_tensorflow_recommenders():
    for package in ("kdsr_tf", "beam_pipelines", "serving"):
        for path in modules(package):
            if any(name.startswith("tensorflow_recommenders") for name, _ in imports(path)):
                assert path.is_relative_to(ROOT / "kdsr_tf" / "export"), path


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import kdsr_tf", ["keras", "tensorflow", "apache_beam", "jax"]),
        ("import kdsr_tf.cli.main", ["keras", "tensorflow", "apache_beam", "pandas"]),
        ("import serving.client, serving.async_client", ["keras", "tensorflow"]),
    ],
    ids=["package", "command line", "client"],
)
def test_import_stays_light(code, forbidden):
    code += f"\nimport sys\nprint([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
