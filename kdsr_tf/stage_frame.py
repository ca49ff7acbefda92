"""The frame of a stage: inputs are read and checked, what it writes is committed whole."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, select
from kdsr_tf.config.loading import present_name
from kdsr_tf.errors import StaleArtifactError


class StageFrame(contextlib.AbstractContextManager["StageFrame"]):
    """What a stage reads, and where it writes one artifact.

    What lies in `new_folder()` at the end of the block becomes the artifact, with
    `manifest`, whose counts and details the stage sets. An exception deletes it. A block that
    asks for no folder changes nothing. `inputs` are the manifests of the other inputs by name.

    Args:
        config: The configuration.
        name: The artifact.
        external: Fingerprints of inputs without a manifest, by name.

    Raises:
        MissingArtifactError, StaleArtifactError: as `read_inputs` does.

    Example:
        >>> with StageFrame(config, "evaluation") as frame:  # doctest: +SKIP
        ...     write_metrics(frame.new_folder(), frame.inputs["student"])
        ...     frame.manifest.counts["users"] = 7
    """

    def __init__(
        self, config: Config, name: str, external: Mapping[str, str] | None = None
    ) -> None:
        self.inputs = read_inputs(config, name)
        self.manifest = new_manifest(config, name, self.inputs, external)
        self.location = stages.location(config, name)
        self._folder = contextlib.ExitStack()

    @functools.cached_property
    def committed(self) -> Manifest | None:
        """Manifest of the artifact as it was before, or None."""
        return artifacts.find_manifest(self.location)

    @property
    def current(self) -> Manifest | None:
        """The same if it was made from these inputs and this configuration, otherwise None."""
        found = self.committed
        return found if found and found.fingerprint == self.manifest.fingerprint else None

    def new_folder(self) -> str:
        """Make an empty folder that takes the artifact's place at the end of the block."""
        return self._folder.enter_context(artifacts.committing(self.location, self.manifest))

    def __exit__(self, *error: Any) -> None:
        self._folder.__exit__(*error)


def read_inputs(config: Config, name: str) -> dict[str, Manifest]:
    """Manifests of the committed inputs of an artifact, checked against each other.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if two inputs descend from different data, or one was
            made with another configuration.
    """
    artifact = stages.artifact_of(config, name)
    manifests = {
        given: artifacts.read_manifest(
            stages.location(config, given), written_by=stages.artifact_of(config, given).stage
        )
        for given in artifact.inputs
        if given not in stages.external_inputs(config)
    }
    for manifest in manifests.values():
        for given in manifest.inputs:
            if given in manifests:
                check_input(artifact.stage, manifest, given, manifests[given])
    for given, manifest in manifests.items():
        changed = changed_keys(manifest, stages.artifact_of(config, given), config)
        if changed:
            key, (before, after) = next(iter(changed.items()))
            raise StaleArtifactError(
                f"`{artifact.stage}` cannot read {given}: it was made with "
                f"{key}={json.dumps(before)}, and the configuration says {json.dumps(after)}. "
                f"Run `kdsr {stages.artifact_of(config, given).stage}` again, use `kdsr run`, or "
                "give the same configuration."
            )
    return manifests


def changed_keys(
    manifest: Manifest, artifact: stages.Artifact, config: Config
) -> dict[str, tuple[Any, Any]]:
    """Value then and now, by dotted key, of what an artifact depends on and was not made with.

    None stands for a key that is absent.
    """
    before = dict(_flatten(manifest.config))
    after = dict(_flatten(select(config, artifact.keys)))
    return {
        present_name(key): (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, nested in value.items():
            yield from _flatten(nested, f"{path}.{key}" if path else key)
    else:
        yield path, value


def new_manifest(
    config: Config,
    name: str,
    inputs: Mapping[str, Manifest],
    external: Mapping[str, str] | None = None,
) -> Manifest:
    """A manifest for `artifacts.committing`, from the inputs just read.

    `external` are fingerprints of inputs without a manifest, perhaps more than it needs.

    Raises:
        ValueError: if an input's fingerprint is missing.
    """
    artifact = stages.artifact_of(config, name)
    known = {**(external or {}), **{given: m.fingerprint for given, m in inputs.items()}}
    missing = [given for given in artifact.inputs if given not in known]
    if missing:
        raise ValueError(f"`{name}` needs the fingerprints of: {', '.join(missing)}.")
    fingerprints = {given: known[given] for given in artifact.inputs}
    return Manifest(
        artifact=name,
        fingerprint=stages.fingerprint_of(config, artifact, fingerprints),
        config=select(config, artifact.keys),
        inputs=fingerprints,
    )


def check_input(reader: str, manifest: Manifest, name: str, expected: Manifest) -> None:
    """Refuse an artifact (`manifest`) whose recorded input is not the input as it is now."""
    found = manifest.inputs.get(name)
    if found != expected.fingerprint:
        raise StaleArtifactError(
            f"`{reader}` cannot combine {manifest.artifact} with {name}: "
            f"{manifest.artifact} was made from {name} {found}, "
            f"but {name} is now {expected.fingerprint}. "
            f"Run the stage that writes {manifest.artifact} again, or use `kdsr run`."
        )
