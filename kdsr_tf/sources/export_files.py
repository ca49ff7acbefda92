"""Files that a user gives to an export: lists of items, and new items."""

from __future__ import annotations

import posixpath
from typing import cast

import fsspec
import pyarrow as pa

from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources import files, ids
from kdsr_tf.sources.batches import names_in
from kdsr_tf.sources.folder import FolderSource
from kdsr_tf.sources.forms import Told, check_columns_of, find_form
from kdsr_tf.sources.image_files import absolute_folder, check_folders
from kdsr_tf.sources.values import LOST_DIGITS, Reasons


def fingerprints(config: Config) -> dict[str, str]:
    """Fingerprints of the files that an export reads, by their names among its inputs."""
    found = {}
    for name, path in stages.export_files(config).items():
        _check_is_file(f"export.{name}", path)
        is_catalogue = name == stages.ADD_ITEMS
        found[name] = open_new_items(config).fingerprint() if is_catalogue else files.digest(path)
    return found


def read_ids(key: str, path: str) -> list[str]:
    """Distinct ids of a text file with one per line, in file order, read as in the catalogue.

    Blank lines do not count. A line ends at a line feed or carriage return; other separators of
    Unicode are part of an id. `key` is the configuration key, for the error.

    Raises:
        InputError: if the file is missing or is not UTF-8, or holds a number that lost digits.
    """
    _check_is_file(key, path)
    try:
        with fsspec.open(path, "r", encoding="utf-8-sig") as file:
            lines = [line.rstrip("\n") for line in file]
    except UnicodeDecodeError:
        raise InputError(f"`{key}`: {path} is not UTF-8 text with one item id per line.") from None
    reasons: Reasons = {}
    found = ids.read_ids(pa.array(lines, pa.string()), ITEM_ID, reasons).to_pylist()
    for row, reason in sorted(reasons.items()):
        if reason.endswith(LOST_DIGITS):
            raise InputError(f"`{key}`: line {row + 1} of {path}: {reason}: {found[row]}.")
    return [item_id for item_id in dict.fromkeys(found) if item_id]


def open_new_items(config: Config) -> FolderSource:
    """The file `export.add_items` as a source that has a catalogue only."""
    path = cast(str, config.export.add_items)
    _check_is_file("export.add_items", path)
    folder, name = posixpath.split(absolute_folder(path))
    path = posixpath.join(folder, name)
    own = config.source.columns
    form = find_form(path, Told(names=tuple(own.values())))
    names = names_in(own, form.columns)
    return FolderSource(
        path=folder,
        interactions=path,  # there are none; the fingerprint then is that of the one file
        items=path,
        item_columns=check_columns_of(path, form, names, (ITEM_ID,)),
        title_column=config.source.title_column,
        image_column=config.source.image_column,
        image_folders=check_folders(config.source.image_folders),
        item_names=names,
        item_form=form,
    )


def _check_is_file(key: str, path: str) -> None:
    filesystem, local = fsspec.core.url_to_fs(path)
    if not filesystem.isfile(local):
        raise InputError(f"`{key}`: there is no file {path}.")
