"""What README and docs say to type, name and link exists.

Commands are parsed by the program that would run them, with their real options and
configuration keys; nothing heavy is started. In `tests/doc_commands.py`, `PROGRAMS` says how each
program's commands are checked, `RUN_BY` which test runs each and `NOT_RUN` why none does.
`PYTHON_RUN_BY` says which test runs a page's Python.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import shlex
from collections.abc import Iterator

import click
import pytest
import yaml

from kdsr_tf.cli.main import cli
from kdsr_tf.config import Config
from kdsr_tf.config.section import Section
from kdsr_tf.errors import KDSRError
from tests.doc_commands import (
    LITERAL,
    NOT_RUN,
    PACKAGES,
    PAGES,
    PROGRAMS,
    ROOT,
    RUN_BY,
    blocks,
    check_command,
    check_python,
    commands,
    literal_blocks,
    run_by,
    words,
)

PYTHON_RUN_BY = {
    "README.md": "tests/test_readme.py",
    "docs/backbones.md": "tests/backbones/test_own_backbone.py",
    "docs/encoders.md": "tests/beam_pipelines/test_custom_encoder.py",
    "docs/methods.md": "tests/models/test_training_model.py",
}
"""Pages whose Python blocks a test runs as they stand; others are compiled here."""


@functools.cache
def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.M)


def spans(page: str) -> list[str]:
    """Inline code."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_taken_as_they_stand(page):
    wrong = []
    for command in commands(page):
        try:
            check_command(command)
        except Exception as error:
            wrong.append(f"{shlex.join(command)}\n    {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_inline_commands_name_real_options(page):
    for code in spans(page):
        if code.startswith("kdsr ") and "<" not in code.split(" ")[1]:
            command, rest = cli, code.split()[1:]
            while isinstance(command, click.Group):
                assert rest and rest[0] in command.commands, f"{page}: {code}"
                command, rest = command.commands[rest[0]], rest[1:]
            known = {name for parameter in command.params for name in parameter.opts}
            given = {word.strip("[]").partition("=")[0] for word in rest if "--" in word} - {"--"}
            assert given <= known, f"{page}: {code}: no option {given - known}"
        elif re.match(r"(\.venv/bin/)?python (-m )?(benchmarks|beam_pipelines)[./]\w", code):
            check_python(shlex.split(code)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_configuration_keys_exist(page):
    sections = "|".join(name for name in Config.model_fields if name not in ("workdir", "run"))
    for code in spans(page):
        match = re.match(rf"((?:{sections})(?:\.[a-z0-9_]+)+)($|[:=])", code)
        if match and not (ROOT / code).exists():
            assert _is_key(match[1].split(".")), f"{page}: there is no key {match[1]}"
    for language, text in blocks(page):
        if language == "yaml":
            assert yaml.safe_load(text), page


def _is_key(names: list[str]) -> bool:
    """Whether a dotted name leads to a key; below a free mapping anything does."""
    kinds: list = [Config]
    for name in names:
        kinds = [kind for kind in kinds if hasattr(kind, "model_fields")]
        found = [kind.model_fields[name] for kind in kinds if name in kind.model_fields]
        if not found:
            return False
        kinds = [kind for field in found for kind in _sections(field.annotation)]
        if not kinds:
            return True
    return True


def _sections(annotation) -> list:
    inner = [kind for one in getattr(annotation, "__args__", ()) for kind in _sections(one)]
    return [annotation, *inner] if _is_section(annotation) else inner


def _is_section(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(page):
    here = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (here / path).resolve() if path else ROOT / page
        assert goal.exists(), f"{page}: there is no {target}"
        assert not anchor or anchor in _anchors(goal), f"{page}: {target} has no such heading"
    rooms = (*PACKAGES, "configs", "docs")
    for code in spans(page):
        if re.fullmatch(rf"(?:{'|'.join(rooms)})/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page}: there is no {code}"
        elif re.fullmatch(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+", code):
            assert _is_importable(code.split(".")), f"{page}: there is no {code}"


def _anchors(page: pathlib.Path) -> set[str]:
    """Anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(str(page.relative_to(ROOT))), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def _is_importable(names: list[str]) -> bool:
    """Whether the files of a dotted name exist and define the rest of it."""
    if names[0] == "serving" and names[1] in Config.model_fields["serve"].annotation.model_fields:
        return False
    path = ROOT
    for place, name in enumerate(names):
        if (path / name).is_dir():
            path = path / name
        else:
            file = path / f"{name}.py"
            rest = names[place + 1 :] if file.exists() else names[place:]
            text = (file if file.exists() else path / "__init__.py").read_text()
            return all(re.search(rf"^ *(?:def |class |\"?){one}\b", text, re.M) for one in rest)
    return True


@pytest.mark.parametrize("page", PAGES)
def test_python_is_run_or_compiled(page):
    programs = [text for language, text in blocks(page) if language == "python"]
    for program in programs:
        compile(program, page, "exec")
    if programs and page in PYTHON_RUN_BY:
        assert pathlib.Path(page).name in (ROOT / PYTHON_RUN_BY[page]).read_text()


FOREIGN = ("Op type not registered", "Detected incompatible Protobuf", "failed call to cuInit")
"""Beginnings of messages of TensorFlow and protobuf among the symptoms."""


def test_symptoms_quote_messages_of_the_code():
    texts = "\n".join(messages())
    rows = re.findall(r"^\| (.*?) \|", prose("docs/troubleshooting.md"), re.M)
    quoted = [code for row in rows for code in re.findall(r"`` ?(.*?) ?``|`([^`]+)`", row)]
    quoted = [first or second for first, second in quoted]
    assert len(quoted) > 30
    parts = [
        part.strip().replace("`", "")
        for text in quoted
        if " " in text and not text.startswith(FOREIGN)
        for part in text.split("...")
    ]
    assert not [part for part in parts if part not in texts]


def messages() -> Iterator[str]:
    """Texts in the code as they are shown, with gaps where values stand."""
    files = [*ROOT.glob("tests/report/conftest.py")]
    for package in ("kdsr_tf", "beam_pipelines", "serving"):
        files += (ROOT / package).rglob("*.py")
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            values = [getattr(part, "value", None) for part in parts]
            text = "".join(value if isinstance(value, str) else "\0" for value in values)
            if " " in text:
                yield text.replace("`", "")


WRONG = {
    "kdsr trian --config configs/demo.yaml": "no command trian",
    "kdsr train --config configs/demo.yaml --set train.epoch=3": "epoch",
    "kdsr train --config configs/demo.yaml --set train.epochs=many": "epochs",
    "kdsr export --rolback": "rolback",
    "kdsr compare --k": "requires an argument",
    "kdsr query --k 0": "range",
    "kdsr experiment ablations": "There is no ablations",
    "kdsr experiment encoders --only resnet": "no arm resnet",
    "python -m benchmarks.no_such --seeds 3": "no_such",
    "python -m benchmarks.demo_quality --sedes 3": "sedes",
    "python -m beam_pipelines.prepare --config a.yaml -- --runer=DirectRunner": "runer",
    "python -m beam_pipelines.prepare -- --runner=DirectRunner": "needs .*--config",
    "make demos": "make has no",
    "pip install '.[gpc]'": "no extra gpc",
    "tfds build --imports=kdsr_tf.datasets.builders movielens_1m/beuty": "no config beuty",
    "docker build -f beam_pipelines/docker/Dockerfile --target wroker .": "wroker",
    "kubectl kustomize serving/tf_serving/kubernetes/bsae": "there is no",
    "wget something": "say in PROGRAMS",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_command_is_found(text):
    ((command),) = words(text)
    with pytest.raises((AssertionError, KDSRError, click.ClickException), match=WRONG[text]):
        check_command(command)


def test_every_command_is_run_by_a_test_or_says_why_not():
    everything = [command for page in PAGES for command in commands(page)]
    assert {command[0].removeprefix(".venv/bin/") for command in everything} == set(PROGRAMS)
    assert {pattern for pattern, _ in map(run_by, everything)} == {*RUN_BY, *NOT_RUN}
    literal = [line for page in PAGES for text in literal_blocks(page) for line in words(text)]
    assert all(line in literal for line in everything if run_by(line)[1] == LITERAL)
    named = [path.partition("::")[0] for path in RUN_BY.values()]
    named += [path for why in NOT_RUN.values() for path in re.findall(r"tests/[\w/.]+", why)]
    assert not [path for path in named if not (ROOT / path).exists()]


def test_wrong_keys_and_names_are_found():
    assert not _is_key(["train", "epoch"]) and _is_key(["encode", "text", "preset"])
    assert not _is_importable(["kdsr_tf", "teacher", "array"])
