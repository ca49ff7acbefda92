"""Paths as people write them, and folders that are taken literally.

A path that a person gives passes `expand_home` once, where it becomes a value: the keys of
the configuration that hold paths and the arguments of the command line. Behind that edge
every character of a path is itself. fsspec reads brackets, stars and question marks of a
folder that it copies or removes as a pattern; the functions here do not.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any

from kdsr_tf.errors import InputError

_HOME = re.compile(r"^((?:tfds:|file://|local://)?)(~.*)$", re.DOTALL)


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key of names in which 2 comes before 10.

    Example:
        >>> sorted(["part.10", "part.2"], key=natural_order)
        ['part.2', 'part.10']
    """
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if k % 2 else (0, part) for k, part in enumerate(parts)]


class NoHomeError(InputError, ValueError):
    """A path begins with the home folder of a user that does not exist."""


def expand_home(path: str) -> str:
    """A local path, URI or `tfds:` path with the home folder in place of a leading `~` or `~name`.

    Raises:
        NoHomeError: if there is no such home folder. A file whose own name begins with a
            tilde is written with its folder, such as `./~notes.csv`.

    Example:
        >>> expand_home("gs://shop/~a"), expand_home("data/~"), expand_home("./~notes.csv")
        ('gs://shop/~a', 'data/~', './~notes.csv')
        >>> expand_home("~/shop") == os.path.expanduser("~/shop")
        True
    """
    found = _HOME.match(path)
    if found is None:
        return path
    prefix, written = found.groups()
    whole = os.path.expanduser(written)
    if whole.startswith("~"):
        name = written.split("/")[0]
        raise NoHomeError(
            f"There is no home folder {name}. Give the whole path, or "
            f"{prefix}./{written} where the name itself begins with a tilde."
        )
    return prefix + whole


def copy_folder(filesystem: Any, source: str, target: str) -> None:
    """Copy the files below a folder to a new one of the same filesystem, both without protocol."""
    files = filesystem.find(source)
    targets = [f"{target}{path.removeprefix(source)}" for path in files]
    for folder in sorted({path.rsplit("/", 1)[0] for path in targets}):
        filesystem.makedirs(folder, exist_ok=True)
    if files:
        # Two lists are taken as they are, and object stores copy them side by side.
        filesystem.copy(files, targets)


@contextlib.contextmanager
def local_folder(target: str) -> Iterator[str]:
    """A local folder whose files are in `target`, an existing folder or URI, afterwards."""
    if "://" not in target:
        yield target
        return
    import fsspec  # not for the help of a command, which reads paths too

    filesystem, remote = fsspec.core.url_to_fs(target)
    with tempfile.TemporaryDirectory() as folder:
        yield folder
        for name in sorted(os.listdir(folder)):
            filesystem.put_file(os.path.join(folder, name), f"{remote}/{name}")


def remove_folder(filesystem: Any, folder: str) -> None:
    """Remove a folder, given without protocol or closing slash, and everything below it."""
    if "file" in filesystem.protocol or not glob.has_magic(folder):
        filesystem.rm(folder, recursive=True)
        return
    found = filesystem.find(folder, withdirs=True, detail=True)
    below = [name for name, info in found.items() if info["type"] == "directory"]
    for path in found.keys() - set(below):
        filesystem.rm_file(path)
    for path in sorted({*below, folder}, key=len, reverse=True):
        # An object store has no folders, or drops one with its last file.
        with contextlib.suppress(FileNotFoundError):
            filesystem.rmdir(path)
