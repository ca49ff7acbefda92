"""The pictures of a catalogue that is imported: found, and copied beside it."""

from __future__ import annotations

import collections
import os
import posixpath
from collections.abc import Sequence
from typing import Any

import fsspec

from kdsr_tf.sources.batches import Rejected
from kdsr_tf.sources.image_paths import allowed_path
from kdsr_tf.sources.items import CatalogueRow, row_as_json, usable_pictures

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff")

_FOLDER = "images"


class Pictures:
    """Finds the pictures that a catalogue names, or that are named after its items.

    Args:
        column: Column of the catalogue with paths of pictures.
        folders: Where pictures may lie; a relative path is looked up in each. Local
            paths and URIs; pictures at a URI are neither checked nor copied.
        by_item: Local folders with pictures named after items, such as `B0009P4PZC.jpg`,
            for items whose column is empty.
    """

    OUTCOMES = ("found", "missing", "remote")

    def __init__(self, column: str, folders: Sequence[str], by_item: Sequence[str] = ()):
        self._column = column
        self._folders = tuple(folders)
        self._by_item: dict[str, str] = {}
        for folder in reversed(by_item):
            self._by_item |= pictures_by_item(folder)
        self._sources: dict[str, str] = {}

    def placed(
        self, row: CatalogueRow, outcomes: collections.Counter[str], folder: str | None
    ) -> tuple[dict[str, Any], list[Rejected]]:
        """A row's values with the paths that its pictures have in the new folder.

        Args:
            row: As read; pictures that do not exist lose their place in it.
            outcomes: Counts the item under each of `OUTCOMES` that applies.
            folder: Where pictures are copied to; None copies nothing.

        Returns:
            The values, and the row as rejected for paths that may not be read.
        """
        value = row.values.get(self._column)
        if value is None:
            value = self._by_item.get(row.item_id)
        if value is None:
            return row.values, []
        paths, reasons = usable_pictures(value, self._resolve)
        remote = [path for path in paths if "://" in path]
        found = [path for path in paths if os.path.isfile(path)]
        outcomes.update(
            outcome
            for outcome, count in zip(
                self.OUTCOMES,
                (len(found), len(paths) - len(found) - len(remote), len(remote)),
                strict=True,
            )
            if count
        )
        kept = remote + [self._place(path, folder) for path in found]
        values = {name: value for name, value in row.values.items() if name != self._column}
        if kept:
            values[self._column] = kept[0] if len(kept) == 1 else kept
        text = row_as_json(row.values)
        return values, [Rejected(reason, row.where, text) for reason in reasons[:1]]

    def _resolve(self, value: str) -> str:
        """The path in the first folder that has it."""
        if not self._folders:
            return allowed_path(value, ())
        candidates = [allowed_path(value, (first, *self._folders)) for first in self._folders]
        return next(filter(os.path.isfile, candidates), candidates[0])

    def _place(self, path: str, folder: str | None) -> str:
        """Path of a picture in the new folder; two pictures never share one."""
        real = os.path.realpath(path)
        roots = [os.path.realpath(root) + os.sep for root in self._folders if "://" not in root]
        name = real.removeprefix(max(filter(real.startswith, roots), key=len))
        name = name.removeprefix(_FOLDER + os.sep).replace(os.sep, "/")
        stem, ending = posixpath.splitext(name)
        number = 1
        while self._sources.setdefault(name, path) != path:
            number += 1
            name = f"{stem}_{number}{ending}"
        target = posixpath.join(_FOLDER, name)
        if folder is not None:
            filesystem, root = fsspec.core.url_to_fs(folder)
            destination = posixpath.join(root, target)
            filesystem.makedirs(posixpath.dirname(destination), exist_ok=True)
            filesystem.put_file(path, destination)
        return target


def pictures_by_item(folder: str) -> dict[str, str]:
    """Paths of the pictures of a local folder by item id, the name without its ending."""
    found = (entry.path for entry in os.scandir(folder) if entry.name.lower().endswith(ENDINGS))
    return {os.path.splitext(os.path.basename(path))[0]: path for path in sorted(found)}
