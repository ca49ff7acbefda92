"""The pictures of folders whose files, or whose sub-folders, are named after items."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kdsr_tf.console import cut
from kdsr_tf.paths import natural_order
from kdsr_tf.sources.image_values import ENDINGS

_VIEWS = "front|back|side|left|right|top|main|detail|model|large|small|thumb"
_NUMBERED = re.compile(rf"(.+?)[ _.-]+\(?(?:\d{{1,4}}|[a-z]|{_VIEWS})\)?", re.IGNORECASE)
"""An item's id and which of its pictures it is: `ID_1`, `ID (2)`, `ID-front`."""

_EXAMPLES = 3
_LONGEST_EXAMPLE = 120

Known = Callable[[str], str | None]
"""Function from a name to the id of the item with that name."""


class File(NamedTuple):
    """A picture: its path, the names of the folders above it from the nearest, and its name
    without ending.
    """

    path: str
    parents: tuple[str, ...]
    stem: str


class ItemPictures:
    """Says which pictures of local folders belong to which item.

    A picture belongs to the item with the name of its file (`ID.jpg`), or of a folder above
    it (`ID/1.jpg`), or with the beginning of its name (`ID_1.jpg`, `ID-front.jpg`). Where no
    item has such a name, one counts whose id differs by leading zeros or by capitals only
    (`108775015` and `0108775015.jpg`), if there is exactly one.

    The folders are listed once, with all folders below them; of pictures with the same name in
    several folders the first one counts.
    """

    def __init__(self, folders: Sequence[str], item_ids: Iterable[str]):
        ids = set(item_ids)
        self._folders = folders
        self._ids = sorted(ids)[:_EXAMPLES]
        files = [file for folder in folders for file in files_below(folder)]
        self.paths: list[str] = [file.path for file in files]
        """All pictures of the folders."""
        self._by_name: dict[str, str | None] = {}
        for path in self.paths:
            name = os.path.basename(path)
            for key in (name, os.path.splitext(name)[0]):
                self._by_name[key] = None if key in self._by_name else path
        self._by_item = _claimed(files, lambda name: name if name in ids else None)
        taken = {path for paths in self._by_item.values() for path in paths}
        others = [file for file in files if file.path not in taken]
        loose = _claimed(others, _loosely(ids - set(self._by_item)))
        self.alike: list[tuple[str, str]] = [(item, paths[0]) for item, paths in loose.items()]
        """Items whose pictures have another spelling of their id, with the first picture."""
        self._by_item |= loose

    def __len__(self) -> int:
        """Number of items that have pictures."""
        return len(self._by_item)

    def of(self, item_id: str) -> list[str]:
        """Paths of the pictures of an item, in the order of their names."""
        return self._by_item.get(item_id, [])

    def named(self, name: str) -> str | None:
        """The one picture that has this name, with or without its ending, in any folder."""
        return self._by_name.get(name)

    def warnings(self, found_elsewhere: bool) -> Iterator[str]:
        """What a person should know of the names; pictures may have been found without them."""
        if self._folders and not self._by_item and not found_elsewhere:
            yield (
                f"No picture of {' and '.join(self._folders)} (--images) is named after an item. "
                f"Looked for {listed(self._ids)}, each as ID.jpg, ID_1.jpg or a folder ID. "
                f"Pictures there: {len(self.paths):,}"
                + (f", such as {listed(self.paths[:_EXAMPLES])}." if self.paths else ".")
            )
        if self.alike:
            examples = listed(f"{path} for {item}" for item, path in self.alike[:_EXAMPLES])
            yield (
                f"{len(self.alike):,} items got a picture whose name differs from their id by "
                f"leading zeros or capitals: {examples}. Ids lose zeros where a program reads "
                "them as numbers; write the catalogue with its ids as text if that is wrong."
            )


def listed(examples: Iterable[str]) -> str:
    """Examples in a sentence; long ones are cut."""
    return ", ".join(cut(example, _LONGEST_EXAMPLE) for example in examples)


def files_below(folder: str, most_folders: int | None = None) -> Iterator[File]:
    """Pictures of a local folder and of the folders below it, all or so many, in a fixed order."""
    for parent, folders, names in itertools.islice(os.walk(folder), most_folders):
        folders[:] = sorted(name for name in folders if _is_shown(name))
        inside = os.path.relpath(parent, folder)
        parents = () if inside == os.curdir else tuple(reversed(inside.split(os.sep)))
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if _is_shown(name) and ending.lower() in ENDINGS:
                yield File(os.path.join(parent, name), parents, stem)


def _is_shown(name: str) -> bool:
    """Whether a name is not one that Unix or a Mac's archives hide."""
    return not name.startswith(".") and name != "__MACOSX"


def _claimed(files: Sequence[File], known: Known) -> dict[str, list[str]]:
    """Paths by item, of items that all their pictures spell alike."""
    stems_first = _stems_are_ids(files, known)
    spellings: dict[str, set[str]] = {}
    found: dict[str, dict[str, str]] = {}
    for file in files:
        numbered = _NUMBERED.fullmatch(file.stem)
        names = [file.stem, *file.parents] if stems_first else [*file.parents, file.stem]
        names += [numbered[1]] if numbered else []
        items = ((name, item) for name in names if (item := known(name)) is not None)
        name, item = next(items, ("", None))
        if item is None:
            continue
        depth = file.parents.index(name) if name in file.parents else 0
        place = "/".join([*reversed(file.parents[:depth]), file.stem])
        spellings.setdefault(item, set()).add(name)
        found.setdefault(item, {}).setdefault(place, file.path)
    return {
        item: [places[place] for place in sorted(places, key=natural_order)]
        for item, places in found.items()
        if len(spellings[item]) == 1
    }


def _stems_are_ids(files: Sequence[File], known: Known) -> bool:
    """Whether names of files say more than those of folders, where both are ids of items.

    `12/1.jpg` is a picture of item 12 if another folder holds a `1.jpg` too. It is one of
    item 1 if names do not repeat, as where folders are categories or beginnings of ids.
    """
    doubtful = [
        file
        for file in files
        if (item := known(file.stem)) is not None
        and any(known(parent) not in (None, item) for parent in file.parents)
    ]
    stems, folders = ({file.stem for file in doubtful}, {file.parents for file in doubtful})
    is_shard = all(file.stem.startswith(file.parents[0]) for file in doubtful)
    return len(stems) == len(doubtful) and (len(folders) > 1 or is_shard)


def _loosely(item_ids: Iterable[str]) -> Known:
    """Ids by a spelling that leaves out leading zeros and capitals; only what is unmistakable."""
    by_spelling: dict[str, str | None] = {}
    for item_id in item_ids:
        spelling = _spelling(item_id)
        by_spelling[spelling] = None if spelling in by_spelling else item_id
    return lambda name: by_spelling.get(_spelling(name))


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().lstrip("0")
