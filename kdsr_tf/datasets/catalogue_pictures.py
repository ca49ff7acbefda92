"""The pictures of a catalogue that is imported: found, and copied beside it."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec

from kdsr_tf.datasets.item_pictures import ItemPictures, files_below, listed
from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources.batches import Rejected
from kdsr_tf.sources.catalogue_rows import CatalogueRow, row_as_json
from kdsr_tf.sources.image_files import (
    allowed_path,
    is_far,
    is_inside,
    local_problem,
    real_folder,
    real_path,
)
from kdsr_tf.sources.image_values import (
    OUTSIDE,
    Picture,
    picture_ending,
    pictures,
    seems_picture,
)

_FOLDER = "images"
_UNSAFE = re.compile(r"\\|::")
_MARKS = re.compile(r"[^\w./-]")
_EXAMPLES = 3
_LONGEST_NAME = 100
_MOST_FOLDERS = 1_000
"""Folders looked into for examples of what is there: a catalogue may lie above a whole disk."""


class LostPicture(Rejected):
    """A picture that the catalogue names and that is not taken; its item stays."""


class Pictures:
    """Finds the pictures that a catalogue names, or that are named after its items.

    Args:
        column: Column of the catalogue with pictures.
        folders: Local folders and URIs in which pictures may lie; a relative path is looked up in
            each. Pictures at a URI are neither checked nor copied.
        by_item: Pictures of items whose column has none.
        may_rename: Whether another column can be declared to be that of the pictures.
    """

    OUTCOMES = ("found", "missing", "remote")

    def __init__(
        self, column: str, folders: Sequence[str], by_item: ItemPictures, may_rename: bool = True
    ):
        self._column = column
        self._folders = tuple(folders)
        self._by_item = by_item
        self._may_rename = may_rename
        self._sources: dict[str, str | bytes] = {}
        self._examples: list[str] = []
        self._elsewhere: dict[str, tuple[int, str]] = {}

    def placed(
        self, row: CatalogueRow, outcomes: collections.Counter[str], folder: str | None
    ) -> tuple[dict[str, Any], list[LostPicture]]:
        """A row's values with the new paths of its pictures, and the pictures that are not taken.

        Args:
            row: As read; pictures that do not exist lose their place in it.
            outcomes: Counts the item under each of `OUTCOMES` that applies.
            folder: Folder that receives copies; None copies nothing.
        """
        declared = self._declared(row)
        if not declared and self._may_rename:
            self._look_elsewhere(row)
        lost = [picture for picture in declared if picture.content is None]
        usable = [picture.content for picture in declared if picture.content is not None]
        remote = [content for content in usable if is_far(content)]
        found = [content for content in usable if not is_far(content)]
        counts = zip(self.OUTCOMES, (len(found), len(lost), len(remote)), strict=True)
        outcomes.update(outcome for outcome, count in counts if count)
        kept = remote + [self._place(content, row.item_id, folder) for content in found]
        values = {name: value for name, value in row.values.items() if name != self._column}
        if kept:
            values[self._column] = kept[0] if len(kept) == 1 else kept
        return values, [self._lost(picture, row) for picture in lost]

    def _declared(self, row: CatalogueRow) -> list[Picture]:
        """The pictures of the column; those named after the item where none of them is there."""
        named = pictures(row.values.get(self._column), self._resolve)
        declared = [self._checked(picture) for picture in named]
        if not any(picture.content for picture in declared):
            declared += map(self._of_item, self._by_item.of(row.item_id))
        return declared

    def _of_item(self, path: str) -> Picture:
        # A link may lead elsewhere.
        is_here = is_inside(path, self._folders)
        return Picture(path, path) if is_here else Picture(path, reason=OUTSIDE)

    def _look_elsewhere(self, row: CatalogueRow) -> None:
        """Note other columns that seem to name pictures."""
        for name in filter(lambda name: seems_picture(row.values[name]), row.values):
            count, example = self._elsewhere.get(name, (0, str(row.values[name])))
            self._elsewhere[name] = count + 1, example

    def unused(self) -> int:
        """Pictures of `by_item` that no item has, once all rows were `placed`."""
        return len(set(self._by_item.paths) - set(self._sources.values()))

    def warnings(self, outcomes: collections.Counter[str]) -> Iterator[str]:
        """What a person should know of pictures that were looked for, as `placed` counted them."""
        if outcomes["missing"] and not outcomes["found"] + outcomes["remote"]:
            yield (
                f"None of the pictures that column {self._column} names was found "
                f"({outcomes['missing']:,} items). Looked for {listed(self._examples)} in "
                f"{' and '.join(self._folders) or 'no folder'}. {self._there()}"
            )
        if not outcomes.total():
            yield from self._none_named()
        yield from self._by_item.warnings(found_elsewhere=bool(outcomes["found"]))

    def _none_named(self) -> Iterator[str]:
        """Why no item may have a picture at all."""
        for name, (count, example) in self._elsewhere.items():
            yield (
                f"No item has a picture in column {self._column}, and column {name} seems to name "
                f"some ({count:,} items, such as {listed([example])}). If so: "
                f"--column {self._column}={name}, and --images for addresses."
            )
        remote = [folder for folder in self._folders if is_far(folder)]
        if remote and not self._elsewhere:
            yield (
                f"No item has a picture in column {self._column}. Pictures of "
                f"{' and '.join(remote)} (--images) are those that the column names."
            )

    def _resolve(self, value: str) -> str:
        """The path in the first folder that holds the picture."""
        if not self._folders:
            return allowed_path(value, ())
        candidates = [allowed_path(value, (first, *self._folders)) for first in self._folders]
        found = next(filter(os.path.isfile, candidates), None)
        if found is None and "/" not in value and "\\" not in value:
            found = self._by_item.named(value)
        return found or candidates[0]

    def _checked(self, picture: Picture) -> Picture:
        content = picture.content
        if isinstance(content, str) and not is_far(content):
            reason = local_problem(content)
            return picture if reason is None else Picture(picture.declared, None, reason)
        return picture

    def _lost(self, picture: Picture, row: CatalogueRow) -> LostPicture:
        if len(self._examples) < _EXAMPLES:
            self._examples.append(str(picture.declared))
        declared = {ITEM_ID: row.item_id, self._column: picture.declared}
        return LostPicture(picture.reason or "", row.where, row_as_json(declared))

    def _there(self) -> str:
        """Examples of the pictures that the local folders hold."""
        local = itertools.filterfalse(is_far, self._folders)
        below = (files_below(folder, _MOST_FOLDERS) for folder in local)
        found = (file.path for file in itertools.chain.from_iterable(below))
        shown = self._by_item.paths[:_EXAMPLES] or list(itertools.islice(found, _EXAMPLES))
        return f"Pictures there: {listed(shown)}." if shown else "There are no pictures."

    def _place(self, content: str | bytes, item_id: str, folder: str | None) -> str:
        """Path of a picture in the new folder; two pictures never share one."""
        if isinstance(content, bytes):
            name = urllib.parse.quote(item_id, safe="")[:_LONGEST_NAME]
            name += picture_ending(content) or ""
        else:
            name = self._name(content)
        source = content if isinstance(content, str) else hashlib.sha256(content).digest()
        stem, ending = posixpath.splitext(name)
        number = 1
        while self._sources.setdefault(name, source) != source:
            number += 1
            name = f"{stem}_{number}{ending}"
        target = posixpath.join(_FOLDER, name)
        if folder is not None:
            filesystem, root = fsspec.core.url_to_fs(folder)
            destination = posixpath.join(root, target)
            filesystem.makedirs(posixpath.dirname(destination), exist_ok=True)
            if isinstance(content, bytes):
                filesystem.pipe_file(destination, content)
            else:
                filesystem.put_file(content, destination)
        return target

    def _name(self, path: str) -> str:
        """Path of a picture below the folder that it lies in."""
        real = real_path(path)
        roots = [real_folder(root) + os.sep for root in self._folders if "://" not in root]
        name = real.removeprefix(max(filter(real.startswith, roots), key=len))
        name = name.removeprefix(_FOLDER + os.sep).replace(os.sep, "/")
        # The new column is read as the old one was: a name must not look like several.
        name = _UNSAFE.sub("_", name)
        return name if [p.content for p in pictures(name, str)] == [name] else _MARKS.sub("_", name)
