"""A folder, local or remote, with a user's interactions and catalogue."""

from __future__ import annotations

import dataclasses
import posixpath
from typing import Any

import fsspec

from kdsr_tf.artifacts import fingerprint, join
from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError, storage_problem
from kdsr_tf.schema import ITEM_ID
from kdsr_tf.sources import files, forms
from kdsr_tf.sources.batches import Names, Piece, check_own_names, names_in
from kdsr_tf.sources.forms import Form, Told, check_columns_of, find_form
from kdsr_tf.sources.image_files import (
    absolute_folder,
    check_folders,
    listing_digest,
)
from kdsr_tf.sources.interaction_rows import COLUMNS
from kdsr_tf.sources.source import Source
from kdsr_tf.sources.streams import COMPRESSIONS

_PLAIN = Form(kind=forms.LINES, columns=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """Files in a folder, found and checked by `open_folder`.

    Args:
        interaction_names: Columns to rename, as in `Piece`.
        item_names: Columns of the catalogue to rename.
        interaction_form: How the interactions are read.
        item_form: How the catalogue is read.
        told: What the user says about the two files.
    """

    interaction_names: Names = ()
    item_names: Names = ()
    interaction_form: Form = _PLAIN
    item_form: Form = _PLAIN
    told: tuple[Told, Told] = (Told(), Told())

    def fingerprint(self) -> str:
        """Hash of both files' content and of the pictures' names, sizes and times."""
        payload: dict[str, Any] = {
            "interactions": files.digest(self.interactions),
            "items": files.digest(self.items),
        }
        if self.image_column in self.item_columns:
            payload["folder"] = self.path
            own = [posixpath.basename(name) for name in (self.interactions, self.items)]
            payload["images"] = listing_digest(self.path, own)
            for folder in self.image_folders:
                payload[f"images of {folder}"] = listing_digest(folder)
        if self.interaction_names or self.item_names:
            payload["names"] = [self.interaction_names, self.item_names]
        if any(told != Told() for told in self.told):
            payload["told"] = [dataclasses.asdict(told) for told in self.told]
        return fingerprint(payload)

    @property
    def folder(self) -> str:
        return self.path

    @property
    def may_have_more_columns(self) -> bool:
        return self.item_form.kind in (forms.LINES, forms.ARRAY)

    def num_interactions(self) -> int:
        return files.count_lines(self.interactions, self.interaction_form)

    def interaction_pieces(self) -> list[Piece]:
        return files.pieces_of(self.interactions, self.interaction_form, self.interaction_names)

    def item_pieces(self) -> list[Piece]:
        return files.pieces_of(self.items, self.item_form, self.item_names)


def open_folder(config: SourceConfig, given: str) -> FolderSource:
    """Find a user's files in `source.path` and check that their columns are there."""
    path = absolute_folder(given)
    try:
        filesystem, folder = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        problem = storage_problem(error) or error
        raise InputError(f"`source.path` {given} cannot be opened: {problem}.") from None
    if not filesystem.isdir(folder):
        problem = "is not a folder" if filesystem.exists(folder) else "does not exist"
        raise InputError(
            f"The source folder {given} {problem} (`source.path`). "
            "Give the folder with interactions.* and items.*."
        )
    found = sorted(posixpath.basename(name.rstrip("/")) for name in filesystem.ls(folder, False))
    interactions = join(path, _find(found, "interactions", given))
    catalogue = join(path, _find(found, "items", given))
    return open_files(config, path, interactions, catalogue)


def open_files(
    config: SourceConfig,
    path: str,
    interactions: str,
    catalogue: str,
    told: tuple[Told, Told] = (Told(), Told()),
) -> FolderSource:
    """Check that the columns of two files are there, wherever the files are.

    `source.path` is only named in messages. Relative paths of pictures start at the absolute folder
    `path`. `told` is what the user says about the two files.
    """
    own = tuple(config.columns.values())
    in_interactions = find_form(
        interactions, dataclasses.replace(told[0], names=own), of_interactions=True
    )
    in_catalogue = find_form(catalogue, dataclasses.replace(told[1], names=own))
    check_own_names(
        config.columns, [*in_interactions.columns, *in_catalogue.columns], config.path or path
    )
    interaction_names = names_in(config.columns, in_interactions.columns, COLUMNS)
    item_names = names_in(config.columns, in_catalogue.columns)
    check_columns_of(interactions, in_interactions, interaction_names, COLUMNS)
    return FolderSource(
        path=path,
        interactions=interactions,
        items=catalogue,
        item_columns=check_columns_of(catalogue, in_catalogue, item_names, (ITEM_ID,)),
        title_column=config.title_column,
        image_column=config.image_column,
        image_folders=check_folders(config.image_folders),
        interaction_names=interaction_names,
        item_names=item_names,
        interaction_form=in_interactions,
        item_form=in_catalogue,
        told=told,
    )


def _find(names: list[str], stem: str, folder: str) -> str:
    """The one file or folder of a name, with any ending that can be read."""
    known = [f"{stem}.{ending}" for ending in forms.ENDINGS]
    known += [name + compression for name in known for compression in COMPRESSIONS]
    found = [name for name in names if name.lower() in known]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{folder} holds {' and '.join(found)}. Keep one of them.")
    endings = ",".join(forms.ENDINGS)
    raise InputError(
        f"{folder} has no {stem}.{{{endings}}}. Files found: {', '.join(names[:20]) or 'none'}. "
        "Files of other names: `kdsr data import`."
    )
