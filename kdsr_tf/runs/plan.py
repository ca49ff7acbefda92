"""What would run, and why: every artifact compared with what it would be now."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.stages import SOURCE, Artifact

UP_TO_DATE = "up to date"
NOT_GENERATED = "not generated yet"
"""Stands for the fingerprint of a source that does not exist yet."""

_LONGEST_VALUE = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """An artifact, the manifest of its committed directory if there is one, and why to write it."""

    artifact: Artifact
    manifest: Manifest | None
    reasons: tuple[str, ...]

    @property
    def up_to_date(self) -> bool:
        """Whether the committed directory is what the configuration asks for."""
        return not self.reasons


def external_fingerprints(
    config: Config, modalities: Sequence[str] | None = None
) -> dict[str, str]:
    """Fingerprints of what has no manifest: the user's own data and the encoders.

    `modalities` are those whose encoders to look for; None looks for all. `KDSRError` if data, a
    column to encode, a preset or a weights file are missing or cannot be read.
    """
    from beam_pipelines.handlers.choose_encoder import choose_encoder
    from beam_pipelines.transforms.declarations import declare
    from kdsr_tf.sources import export_files, open_source

    source = open_source(config.source)
    encoders = {}
    for m in config.modalities if modalities is None else modalities:
        declare(config, m, source)
        encoders[stages.encoder_input(m)] = choose_encoder(config, m, source).identity()
    given = export_files.fingerprints(config) if modalities is None else {}
    return {SOURCE: source.fingerprint(), **encoders, **given}


def make_plan(
    config: Config,
    external: Mapping[str, str],
    also: Sequence[Artifact] = (),
    wanted: Sequence[str] = stages.STAGES,
) -> list[State]:
    """State of every artifact of the wanted stages, each after its inputs.

    Artifacts on request, `also`, are planned with those of every run.
    """
    known = stages.fingerprints(config, external, also)
    return [
        _state(config, artifact, {name: known[name] for name in artifact.inputs})
        for artifact in (*stages.artifacts_of(config), *also)
        if artifact.stage in wanted
    ]


def plan_of_stage(config: Config, stage: str) -> list[State]:
    """State of a stage's artifacts, given its inputs on disk; raises if one is missing or stale."""
    return [
        plan_of_artifact(config, artifact)
        for artifact in stages.artifacts_of(config)
        if artifact.stage == stage
    ]


def plan_of_artifact(config: Config, artifact: Artifact) -> State:
    """State of one artifact, given its inputs as they are on disk; raises likewise."""
    from kdsr_tf.sources import export_files

    manifests = stage_frame.read_inputs(config, artifact.name)
    inputs = {name: manifest.fingerprint for name, manifest in manifests.items()}
    # `prepare` needs no encoder yet, and each encoder only its own files.
    own = [m for m in config.modalities if stages.encoder_input(m) in artifact.inputs]
    external: dict[str, str] = {}
    if own or SOURCE in artifact.inputs:
        external |= external_fingerprints(config, own)
    if artifact.stage == "export":
        external |= export_files.fingerprints(config)
    inputs |= {name: external[name] for name in artifact.inputs if name in external}
    return _state(config, artifact, inputs)


def _state(config: Config, artifact: Artifact, inputs: Mapping[str, str]) -> State:
    manifest = artifacts.find_manifest(stages.location(config, artifact.name))
    if manifest is None:
        reasons: tuple[str, ...] = ("missing",)
    elif manifest.fingerprint == stages.fingerprint_of(config, artifact, inputs):
        reasons = ()
    else:
        reasons = tuple(_differences(config, artifact, manifest, inputs))
    return State(artifact=artifact, manifest=manifest, reasons=reasons)


def _differences(
    config: Config, artifact: Artifact, manifest: Manifest, inputs: Mapping[str, str]
) -> Iterator[str]:
    changed = stage_frame.changed_keys(manifest, artifact, config)
    found = bool(changed)
    for key, (before, after) in changed.items():
        yield f"`{key}` changed from {_short(before)} to {_short(after)}"
    for name in sorted(manifest.inputs.keys() | inputs.keys()):
        if manifest.inputs.get(name) != inputs.get(name):
            found = True
            yield f"{name} changed"
    if not found:
        yield "written by another version of KDSR-TF"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
