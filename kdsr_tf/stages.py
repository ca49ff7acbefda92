"""Which artifact each stage writes, from which inputs and configuration.

A fingerprint depends on the configuration a stage uses and on the fingerprints
of its inputs, never on output bytes, so the whole plan is known before anything
runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from kdsr_tf import artifacts
from kdsr_tf.config import Config, select

SOURCE = "source"
"""Name of the user's own data among the inputs; it has no manifest."""

ALLOW_ITEMS, DENY_ITEMS, ADD_ITEMS = "allow_items", "deny_items", "add_items"
"""Names of an export's own files among the inputs; they have no manifest."""

NEW_ITEMS = "new_items"
"""Name of the artifact made from `export.add_items`."""


def encoder_input(modality: str) -> str:
    """Name of an encoder and its weights among the inputs; it has no manifest."""
    return f"encoder/{modality}"


def export_files(config: Config) -> dict[str, str]:
    """Files that an export reads beside artifacts: name among the inputs, to path or URI."""
    export = config.export
    files = {
        ALLOW_ITEMS: export.allow_items,
        DENY_ITEMS: export.deny_items,
        ADD_ITEMS: export.add_items,
    }
    return {name: path for name, path in files.items() if path is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """One committed directory.

    Args:
        name: Path below the working directory.
        stage: Command that writes it.
        keys: Configuration keys the content depends on.
        inputs: Names of the artifacts it is made from, and of what has no manifest
            (`source`, `encoder/<modality>`).
        version: Raised when the format or the code's meaning changes.
    """

    name: str
    stage: str
    keys: tuple[str, ...]
    inputs: tuple[str, ...]
    version: int = 1


STAGES = ("prepare", "encode", "teach", "distill", "train", "evaluate", "export", "report")
"""Stages that write artifacts, in running order."""


BEFORE_TRAINING = ("prepare", "encode", "teach", "distill")
"""Stages whose artifacts all runs of a working directory share."""

_OF_A_RUN = ("student", "evaluation", NEW_ITEMS, "serving_model", "report")
"""Artifacts that every run of a working directory has for itself."""


def windows_of(config: Config) -> str:
    """Name of the artifact that training reads its windows from.

    Returns:
        `examples`, which holds the teacher's scores and codes too, or `windows`, which does
        not; a working directory may hold both, for students of both kinds.
    """
    return "examples" if config.needs.pairs else "windows"


def taught_modalities(config: Config) -> tuple[str, ...]:
    """Modalities that need a teacher, for training or to place new items in tables."""
    needs = config.needs
    return config.modalities if config.export.add_items and not needs.content else needs.teachers


def artifacts_of(config: Config) -> tuple[Artifact, ...]:
    """Every artifact of a configuration, each after its inputs.

    There is a teacher only where something reads it: see `Config.needs`.
    """
    return *_data_artifacts(config), *_run_artifacts(config)


def _data_artifacts(config: Config) -> tuple[Artifact, ...]:
    return (
        Artifact(
            name="sequences",
            stage="prepare",
            keys=(
                "source.title_column",
                "source.image_column",
                "prepare",
                "windows.max_length",
                "seed",
            ),
            inputs=(SOURCE,),
            version=2,
        ),
        *(
            Artifact(
                name=f"features/{m}",
                stage="encode",
                keys=(f"encode.{m}", "encode.max_rejected_fraction"),
                inputs=(SOURCE, encoder_input(m), "sequences"),
                version=2,
            )
            for m in config.modalities
        ),
        *(
            Artifact(
                name=f"teacher/{m}",
                stage="teach",
                keys=("teach", "model.dim", "seed"),
                inputs=("sequences", f"features/{m}"),
            )
            for m in taught_modalities(config)
        ),
        Artifact(
            name=windows_of(config),
            stage="distill",
            keys=("windows", "seed"),
            inputs=("sequences", *(f"teacher/{m}" for m in config.needs.pairs)),
        ),
    )


def _run_artifacts(config: Config) -> tuple[Artifact, ...]:
    windows = windows_of(config)
    features = tuple(f"features/{m}" for m in config.modalities)
    read = tuple(f"teacher/{m}" for m in config.needs.teachers)
    content = tuple(f"features/{m}" for m in config.needs.content)
    teachers = tuple(f"teacher/{m}" for m in taught_modalities(config))
    lists = tuple(name for name in export_files(config) if name != ADD_ITEMS)
    new_items = _new_items(config)
    added = (NEW_ITEMS, *teachers) if new_items else ()
    return (
        Artifact(
            name="student",
            stage="train",
            keys=("model", *config.needs.sections, "train", "seed"),
            inputs=("sequences", windows, *read, *content),
        ),
        Artifact(
            name="evaluation",
            stage="evaluate",
            keys=("evaluate",),
            inputs=("sequences", windows, "student", *features),
            version=2,
        ),
        *new_items,
        Artifact(
            name="serving_model",
            stage="export",
            keys=("export", "serve.model_name"),
            inputs=("sequences", windows, "student", *content, *added, *lists),
            version=2,
        ),
        Artifact(
            name="report",
            stage="report",
            keys=(),
            inputs=("sequences", "student", "evaluation", "serving_model", *features, *read),
            version=2,
        ),
    )


def _new_items(config: Config) -> tuple[Artifact, ...]:
    if config.export.add_items is None:
        return ()
    modalities = config.modalities
    features = tuple(f"features/{m}" for m in modalities)
    named = ("columns", "title_column", "image_column", "image_folders")
    columns = tuple(f"source.{name}" for name in named)
    return (
        Artifact(
            name=NEW_ITEMS,
            stage="export",
            keys=(*(f"encode.{m}" for m in modalities), *columns),
            inputs=(ADD_ITEMS, "sequences", *features),
            version=2,
        ),
    )


TRIPLETS = "triplets"
"""Name of the one artifact that is written on request only."""


def triplets_of(config: Config) -> Artifact:
    """What `kdsr distill --triplets` writes; no stage reads it."""
    teachers = tuple(f"teacher/{m}" for m in config.needs.pairs)
    return Artifact(
        name=TRIPLETS,
        stage="distill",
        keys=(),
        inputs=("sequences", "examples", *teachers),
    )


_COUNTS = {
    ("sequences", "train_points"): "train points (validation points included)",
    ("sequences", "pairs"): "sampled pairs",
    ("teacher", "items"): "items with the modality",
    ("teacher", "pairs"): "sampled pairs with the modality",
    ("examples", "train_targets"): "train targets (without validation points)",
    ("windows", "train_targets"): "train targets (without validation points)",
    ("examples", "pairs"): "pairs in windows",
    ("evaluation", "users"): "users with a test point",
    ("serving_model", "items"): "items known",
}
"""Names for people of counts that another artifact has under the same name."""


def count_name(artifact: str, name: str) -> str:
    """What people read for a count of a manifest.

    Example:
        >>> count_name("teacher/text", "pairs"), count_name("student", "train_windows")
        ('sampled pairs with the modality', 'train windows')
    """
    return _COUNTS.get((artifact.partition("/")[0], name), name.replace("_", " "))


def artifact_of(config: Config, name: str) -> Artifact:
    """The artifact called `name`."""
    known = (*artifacts_of(config), triplets_of(config))
    return {artifact.name: artifact for artifact in known}[name]


def external_inputs(config: Config) -> tuple[str, ...]:
    """Names of all inputs that have no manifest: the source, the encoders, an export's files."""
    return (SOURCE, *(encoder_input(m) for m in config.modalities), *export_files(config))


def location(config: Config, name: str) -> str:
    """Local path or URI of an artifact."""
    own = name in _OF_A_RUN
    folder = config.artifact_folders.get(name, name)
    return artifacts.join(config.run_directory if own else config.workdir, *folder.split("/"))


def fingerprint_of(config: Config, artifact: Artifact, inputs: Mapping[str, str]) -> str:
    """Fingerprint of an artifact from its inputs' fingerprints."""
    return artifacts.fingerprint(
        {
            "artifact": artifact.name,
            "version": artifact.version,
            "config": select(config, artifact.keys),
            "inputs": dict(inputs),
        }
    )


def fingerprints(
    config: Config, external: Mapping[str, str], also: Sequence[Artifact] = ()
) -> dict[str, str]:
    """Fingerprint of every artifact a configuration asks for, known before anything runs.

    Args:
        config: The configuration.
        external: Fingerprints of what has no manifest (`external_inputs`).
        also: Artifacts on request.

    Returns:
        Fingerprint by name, those of `external` included.
    """
    found = dict(external)
    for artifact in (*artifacts_of(config), *also):
        inputs = {name: found[name] for name in artifact.inputs}
        found[artifact.name] = fingerprint_of(config, artifact, inputs)
    return found
