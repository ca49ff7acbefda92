"""The same student over other items, or with tables of ids in place of several."""

from __future__ import annotations

from collections.abc import Container, Mapping

import keras
import numpy as np
from keras import ops

from kdsr_tf.methods.student import Student
from kdsr_tf.schema import IDS

_ITEMS_PER_CHUNK = 65_536


def with_rows(student: Student, rows: Mapping[str, np.ndarray]) -> Student:
    """A student with the same weights and other items.

    Args:
        student: Any student; it is left as it is.
        rows: A value for each entry of `student.tables.row_variables()`, all of one length:
            the items in a new order, fewer of them, or more. Row 0 stays padding.

    Example:
        >>> student = Student(num_items=9, dim=4, max_length=5)
        >>> rows = {name: np.array(v)[:4] for name, v in student.tables.row_variables().items()}
        >>> with_rows(student, rows).num_items
        3
    """
    other = Student.from_config(student.get_config() | {"num_items": len(rows[IDS]) - 1})
    tables = other.tables.row_variables()
    _copy(student, other, skipped={_name(table) for table in tables.values()})
    for name, table in tables.items():
        table.assign(rows[name])
    return other


def fold(student: Student) -> Student:
    """A student without modality tables that has the same user vectors.

    Where features enter a backbone only as x = W [e_v; e_a; e_b] + b, x is a function of
    the item. It is computed once and becomes the input id table of a student that knows no
    modalities: the cost of a request is then that of a model of ids. What the last item
    adds to P (`first_order`) becomes its id table. Items are not scored
    by these tables, so take scores from the `item_vectors()` of the student itself, not of
    the folded one.

    Args:
        student: Any student; it is left as it is.

    Returns:
        The folded student, or the given one where nothing can be folded.

    Example:
        >>> student = Student(num_items=9, dim=4, max_length=5, modalities=("text",))
        >>> histories = np.array([[3, 5, 0]])
        >>> folded = fold(student)
        >>> np.allclose(folded.user_vectors(histories), student.user_vectors(histories), atol=1e-5)
        True
    """
    if not student.modalities or student.backbone.folded is None:
        return student
    config = student.get_config() | {
        "backbone": student.backbone.folded,
        "backbone_options": {},
        "modalities": (),
        "modality_tables": "off",
        "tied": not student.scorer.reads_last,
        "output": "ids",
    }
    other = Student.from_config(config)
    own = [*other.tables.id_tables().values()]
    if student.scorer.reads_last:
        vectors = student.tables.catalogue(student.scorer.sources)
        other.tables.id_table.assign(student.scorer.last_item_vectors(vectors))
        other.scorer.last_item_term.id_gain.assign(1.0)
        own.append(other.scorer.last_item_term.id_gain)
    _copy(student, other, skipped=set(map(_name, own)))
    items = np.arange(student.num_items + 1, dtype="int32")
    chunks = np.split(items, range(_ITEMS_PER_CHUNK, len(items), _ITEMS_PER_CHUNK))
    fused = [student.backbone.fuse(student.tables(chunk[None]))[0] for chunk in chunks]
    other.tables.input_id_table.assign(ops.concatenate(fused, axis=0))
    return other


def _copy(student: Student, other: Student, skipped: Container[str]) -> None:
    values = {_name(weight): weight for weight in student.weights}
    for weight in other.weights:
        if _name(weight) not in skipped:
            weight.assign(values[_name(weight)])


def _name(variable: keras.Variable) -> str:
    """Path below the model, whose own name differs between instances."""
    return variable.path.partition("/")[2]
