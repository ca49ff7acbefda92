"""Names and sizes by which a file is found and read: see docs/architecture.md, "Rooms"."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = [
    path
    for package in ("kdsr_tf", "beam_pipelines", "serving")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py", "wire_pb2.py")
]
MOST_LINES = 60
"""Of code in one function; blank lines and docstrings are not counted."""

MOST_ARGUMENTS = 10
"""Of one constructor. Configuration sections have fields instead."""

PUBLIC = {("kdsr_tf/methods/student.py", "Student"), ("kdsr_tf/methods/kdsr.py", "KDSR")}
"""Constructors of the public API, which take plain arguments for a whole model."""


def definitions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """Per function of a file: the class around it, its node, and its lines of code."""
    text = path.read_text()
    written = {number for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    tree = ast.parse(text)
    documented = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            start, end = node.body[0].lineno, node.body[0].end_lineno
            written -= set(range(start, (end or start) + 1))
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                around = parent.name if isinstance(parent, ast.ClassDef) else ""
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                yield around, node, len(written.intersection(lines))


def test_no_two_modules_have_the_same_file_name():
    twice = {name for name, number in Counter(path.name for path in MODULES).items() if number > 1}
    assert twice == set()


def test_no_function_is_longer_than_a_page():
    long = []
    for path in MODULES:
        where = str(path.relative_to(ROOT))
        for around, node, lines in definitions(path):
            if lines > MOST_LINES and (where, around) not in PUBLIC:
                long.append(f"{where}: {node.name} has {lines} lines")
    assert long == []


def test_no_constructor_takes_more_arguments_than_a_reader_can_hold():
    wide = set()
    for path in MODULES:
        for around, node, _ in definitions(path):
            given = node.args
            number = len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
            if node.name == "__init__" and number > MOST_ARGUMENTS:
                wide.add((str(path.relative_to(ROOT)), around))
    assert wide == PUBLIC
