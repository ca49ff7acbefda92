"""What a version is made of: a student, its items, and which of them may come back."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from kdsr_tf import schema, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import ConfigError
from kdsr_tf.export.gate_sample import Point, ReferenceStudent
from kdsr_tf.export.signatures import log_frequency
from kdsr_tf.methods.served import read_extended, read_served
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.schema import IDS
from kdsr_tf.sources.export_files import read_ids
from kdsr_tf.splits import has_validation

_NUM_HISTORIES = 256
_NUM_POINTS = 1024
_ONE_NEW_ITEM_IN = 8
_SHOWN = 5
_FUSED, _ID = "fused", "id"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """A student whose items stand in the order in which they are exported.

    Args:
        student: Item r + 1 is entry r of `item_ids`.
        item_ids: str `(N,)`: first those that may come back.
        train_counts: int `(N,)`: train interactions.
        num_allowed: Number M of items that may come back; the others are known in
            histories only.
        histories: Whole sequences of real users, int arrays; where there are new items,
            some end with one.
        points: Last interactions of real users.
        details: For the manifest: item lists and new items.
    """

    student: Recommender
    item_ids: np.ndarray
    train_counts: np.ndarray
    num_allowed: int
    histories: list[np.ndarray]
    points: list[Point]
    details: dict[str, Any]

    def vectors(self) -> np.ndarray:
        """float32 `(N, dim)`, whose products with a user vector are scores."""
        return np.asarray(self.student.item_vectors(), np.float32)[1:]


def read_exported(config: Config, folder: str) -> Exported:
    """Read the student, add new items and apply the lists.

    Raises:
        ConfigError: if a list names no item, or no item is left.
        InputError: if a file cannot be read.
    """
    table = sequences.read_items(
        stages.location(config, "sequences"), schema.ITEM_ID, schema.TRAIN_COUNT
    )
    item_ids = np.array(table[schema.ITEM_ID].to_pylist(), dtype=object)
    train_counts = table[schema.TRAIN_COUNT].to_numpy()
    details: dict[str, Any] = {}
    new_ids: list[str] = []
    if config.export.add_items is None:
        student = read_served(config)
    else:
        student, new_ids, details["added_items"] = read_extended(config)
        item_ids = np.concatenate([item_ids, np.array(new_ids, dtype=object)])
        train_counts = np.concatenate([train_counts, np.zeros(len(new_ids), int)])
    allowed, lists = allowed_items(config, item_ids)
    order = np.argsort(~allowed, kind="stable")
    if not allowed.all():
        rows = np.concatenate([[schema.PAD], order + 1])
        student = student.served(rows=rows)
    place = np.empty(len(order) + 1, np.int32)
    place[schema.PAD], place[order + 1] = schema.PAD, np.arange(1, len(order) + 1)
    histories, points = _read_histories(config, place)
    for number, new in enumerate(place[len(place) - len(new_ids) :]):
        if number * _ONE_NEW_ITEM_IN >= len(histories):
            break
        row = number * _ONE_NEW_ITEM_IN
        histories[row] = np.append(histories[row], new)
    return Exported(
        student=student,
        item_ids=item_ids[order],
        train_counts=train_counts[order],
        num_allowed=int(allowed.sum()),
        histories=histories,
        points=points,
        details=details | lists,
    )


def reference_student(config: Config, exported: Exported, similar: np.ndarray) -> ReferenceStudent:
    """What the gate compares answers with; `similar` is a result of `similarity_vectors`."""
    return ReferenceStudent(
        encode=exported.student.user_vectors,
        table=exported.vectors(),
        similar=similar,
        popularity=log_frequency(exported.train_counts),
        item_ids=exported.item_ids,
        max_length=config.windows.max_length,
        k=config.export.k,
        allowed=np.arange(len(exported.item_ids)) < exported.num_allowed,
    )


def similarity_vectors(student: Recommender, space: str) -> np.ndarray:
    """Unit vectors `(N, any)` of the chosen space; an item without the modality has zeros.

    Those that score items. In `fused`, the cosine of two items that have every modality is
    the mean of their cosines in all the spaces; a modality that one of them lacks adds
    nothing.
    """
    spaces = student.item_encoder.spaces()
    named = {_ID if source == IDS else source: found for source, found in spaces.items()}
    if space not in (_FUSED, *named):
        raise ConfigError(
            "`export.similar_items_space` names a modality the student has no table for. "
            f"Received: {space}. Valid: {', '.join([_FUSED, *named])}."
        )
    units = []
    for vectors, present in named.values() if space == _FUSED else [named[space]]:
        rows = vectors[1:] if present is None else vectors[1:] * present[1:, np.newaxis]
        units.append(_unit(rows))
    return _unit(np.concatenate(units, axis=1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _read_histories(config: Config, place: np.ndarray) -> tuple[list[np.ndarray], list[Point]]:
    """Of the first users: shards are by hash, so these are any users."""
    read = sequences.read_users(stages.location(config, "sequences"))
    users = list(itertools.islice(read, _NUM_POINTS))
    # The last interaction is a test point, or the validation point of who has none.
    points = [
        Point(place[user.items[:-1]], int(place[user.items[-1]]))
        for user in users
        if len(user.items) > max(user.num_train, 1) or has_validation(user.num_train)
    ]
    return [place[user.items] for user in users[:_NUM_HISTORIES]], points


def allowed_items(config: Config, item_ids: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Which items may come back from a signature, by `export.allow_items` and `export.deny_items`.

    Returns:
        Bools `(N,)`, and per list for the manifest: how many ids it has and how many of
        them are unknown. Unknown ids are also reported on the console.

    Raises:
        ConfigError: if no id of a list is known, or no item is left.
    """
    allowed = np.ones(len(item_ids), bool)
    details: dict[str, Any] = {}
    for name, path in stages.export_files(config).items():
        if name == stages.ADD_ITEMS:
            continue
        listed = _listed(f"export.{name}", path, item_ids, details)
        allowed &= listed if name == stages.ALLOW_ITEMS else ~listed
    if not allowed.any():
        raise ConfigError(
            "`export.allow_items` and `export.deny_items` leave no item that may be "
            f"recommended. Received: allow_items={config.export.allow_items}, "
            f"deny_items={config.export.deny_items}."
        )
    return allowed, details


def _listed(key: str, path: str, item_ids: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    ids = read_ids(key, path)
    wanted = set(ids)
    # Sets of strings: one long id would make every entry of a NumPy array as wide.
    listed = np.array([item_id.strip() in wanted for item_id in item_ids], bool)
    known = {item_id.strip() for item_id in item_ids[listed]}
    unknown = [item_id for item_id in ids if item_id not in known]
    shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    if unknown and not known:
        raise ConfigError(
            f"`{key}`: none of the {len(ids):,} ids in {path} is an item of this student. First: "
            f"{shown}. Write one item id per line, as in the catalogue."
        )
    if unknown:
        console.print(
            f"Warning: `{key}`: {len(unknown):,} of {len(ids):,} ids in {path} are unknown: "
            f"{shown}.",
            style="yellow",
            markup=False,
        )
    details[key.removeprefix("export.")] = {"ids": len(ids), "unknown": len(unknown)}
    return listed
