"""Pictures of a catalogue: which paths it may name, and their bytes, wherever they lie."""

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
_NEVER = re.compile("\0|::|[\ud800-\udfff]")
"""NUL, chains such as `simplecache::file://`, and halves of surrogate pairs (JSON spells them)."""
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")

LARGEST_BYTES = 64 << 20
"""Size of an image file above which it is not read."""

TOO_LARGE = f"image file is larger than {LARGEST_BYTES:,} bytes"
MISSING = "image file does not exist"
NO_FILE = "image path is not a file"

_WEB = ("http://", "https://")


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
    """`source.image_folders` as absolute local paths and URIs that exist or that can be opened."""
    found = tuple(map(absolute_folder, folders))
    for folder in found:
        scheme, is_uri, _ = folder.partition("://")
        if not is_uri and not os.path.isdir(folder):
            raise InputError(f"`source.image_folders` (--images): there is no folder {folder}.")
        if is_uri and not folder.startswith(_WEB):
            try:
                fsspec.get_filesystem_class(scheme)
            except (ImportError, ValueError) as error:
                raise InputError(
                    f"`source.image_folders` (--images): {folder} cannot be opened: "
                    f"{storage_problem(error) or error}."
                ) from None
    return found


def listing_digest(folder: str, skipped: Sequence[str] = ()) -> str | None:
    """Hash of the names, sizes and times of all files below a folder, but for some directly in it.

    None for a web server, which lists nothing.
    """
    if folder.startswith(_WEB):
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
    if _NEVER.search(value):
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


class UnreadableImage(Exception):
    """A picture that cannot be read; the message is the reason, equal for equal causes."""


def is_far(content: str | bytes) -> bool:
    """Whether a picture is at a URI, whose file is waited for rather than computed with."""
    return isinstance(content, str) and "://" in content


def read_image(content: str | bytes, folders: Sequence[str] = ()) -> bytes:
    """The bytes of an image file, unless it is these already (`image_values.Picture.content`).

    A web server may redirect to the hosts of declared `folders`, and to no other.

    Raises:
        UnreadableImage: if this picture cannot be read.
        InputError: if the module that reads such URIs is not installed.
    """
    if isinstance(content, bytes):
        data = content
    elif content.lower().startswith(_WEB):
        from kdsr_tf.sources.web_files import read_web_file

        data = read_web_file(content, folders)
    else:
        data = _read(content)
    if len(data) > LARGEST_BYTES:
        raise UnreadableImage(TOO_LARGE)
    return data


def local_problem(path: str) -> str | None:
    """Why there is no file at a local path, or None if there is one."""
    if os.path.isfile(path):
        return None
    return NO_FILE if os.path.exists(path) else MISSING


def _read(path: str) -> bytes:
    far = is_far(path)
    # Opening a pipe would wait for ever, reading a device would never end.
    if not far and local_problem(path) == NO_FILE:
        raise UnreadableImage(NO_FILE)
    try:
        with (fsspec.open if far else open)(path, "rb") as file:
            known = getattr(file, "size", None) if far else os.fstat(file.fileno()).st_size
            size = known or 0
            data = bytearray()
            # Not every server tells the size, or sends as much at once as it is asked for.
            while max(size, len(data)) <= LARGEST_BYTES and (block := file.read(1 << 20)):
                data += block
    except FileNotFoundError:
        raise UnreadableImage(MISSING) from None
    except ImportError as error:
        problem = storage_problem(error) or error
        raise InputError(f"The picture {path} cannot be opened: {problem}.") from None
    except Exception as error:
        # Every filesystem raises the errors of the library behind it.
        raise UnreadableImage(f"image file cannot be read ({type(error).__name__})") from None
    if size > LARGEST_BYTES:
        raise UnreadableImage(TOO_LARGE)
    return bytes(data)
