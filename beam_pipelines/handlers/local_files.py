"""Files and folders of weights that a configuration names, on this machine."""

from __future__ import annotations

import functools
import os
import tempfile

import fsspec

from kdsr_tf.artifacts import exists
from kdsr_tf.errors import ConfigError


def local_file(path: str, key: str) -> str:
    """Local path of a file or URI named in the configuration.

    Args:
        path: Local path or URI; a file at a URI is copied for as long as this process lives.
        key: Configuration key, for the error.

    Raises:
        ConfigError: if there is no such file.
    """
    if not exists(path):
        raise ConfigError(f"`{key}`: there is no file {path}. Give an existing local path or URI.")
    return _fetched(path)[0] if "://" in path else os.path.abspath(path)


@functools.cache
def _fetched(path: str) -> tuple[str, tempfile.TemporaryDirectory]:
    """A copy under the file's own name, whose ending tells Keras the format, and its folder."""
    folder = tempfile.TemporaryDirectory(prefix="kdsr-")
    filesystem, remote = fsspec.core.url_to_fs(path)
    copy = os.path.join(folder.name, os.path.basename(remote))
    filesystem.get_file(remote, copy)
    return copy, folder


def local_folder(path: str, key: str) -> str | None:
    """Absolute path of a preset folder, or None if `path` is the name of a preset.

    Raises:
        ConfigError: if `path` looks like a folder and there is none.
    """
    if os.path.isdir(path):
        return os.path.abspath(path)
    if os.path.isabs(path) or path.startswith("."):
        raise ConfigError(f"`{key}`: there is no folder {path}. Give a preset's folder or name.")
    return None


def files_below(folder: str) -> list[str]:
    """Files of a folder and its sub-folders in a fixed order, hidden ones left out."""
    return sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )
