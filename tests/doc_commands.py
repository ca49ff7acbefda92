"""Commands in Markdown, parsed by the programs that would run them."""

from __future__ import annotations

import ast
import functools
import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator

import click
import yaml

from kdsr_tf.cli.main import cli
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.experiments.experiment import load_experiment

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
PACKAGES = ("kdsr_tf", "beam_pipelines", "serving", "benchmarks", "tests")


@functools.cache
def blocks(page: str) -> tuple[tuple[str, str], ...]:
    """Language and text of every fenced block."""
    found, language, lines = [], None, []
    for line in (ROOT / page).read_text().splitlines():
        if language is None and line.lstrip().startswith("```"):
            language, lines = line.strip().removeprefix("```"), []
        elif line.strip() == "```":
            found.append((language, "\n".join(lines)))
            language = None
        else:
            lines.append(line)
    assert language is None, f"{page}: a block of {language!r} is not closed"
    return tuple(found)


def words(text: str) -> Iterator[list[str]]:
    """The commands of a shell script, as words without redirections and variables set."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split, command = True, []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                if command:
                    yield command
                command = []
            elif command or not re.match(r"[A-Za-z_]+=", word):
                command.append(word)


def commands(page: str) -> list[list[str]]:
    """All commands of a page; blocks without a language count where they begin with one."""
    found = []
    for language, text in blocks(page):
        first = text.split(None, 1)[0] if text.strip() else ""
        synopsis = re.search(r"<\w+>", text)
        if language in ("sh", "bash") or (not language and first in PROGRAMS and not synopsis):
            found += words(text)
    return found


def check_kdsr(arguments: list[str]) -> None:
    """The command tree takes the arguments, and the configuration its overrides."""
    command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        assert name in command.commands, f"kdsr has no command {name}"
        command = command.commands[name]
    try:
        values = command.make_context(command.name, list(arguments)).params
    except click.exceptions.Exit:  # --help, --list
        return
    except MissingArtifactError:  # of a run that is the reader's: the arguments were understood
        return
    if "overrides" in values:
        config = values.get("config_path") or ""
        known = config if (ROOT / config).is_file() else "configs/demo.yaml"
        load_config(str(ROOT / known), values["overrides"], values["workdir"])
    if values.get("beam_args"):
        check_beam_options(values["beam_args"])
    if command.name == "experiment" and not values["name"].endswith(".yaml"):
        variables = dict(text.split("=", 1) for text in values.get("variables") or ())
        load_experiment(values["name"]).chosen_arms(values.get("only") or (), variables)


def check_beam_options(options: list[str]) -> None:
    from beam_pipelines.running import unknown_options

    unknown = unknown_options([option.replace("$IMAGE", "image") for option in options])
    assert not unknown, f"Beam has no option {unknown}"


def check_python(arguments: list[str]) -> None:
    """A module of this repository whose argument parser has the options."""
    flag, *rest = arguments
    if flag == "-c":
        compile(rest[0], "command", "exec")
        return
    if flag == "-m":
        path, rest = ROOT / f"{rest[0].replace('.', '/')}.py", rest[1:]
    else:
        path = ROOT / flag
    assert path.exists(), f"there is no {path}"
    own = rest[: rest.index("--")] if "--" in rest else rest
    parser = path if path.parent.name != "beam_pipelines" else ROOT / "beam_pipelines/running.py"
    required, known = _options(parser)
    given = {word.partition("=")[0] for word in own if word.startswith("--")}
    assert given <= known, f"{path.name} has no {given - known}"
    assert required <= given, f"{path.name} needs {required - given}"
    overrides = [word for flag, word in itertools.pairwise(own) if flag == "--set"]
    load_config(str(ROOT / "configs/demo.yaml"), overrides)
    if "--" in rest:
        check_beam_options(rest[rest.index("--") + 1 :])


def _options(path: pathlib.Path) -> tuple[set[str], set[str]]:
    """Required and all options that a module adds to its argument parser."""
    required, known = set(), {"--help"}
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
            names = {a.value for a in call.args if isinstance(a, ast.Constant)}
            known |= names
            if any(k.arg == "required" and k.value.value for k in call.keywords):
                required |= names
    return required, known


def check_make(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(arguments) <= targets, f"make has no {set(arguments) - targets}"


def check_pip(arguments: list[str]) -> None:
    """Extras and files of this repository exist."""
    assert arguments[0] == "install"
    extras = re.search(r"extras_require\](.*?)\n\[", (ROOT / "setup.cfg").read_text(), re.DOTALL)
    for word in arguments:
        for name in re.findall(r"^(?:\.|kdsr-tf)\[(.*)\]$", word):
            for extra in name.split(","):
                assert re.search(rf"^{extra} =", extras[1], re.M), f"there is no extra {extra}"
        assert not word.endswith(".txt") or (ROOT / word).exists(), f"there is no {word}"


def check_tfds(arguments: list[str]) -> None:
    """The builders are ours, and so are their configurations."""
    from kdsr_tf.datasets import builders

    command, *rest = arguments
    assert command == "build" and "--imports=kdsr_tf.datasets.builders" in rest
    for name in (word for word in rest if not word.startswith("--")):
        folder, _, config = name.partition("/")
        assert folder in builders.CATALOGUES, f"there is no builder {folder}"
        sources = (ROOT / "kdsr_tf/datasets" / folder).glob("*.py")
        stem = config.removesuffix("_items")
        assert any(stem in path.read_text().lower() for path in sources), f"no config {config}"


def check_paths(arguments: list[str]) -> None:
    """Paths of this repository; those below `work/` and of other machines are the user's."""
    for word in arguments:
        if word.split("/")[0] in (*PACKAGES, "configs", "docs"):
            made = "kubernetes/base/config" in word  # by the `mkdir` before
            assert made or (ROOT / word).exists(), f"there is no {word}"


