"""Starting a student from an earlier one, whose catalogue was another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import fsspec
import keras
import numpy as np

from kdsr_tf import artifacts, schema, sequences
from kdsr_tf.artifacts import join
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.student_file import STUDENT_FILE, read_student
from kdsr_tf.models.recommender import Recommender

_MAY_DIFFER = {
    *("dropout", "dtype", "initial_std", "max_length", "modality_dropout", "name", "num_items"),
    *("build_config", "seed", "trainable"),
}
"""Arguments of parts that do not say what is computed with their weights."""


class WarmStart:
    """What an earlier student has learnt, for a new one.

    Rows of items that both know are copied by item id, as the item encoder does it
    (`ItemEncoder.copy_known_rows`). All other weights are copied.

    Args:
        path: A `student/` folder, or a `.keras` file that has `items.parquet` beside
            it; local path or URI.
        item_ids: Ids of the new student's items; item k + 1 is entry k.
        backbone: `model.backbone` of the new student.

    Attributes:
        digest: Digest of the earlier student's file.

    Raises:
        ConfigError: if a file is missing, or no item is known.
    """

    def __init__(self, path: str, item_ids: Sequence[str], backbone: str = "sasrec") -> None:
        folder, name = path.rstrip("/"), STUDENT_FILE
        if path.endswith(".keras"):
            folder, name = os.path.split(path)
            folder = folder or "."
        for needed in (name, sequences.ITEMS_FILE):
            if not artifacts.exists(join(folder, needed)):
                raise ConfigError(
                    "`--warm-start` takes the folder of an earlier student, or its .keras file "
                    f"with {sequences.ITEMS_FILE} beside it. There is no {join(folder, needed)}."
                )
        self.path = join(folder, name)
        self._student, self.digest = _load(self.path, backbone)
        earlier = sequences.read_items(folder, schema.ITEM_ID)[schema.ITEM_ID].to_pylist()
        row_of = {item_id: row for row, item_id in enumerate(earlier, start=1)}
        known = [(row, row_of[i]) for row, i in enumerate(item_ids, start=1) if i in row_of]
        if not known:
            raise ConfigError(
                f"`--warm-start`: no item of this catalogue is known to {self.path}. Give the "
                "student of the same shop, or train from the start."
            )
        self._rows, self._earlier_rows = (np.array(column) for column in zip(*known, strict=True))

    def apply(self, student: Recommender) -> None:
        """Change a student that starts from its teachers; ConfigError if it is of another kind."""
        self._check_same_weights(student)
        self._check_same_parts(student)
        own, earlier = _without_rows(student), _without_rows(self._student)
        for name, variable in own.items():
            variable.assign(earlier[name])
        student.item_encoder.copy_known_rows(
            self._student.item_encoder, self._rows, self._earlier_rows
        )

    def details(self) -> dict[str, Any]:
        """For the manifest."""
        return {"from": self.path, "digest": self.digest, "known_items": len(self._rows)}

    def _check_same_weights(self, student: Recommender) -> None:
        own, earlier = _shapes(student), _shapes(self._student)
        for name in sorted(own.keys() | earlier.keys()):
            here, there = own.get(name, "absent"), earlier.get(name, "absent")
            if here != there:
                raise self._other_kind(name, there, here)

    def _check_same_parts(self, student: Recommender) -> None:
        # Of tables, the shapes say what they are.
        network = ("item_encoder",) if student.item_encoder.computed else ()
        for part in (*network, "backbone", "head", "scorer"):
            here, there = (getattr(owner, part) for owner in (student, self._student))
            if type(here) is not type(there):
                raise self._other_kind(part, type(there).__name__, type(here).__name__)
            ours, theirs = (_compared(one.get_config()) for one in (here, there))
            for key in sorted(ours):
                if ours[key] != theirs[key]:
                    raise self._other_kind(key, theirs[key], ours[key])

    def _other_kind(self, name: str, there: object, here: object) -> ConfigError:
        return ConfigError(
            f"`--warm-start`: {self.path} is a student of another kind. `{name}` there: {there}, "
            f"here: {here}. Give the section `model` the values it was trained with, or train "
            "from the start."
        )


def _compared(config: Any) -> Any:
    """The configuration of a part without what may differ, at any depth."""
    if isinstance(config, dict):
        return {k: _compared(value) for k, value in config.items() if k not in _MAY_DIFFER}
    return config


def _load(path: str, backbone: str) -> tuple[Recommender, str]:
    with fsspec.open(path, "rb") as file:
        # `file_digest` needs `readinto`, which a web server that tells no size does not allow.
        digest = hashlib.sha256(file.read()).hexdigest()[:16]
    return read_student(path, backbone), digest


def _without_rows(student: Recommender) -> dict[str, keras.Variable]:
    """All weights that learn and have no row per item, by name."""
    rows = {id(variable) for variable in student.item_encoder.row_variables().values()}
    weights = student.named_weights().items()
    return {name: v for name, v in weights if v.trainable and id(v) not in rows}


def _shapes(student: Recommender) -> dict[str, tuple]:
    """Shapes of all that is taken over; of rows that of one."""
    rows = student.item_encoder.row_variables().items()
    shapes = {name: tuple(v.shape) for name, v in _without_rows(student).items()}
    return shapes | {name: tuple(v.shape[1:]) for name, v in rows}
