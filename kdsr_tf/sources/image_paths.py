"""Which pictures a catalogue may name: those below the folders that the user declared."""

from __future__ import annotations

import functools
import hashlib
import os
import posixpath
import re
import urllib.parse
from collections.abc import Sequence

import fsspec

from kdsr_tf.errors import InputError, storage_problem

_LOCAL_SCHEMES = ("file", "local")
_LOCAL_URI = re.compile(r"(?:file|local):(?://(?:localhost(?=/))?)?", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_UNLISTABLE = ("http://", "https://")


def allowed_path(value: str, folders: Sequence[str]) -> str:
    """Path or URI of a picture that lies below one of the folders.

    A catalogue may come from anyone. It must not make a worker read other files
    of its machine or addresses of its network.

    Args:
        value: Path or URI as the catalogue has it, with slashes or backslashes; a
            relative path starts at the first folder.
        folders: Absolute local paths and URIs.

    Returns:
        An absolute local path or a URI.

    Raises:
        InputError: if the path leads outside all folders, through `..` (also
            percent-encoded), a link, an absolute path, another scheme or a chain
            such as `simplecache::file://`; or if no file can have such a name.

    Example:
        >>> allowed_path("images/a.png", ["gs://shop/data"])
        'gs://shop/data/images/a.png'
        >>> allowed_path("https://cdn.example/a.png", ["/data", "https://cdn.example"])
        'https://cdn.example/a.png'
    """
    path = _absolute(value, folders[0] if folders else None)
    if path is None or not is_inside(path, folders):
        shown = value if len(value) <= 200 else value[:200] + "…"
        raise InputError(
            f"Image path {shown!r} leads outside {' and '.join(folders) or 'every folder'}. "
            "Move the picture there, or declare its folder: --set source.image_folders=[FOLDER]."
        )
    return path


def is_inside(path: str, folders: Sequence[str]) -> bool:
    """Whether a path or URI, links followed, lies below one of the folders."""
    return any(_is_below(path, folder) for folder in folders)


def absolute_folder(path: str) -> str:
    """A folder as an absolute local path or a URI; `file://` is a local path."""
    scheme, separator, rest = path.partition("://")
    if separator and scheme.lower() not in _LOCAL_SCHEMES:
        return path
    return os.path.abspath(rest if separator else path)


def check_folders(folders: Sequence[str]) -> tuple[str, ...]:
    """`source.image_folders` as absolute local paths and URIs.

    Raises:
        InputError: for a local folder that does not exist, or a URI that nothing
            installed can open.
    """
    found = tuple(map(absolute_folder, folders))
    for folder in found:
        scheme, is_uri, _ = folder.partition("://")
        if not is_uri and not os.path.isdir(folder):
            raise InputError(f"`source.image_folders` (--images): there is no folder {folder}.")
        if is_uri and not folder.startswith(_UNLISTABLE):
            try:
                fsspec.get_filesystem_class(scheme)
            except (ImportError, ValueError) as error:
                raise InputError(
                    f"`source.image_folders` (--images): {folder} cannot be opened: "
                    f"{storage_problem(error) or error}."
                ) from None
    return found


def listing_digest(folder: str, skipped: Sequence[str] = ()) -> str | None:
    """Hash of the names, sizes and times of all files below a folder.

    Args:
        folder: Absolute local path or URI.
        skipped: Names of files directly in the folder that do not count.

    Returns:
        None for a web server, which lists nothing.
    """
    if folder.startswith(_UNLISTABLE):
        return None
    filesystem, root = fsspec.core.url_to_fs(folder)
    digest = hashlib.sha256()
    for name, info in sorted(filesystem.find(root, detail=True).items()):
        if posixpath.dirname(name) == root.rstrip("/") and posixpath.basename(name) in skipped:
            continue
        changed = info.get("mtime") or info.get("LastModified") or info.get("updated") or ""
        digest.update(f"{name.removeprefix(root)}\0{info['size']}\0{changed}\n".encode())
    return digest.hexdigest()


def _absolute(value: str, folder: str | None) -> str | None:
    """The path with dots resolved, or None where no reading of it is safe."""
    if "\0" in value or "::" in value or not _is_unicode(value):
        return None
    if local := _LOCAL_URI.match(value):
        value = urllib.parse.unquote(value[local.end() :])
    elif "://" in value:
        scheme, _, rest = value.partition("://")
        return None if _climbs(rest) else f"{scheme.lower()}://{rest}"
    if "\0" in value or _DRIVE.match(value):
        return None
    # Windows writes folders with backslashes.
    value = value.replace("\\", "/")
    if os.path.isabs(value):
        return os.path.normpath(value)
    if folder is None:
        return None
    if "://" not in folder:
        return os.path.normpath(os.path.join(folder, value))
    inside = posixpath.normpath(value)
    return None if _climbs(inside) else f"{folder.rstrip('/')}/{inside}"


def _is_unicode(text: str) -> bool:
    """Whether a text is free of halves of surrogate pairs, which JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _climbs(path: str) -> bool:
    """Whether a part of a URI is `..`, however often it was percent-encoded."""
    decoded = urllib.parse.unquote(path)
    while decoded != path:
        path, decoded = decoded, urllib.parse.unquote(decoded)
    return ".." in path.replace("\\", "/").split("/")


def _is_below(path: str, folder: str) -> bool:
    if "://" in path or "://" in folder:
        return path.startswith(folder.rstrip("/") + "/")
    return real_path(path).startswith(real_folder(folder).rstrip(os.sep) + os.sep)


def real_path(path: str) -> str:
    """A path without links, as `os.path.realpath` gives it.

    That asks for every folder above the file; here those of a folder are asked for once.
    """
    parent, name = os.path.split(path)
    real = os.path.join(real_folder(parent), name)
    return os.path.realpath(real) if os.path.islink(real) else real


@functools.lru_cache(maxsize=4096)
def real_folder(folder: str) -> str:
    """A folder without links: the same for every picture in it."""
    return os.path.realpath(folder)