def check_docker(arguments: list[str]) -> None:
    """There is no daemon, so files, targets and arguments are compared with the Dockerfile."""
    check_paths(arguments)
    if arguments[0] == "build":
        path = arguments[arguments.index("-f") + 1]
        text = (ROOT / path).read_text()
        target = arguments[arguments.index("--target") + 1]
        assert f" AS {target}" in text, f"{path} has no target {target}"
        for flag, word in itertools.pairwise(arguments):
            assert flag != "--build-arg" or f"ARG {word.split('=')[0]}" in text, f"no ARG {word}"
    elif arguments[0] == "compose":
        compose = yaml.safe_load((ROOT / "serving/tf_serving/docker-compose.yml").read_text())
        assert arguments[-1] in compose["services"], f"no service {arguments[-1]}"


def check_gcloud(arguments: list[str]) -> None:
    """There is no cloud, so the template's parameters are compared with its metadata."""
    for word in arguments:
        if word.startswith("--metadata-file="):
            assert (ROOT / word.partition("=")[2]).exists(), f"there is no {word}"
        if word.startswith("--parameters="):
            metadata = yaml.safe_load((ROOT / "beam_pipelines/templates/prepare.json").read_text())
            given = {pair.split("=")[0] for pair in word.partition("=")[2].split(",")}
            unknown = given - {one["name"] for one in metadata["parameters"]}
            assert not unknown, f"the template has no parameters {unknown}"


PROGRAMS = {
    "kdsr": check_kdsr,
    "python": check_python,
    "make": check_make,
    "pip": check_pip,
    "tfds": check_tfds,
    "docker": check_docker,
    "gcloud": check_gcloud,
    **dict.fromkeys(
        ("kubectl", "cp", "cd", "mkdir", "tensorboard", "curl", "export", "kill"), check_paths
    ),
}
"""How the commands of each program are checked."""

LITERAL = "tests/integration/test_demo.py::test_documented_commands_run_as_they_stand"
"""Runs whole blocks of commands, in a folder with the files that they name."""

