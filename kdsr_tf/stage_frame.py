"""The frame of a stage: inputs are read and checked, what it writes is committed whole."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from types import TracebackType

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config


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
        self.inputs = stages.read_inputs(config, name)
        self.manifest = stages.new_manifest(config, name, self.inputs, external)
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
