"""Starting a student from an earlier one, whose catalogue was another."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import keras
import numpy as np

from kdsr_tf import artifacts, schema, sequences
from kdsr_tf.artifacts import join
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.student import Student
from kdsr_tf.methods.student_file import read_student

STUDENT_FILE = "student.keras"

_SAME = ("backbone", "backbone_options", "logit_scale", "num_heads", "pooling", "short_term")
"""What a student computes with its weights, where their shapes do not tell."""

Variables = Mapping[str, keras.Variable]


class WarmStart:
    """What an earlier student has learnt, for a new one.

    Rows of items that both know are copied by item id. A new item keeps the row it has:
    random among the ids, and the teacher's vector in a modality table; so does, in that
    table, an item that has gained or lost the modality since. A teacher that
    was fitted again has other axes, so those vectors are first turned by the orthogonal
    map that best takes the known items' vectors to their copied rows. Which items
    have a modality is known from the new teacher. All other weights are copied.

    Args:
        path: A `student/` folder, or a `.keras` file that has `items.parquet` beside
            it; local path or URI.
        item_ids: Ids of the new student's items; item k + 1 is entry k.
        backbone: `model.backbone` of the new student.

    Attributes:
        digest: Of the earlier student's file.

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

    def apply(self, student: Student) -> None:
        """Change a student that starts from its teachers.

        Raises:
            ConfigError: if the students are not of one kind.
        """
        own, earlier = _learnt(student), _learnt(self._student)
        ids = {_name(table) for table in student.tables.id_tables().values()}
        turned = {_name(student.modality_table(m)): m for m in student.modalities}
        self._check_same_kind(own, earlier, {*ids, *turned})
        self._check_same_function(student)
        for name, variable in own.items():
            value = keras.ops.convert_to_numpy(earlier[name])
            if name in ids:
                there, here = self._earlier_rows, self._rows
            elif name in turned:
                there, here = self._rows_alike(student, turned[name])
            else:
                variable.assign(value)
                continue
            rows, value = value[there], np.array(keras.ops.convert_to_numpy(variable))
            if name in turned:
                value = value @ _turn(value[here], rows)
            value[here] = rows
            variable.assign(value)

    def details(self) -> dict[str, Any]:
        """For the manifest."""
        return {"from": self.path, "digest": self.digest, "known_items": len(self._rows)}

    def _rows_alike(self, student: Student, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows, there and here, of the items that have the modality in both or in neither."""
        there, here = (
            keras.ops.convert_to_numpy(tables(rows[None])[schema.present_key(modality)][0])
            for tables, rows in (
                (self._student.tables, self._earlier_rows),
                (student.tables, self._rows),
            )
        )
        return self._earlier_rows[there == here], self._rows[there == here]

    def _check_same_kind(self, own: Variables, earlier: Variables, tables: set[str]) -> None:
        def shape(variables: Variables, name: str) -> tuple | str:
            if name not in variables:
                return "absent"
            shape = tuple(variables[name].shape)
            return shape[1:] if name in tables else shape

        for name in sorted(own.keys() | earlier.keys()):
            here, there = shape(own, name), shape(earlier, name)
            if here != there:
                raise self._other_kind(name, there, here)

    def _check_same_function(self, student: Student) -> None:
        here, there = student.get_config(), self._student.get_config()
        for key in _SAME:
            if here[key] != there[key]:
                raise self._other_kind(key, there[key], here[key])

    def _other_kind(self, name: str, there: object, here: object) -> ConfigError:
        return ConfigError(
            f"`--warm-start`: {self.path} is a student of another kind. `{name}` there: {there}, "
            f"here: {here}. Give the section `model` the values it was trained with, or train "
            "from the start."
        )


def _load(path: str, backbone: str) -> tuple[Student, str]:
    with fsspec.open(path, "rb") as file:
        data = file.read()
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, STUDENT_FILE)
        with open(local, "wb") as file:
            file.write(data)
        return read_student(local, backbone), hashlib.sha256(data).hexdigest()[:16]


def _turn(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The orthogonal matrix R that minimises the distance of `vectors` R to `rows`."""
    left, _, right = np.linalg.svd(vectors.T @ rows)
    return left @ right


def _learnt(student: Student) -> dict[str, keras.Variable]:
    """Tables, frozen ones too, and all trainable variables, by name."""
    tables = {id(student.modality_table(m)) for m in student.modalities}
    return {_name(v): v for v in student.variables if v.trainable or id(v) in tables}


def _name(variable: keras.Variable) -> str:
    """Path below the model, whose own name differs between processes."""
    return variable.path.partition("/")[2]
