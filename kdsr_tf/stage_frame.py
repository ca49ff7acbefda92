"""The frame of a stage: inputs are read and checked, what it writes is committed whole."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, select
from kdsr_tf.errors import StaleArtifactError


class StageFrame(contextlib.AbstractContextManager["StageFrame"]):
    """What a stage reads, and where it writes one artifact.

    What lies in `new_folder()` at the end of the block becomes the artifact, with
    `manifest`. An exception deletes it. A block that asks for no folder changes nothing.

    Args:
        config: The configuration.
        name: The artifact.
        external: Fingerprints of inputs without a manifest, by name.

    Attributes:
        inputs: Manifests of the other inputs, by name.
        manifest: Manifest of what is to be written; the stage sets its counts and details.
        location: Local path or URI of the artifact.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if two inputs descend from different data, or one was made
            with another configuration.

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, trace)


def read_inputs(config: Config, name: str) -> dict[str, Manifest]:
    """The committed inputs of an artifact, checked against each other.

    Args:
        config: The configuration.
        name: Artifact about to be written.

    Returns:
        Manifest of every input that has one.

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
    """Configuration an artifact depends on and that is not what it was made with.

    Returns:
        Value then and value now, by dotted key; None stands for a key that is absent.
    """
    before = dict(_flatten(manifest.config))
    after = dict(_flatten(select(config, artifact.keys)))
    return {
        key: (before.get(key), after.get(key))
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

    Args:
        config: The configuration.
        name: Artifact about to be written.
        inputs: Result of `read_inputs`.
        external: Fingerprints of inputs without a manifest, by name; more than
            the artifact needs may be given.

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
    """Refuse two artifacts that do not descend from the same input.

    Args:
        reader: Stage that reads both.
        manifest: The artifact whose recorded input is checked.
        name: Name of that input in `manifest.inputs`.
        expected: The input as it is in the working directory now.

    Raises:
        StaleArtifactError: naming both artifacts and both fingerprints.
    """
    found = manifest.inputs.get(name)
    if found != expected.fingerprint:
        raise StaleArtifactError(
            f"`{reader}` cannot combine {manifest.artifact} with {name}: "
            f"{manifest.artifact} was made from {name} {found}, "
            f"but {name} is now {expected.fingerprint}. "
            f"Run the stage that writes {manifest.artifact} again, or use `kdsr run`."
        )
