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


CONTENT, STATES = "content", "states"
"""First parts of the names of artifacts that computed items are made from."""


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


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One committed directory."""

    name: str  # Path below the working directory
    stage: str  # Command that writes it
    keys: tuple[str, ...]  # Configuration keys the content depends on
    # Names of the artifacts it is made from, and of what has no manifest (`source`,
    # `encoder/<modality>`)
    inputs: tuple[str, ...]
    version: int = 1  # Raised when the format or the code's meaning changes


BEFORE_TRAINING = ("prepare", "encode", "teach", "distill")
"""Stages whose artifacts all runs of a working directory share."""

STAGES = (*BEFORE_TRAINING, "train", "evaluate", "export", "report")
"""Stages that write artifacts, in running order."""

_OF_A_RUN = ("student", "evaluation", NEW_ITEMS, "serving_model", "report")
"""Artifacts that every run of a working directory has for itself."""


def windows_of(config: Config) -> str:
    """Name of the artifact that training reads its windows from.

    `examples` holds the teacher's scores and codes too, `windows` does not; a working directory
    may hold both, for students of both kinds.
    """
    return "examples" if config.needs.pairs else "windows"


def taught_modalities(config: Config) -> tuple[str, ...]:
    """Modalities that need a teacher, for training or to place new items in tables."""
    needs, in_tables = config.needs, not content_of(config)
    return config.modalities if config.export.add_items and in_tables else needs.teachers


def content_of(config: Config) -> tuple[str, ...]:
    """Names of the artifacts that the vectors of items are computed from; none for tables."""
    content = [f"{CONTENT}/{m}" for m in config.needs.content]
    return *content, *(f"{STATES}/{m}" for m in config.needs.states)


def artifacts_of(config: Config) -> tuple[Artifact, ...]:
    """Every artifact of a configuration, each after its inputs.

    There is a teacher only where something reads it: see `Config.needs`.
    """
    return *_data_artifacts(config), *_run_artifacts(config)


def _data_artifacts(config: Config) -> tuple[Artifact, ...]:
    split_keys = ("source.title_column", "source.image_column", "prepare", "windows.max_length")
    taught = ("teach", "model.dim", "seed")
    teachers = (f"teacher/{m}" for m in config.needs.pairs)
    return (
        Artifact("sequences", "prepare", (*split_keys, "seed"), (SOURCE,), version=2),
        *(_features_of(m) for m in config.modalities),
        *(
            Artifact(f"teacher/{m}", "teach", taught, ("sequences", f"features/{m}"))
            for m in taught_modalities(config)
        ),
        *(_rows_of(name) for name in content_of(config)),
        Artifact(windows_of(config), "distill", ("windows", "seed"), ("sequences", *teachers)),
    )


def _features_of(modality: str) -> Artifact:
    keys = (f"encode.{modality}", "encode.max_rejected_fraction")
    inputs = (SOURCE, encoder_input(modality), "sequences")
    return Artifact(f"features/{modality}", "encode", keys, inputs, version=2)


def _rows_of(content: str) -> Artifact:
    features = f"features/{content.partition('/')[2]}"
    return Artifact(content, "teach", (), ("sequences", features))


def _run_artifacts(config: Config) -> tuple[Artifact, ...]:
    needs, read = config.needs, ("sequences", windows_of(config))
    features = tuple(f"features/{m}" for m in config.modalities)
    started_from = tuple(f"teacher/{m}" for m in needs.teachers)
    content = content_of(config)
    lists = tuple(name for name in export_files(config) if name != ADD_ITEMS)
    new_items = _new_items(config)
    teachers = tuple(f"teacher/{m}" for m in taught_modalities(config))
    added = (NEW_ITEMS, *teachers) if new_items else ()
    learnt = ("model", *needs.sections, "train", "seed")
    evaluated = (*read, "student", *features, *content)
    shown = ("sequences", "student", "evaluation", "serving_model", *features, *started_from)
    return (
        Artifact("student", "train", learnt, (*read, *started_from, *content)),
        Artifact("evaluation", "evaluate", ("evaluate",), evaluated, version=2),
        *new_items,
        Artifact(
            "serving_model",
            "export",
            ("export", "serve.model_name"),
            (*read, "student", *content, *added, *lists),
            version=2,
        ),
        Artifact("report", "report", (), shown, version=2),
    )


def _new_items(config: Config) -> tuple[Artifact, ...]:
    if config.export.add_items is None:
        return ()
    encoders = (f"encode.{m}" for m in config.modalities)
    columns = ("columns", "title_column", "image_column", "image_folders")
    keys = (*encoders, *(f"source.{name}" for name in columns))
    features = (f"features/{m}" for m in config.modalities)
    return (Artifact(NEW_ITEMS, "export", keys, (ADD_ITEMS, "sequences", *features), version=2),)


TRIPLETS = "triplets"
"""Name of the one artifact that is written on request only."""


def triplets_of(config: Config) -> Artifact:
    """What `kdsr distill --triplets` writes; no stage reads it."""
    teachers = (f"teacher/{m}" for m in config.needs.pairs)
    return Artifact(TRIPLETS, "distill", (), ("sequences", "examples", *teachers))


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
    """What people read for a count of a manifest."""
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

    `external` are those of what has no manifest (`external_inputs`), included in the result, and
    `also` are artifacts on request.
    """
    found = dict(external)
    for artifact in (*artifacts_of(config), *also):
        inputs = {name: found[name] for name in artifact.inputs}
        found[artifact.name] = fingerprint_of(config, artifact, inputs)
    return found