RUN_BY = {
    r"kdsr data import (clicks|data/shop|ml-1m|reviews_).*": LITERAL,
    r"kdsr compare .*": LITERAL,
    r"kdsr report .*": LITERAL,
    r"kdsr check .*": LITERAL,
    r"kdsr run --config configs/demo.yaml --set source.path=\S+ --workdir work/(mine|first|gru)"
    r"( --set model.backbone=gru4rec)?": LITERAL,
    r"kdsr run --workdir work/first .*": LITERAL,
    r"kdsr demo --method iisan": "tests/integration/test_iisan.py",
    r"kdsr run --config configs/iisan.yaml .*": "tests/integration/test_iisan.py",
    r"(mkdir|cp) .*kubernetes/base/config.*": LITERAL,
    r"kdsr skew --help": LITERAL,
    # What they do, with other paths, ports and sizes.
    r"kdsr serve .*": "tests/integration/test_demo.py",
    r"kdsr query .*": "tests/integration/test_demo.py",
    r"kdsr skew .*": "tests/export/compare_served.py",
    r"kdsr run .* model.backbone=my_backbones.*": "tests/backbones/test_own_backbone.py",
    r"tfds build .* amazon_.*": "tests/datasets/test_builders.py",
    r"kdsr (data import |run .*source.path=)tfds:.*": "tests/datasets/test_builders.py",
    r"kdsr run .* source.image_folders=.*": "tests/sources/test_image_files.py",
    r"kdsr encode .* encode.image.encoder=keras_app.*": "tests/beam_pipelines/test_handlers.py",
    r"kdsr encode --set encode.text.states.*": "tests/beam_pipelines/test_encode_states.py",
    r"kdsr experiment --list": "tests/runs/test_trials.py",
    r"kdsr experiment (ablation|encoders) .*": "tests/experiments/test_end_to_end.py",
    r"kdsr search .*": "tests/runs/test_trials.py",
    r"kdsr export --set export.(deny|allow)_items=.*": "tests/export/export_versions.py",
    r"kdsr export --add-items .*": "tests/export/export_versions.py",
    r"kdsr export --rollback.*": "tests/export/test_versions.py",
    r"kdsr train --warm-start .*": "tests/training/test_warm_start.py",
    r"(kdsr train .*multi_worker|export TF_CONFIG=.*)": "tests/training/test_distributed.py",
    r"python -m beam_pipelines.prepare .*--direct_num_workers=4": "tests/beam_pipelines",
    r"curl .*": "tests/serving/test_reliability.py",
    r"cd serving/tf_serving|kubectl kustomize .*": "tests/serving/test_tf_serving.py",
}
"""Which test runs a command: the first pattern that takes all of it decides."""

NOT_RUN = {
    r"make (demo|test)": "they run the tests, and `kdsr demo`, which tests/integration runs",
    r"pip install .*": "needs the network; tests/test_packaging.py installs the wheel alone",
    r"tfds build .* movielens_1m .*": "downloads the archive; tests/datasets/test_builders.py "
    "builds from one of its layout, and sees the checksum refuse it",
    r"kdsr run --config configs/ml1m.yaml .*": "needs MovieLens-1M and weights; hours",
    r"python -c import keras; .*": "downloads weights",
    r"python -m beam_pipelines.* --runner=(Dataflow|Flink)Runner.*": "needs a cloud or a cluster; "
    "tests/beam_pipelines/test_runners.py has Beam validate the options",
    r"docker .*": "needs a daemon; tests/serving/test_tf_serving.py reads the compose file too",
    r"gcloud .*": "needs an account and a project of Google Cloud",
    r"tensorboard .*": "a server without end; tests/integration/test_demo.py reads what it shows",
    r"kill %1": "of the server before it",
}
"""Commands that no test runs as they stand, and why; `tests/run_blocks.py` does where it can."""


def run_by(command: list[str]) -> tuple[str, str | None]:
    """The pattern that takes a command, and the test that runs it or None where none does.

    Raises:
        LookupError: if neither `RUN_BY` nor `NOT_RUN` has the command.
    """
    text = " ".join(command).removeprefix(".venv/bin/")
    for pattern in (*RUN_BY, *NOT_RUN):
        if re.fullmatch(pattern, text, re.DOTALL):
            return pattern, RUN_BY.get(pattern)
    raise LookupError(text)


def literal_blocks(page: str) -> list[str]:
    """Scripts of the page of which `LITERAL` runs every command."""
    return [text for text, tests in _scripts(page) if set(tests) == {LITERAL}]


def other_blocks(page: str) -> list[str]:
    """Scripts of the page with a command that no test runs; `tests/run_blocks.py` does."""
    return [text for text, tests in _scripts(page) if None in tests]


def _scripts(page: str) -> Iterator[tuple[str, list[str | None]]]:
    """Scripts of a page, and the test that runs each of their commands."""
    known = commands(page)
    for language, text in blocks(page):
        if language in ("sh", "bash", ""):
            lines = [line for line in words(text) if line in known]
            if lines:
                yield text, [run_by(line)[1] for line in lines]


def check_command(command: list[str]) -> None:
    program = command[0].removeprefix(".venv/bin/")
    assert program in PROGRAMS, f"{program}: say in PROGRAMS how it is checked"
    PROGRAMS[program](command[1:])
