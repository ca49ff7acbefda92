"""From what a user calls a run to its `evaluation/` folders. No TensorFlow."""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Sequence

import fsspec

from kdsr_tf import artifacts
from kdsr_tf.artifacts import join
from kdsr_tf.errors import InputError, MissingArtifactError
from kdsr_tf.evaluation.evaluation_files import Evaluation, read_evaluation
from kdsr_tf.paths import expand_home

EVALUATION = "evaluation"
SEEDS_FILE = "seeds.json"
"""What `kdsr repeat` leaves beside its runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: evaluations of a run, or of several that differ in their seed."""

    name: str
    evaluations: tuple[Evaluation, ...]


def find_arms(runs: Sequence[str]) -> list[Arm]:
    """Read the evaluations of runs given as paths.

    Args:
        runs: Each `PATH` or `NAME=PATH`. A path is an `evaluation/` folder, a folder
            that holds one, a folder in which `kdsr repeat` left `seeds.json` (or that
            file), or a pattern such as `work/runs/kd-seed-*`: all it finds are seeds of
            one arm. Folders that exist are taken literally, brackets and stars included.

    Returns:
        One `Arm` per run. Paths without a name are called by what tells them apart.

    Raises:
        MissingArtifactError: where there is no evaluation.
        InputError: for a path that could be two things, and for equal names.
    """
    given = [split_name(run) for run in runs]
    paths = [name for name, path in given if name == path.rstrip("/")]
    short = dict(zip(paths, _without_common_folders(paths), strict=True))
    names = [short.get(name, name) for name, _ in given]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two runs have the same name. Received: {', '.join(names)}. Give them names: "
            "NAME=PATH."
        )
    return [
        Arm(name=name, evaluations=tuple(map(read_evaluation, find_evaluations(path))))
        for name, (_, path) in zip(names, given, strict=True)
    ]


def find_evaluations(path: str) -> list[str]:
    """The `evaluation/` folders behind one path; see `find_arms`."""
    path = path.rstrip("/")
    if glob.has_magic(path) and not artifacts.exists(path):
        return _all_matches(path)
    if path.endswith(f"/{SEEDS_FILE}") or path == SEEDS_FILE:
        return _of_seeds(path.removesuffix(SEEDS_FILE).rstrip("/") or ".")
    own = join(path, EVALUATION)
    holds_one, holds_seeds = (
        artifacts.exists(join(place, name))
        for place, name in ((own, artifacts.MANIFEST), (path, SEEDS_FILE))
    )
    if holds_one and holds_seeds:
        raise InputError(
            f"{path} holds one run (its {EVALUATION}/) and several seeds (its {SEEDS_FILE}). "
            f"Say which: {own} or {join(path, SEEDS_FILE)}."
        )
    if holds_seeds:
        return _of_seeds(path)
    if holds_one:
        return [own]
    manifest = artifacts.find_manifest(path)
    if manifest is not None and manifest.artifact == EVALUATION:
        return [path]
    raise MissingArtifactError(
        f"{path} holds no evaluation: there is neither {EVALUATION}/ nor {SEEDS_FILE} in it, and "
        "it is no evaluation folder itself. Run `kdsr evaluate` or `kdsr repeat` there."
    )


def split_name(run: str) -> tuple[str, str]:
    """Name and path of `NAME=PATH`; a bare path is its own name. `~` is the home folder.

    Example:
        >>> split_name("kd=work/runs/a"), split_name("work/")
        (('kd', 'work/runs/a'), ('work', 'work/'))
    """
    name, separator, path = run.partition("=")
    if separator and name and not artifacts.exists(expand_home(run)):
        return name, expand_home(path)
    path = expand_home(run)
    return path.rstrip("/"), path


def _without_common_folders(paths: Sequence[str]) -> list[str]:
    """What tells paths apart: `work/runs/a`, `work/runs/b` become `a`, `b`."""
    parts = [path.split("/") for path in paths]
    while len(parts) > 1 and min(map(len, parts)) > 1 and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return ["/".join(part) for part in parts]


def _all_matches(pattern: str) -> list[str]:
    filesystem, local = fsspec.core.url_to_fs(pattern)
    literal, rest = "", local
    while (end := rest.find("/") + 1) and filesystem.exists(f"{literal}{rest[:end]}"):
        literal, rest = f"{literal}{rest[:end]}", rest[end:]
    found = sorted(filesystem.glob(glob.escape(literal) + rest))
    if not found:
        raise MissingArtifactError(f"Nothing matches {pattern}.")
    remote = "://" in pattern
    paths = [filesystem.unstrip_protocol(path) if remote else path for path in found]
    return [evaluation for path in paths for evaluation in find_evaluations(path)]


def _of_seeds(directory: str) -> list[str]:
    """Folders of the seeds of `kdsr repeat`, beside a named run or below `runs/`."""
    with fsspec.open(join(directory, SEEDS_FILE), "r") as file:
        seeds = json.load(file)["seeds"]
    below = [join(directory, "runs", f"seed-{seed}", EVALUATION) for seed in seeds]
    if artifacts.exists(below[0]):
        return below
    return [f"{directory}-seed-{seed}/{EVALUATION}" for seed in seeds]
