"""Private names of other packages are used only in the modules that are made for them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = {
    "kdsr_tf/keras_internals.py",
    "kdsr_tf/export/tfrs_internals.py",
    "beam_pipelines/beam_internals.py",
    "serving/internals.py",
}
OF_PYTHON = {"_replace", "_asdict", "_fields", "_make", "_exit", "_run_exitfuncs"}
"""Of named tuples, and how a process ends."""


def trees() -> dict[str, ast.Module]:
    paths = [
        p for room in ("kdsr_tf", "beam_pipelines", "serving") for p in (ROOT / room).rglob("*.py")
    ]
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for path in paths
        if not path.name.endswith("_pb2.py")
    }


def own_names(tree: ast.Module) -> set[str]:
    """Names that a module gives to functions, variables and attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign_names(tree: ast.Module, own: set[str]) -> set[str]:
    """Private names that a module reads from other packages."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found |= {node.attr} - own
        elif isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= set(parts) - own
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
    return {name for name in found - OF_PYTHON if is_private(name)}


def test_private_names_stand_in_their_modules():
    every = trees()
    own = set().union(*(own_names(tree) for path, tree in every.items() if path not in MODULES))
    used = {path: foreign_names(tree, own) for path, tree in every.items()}
    assert {path: names for path, names in used.items() if names and path not in MODULES} == {}
    assert set(used) >= MODULES


def test_every_such_module_is_listed_for_readers():
    text = (ROOT / "kdsr_tf" / "private_interfaces.py").read_text()
    for path in MODULES:
        assert f"`{path.removesuffix('.py').replace('/', '.')}`" in text
