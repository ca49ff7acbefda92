"""Students that were saved before a recommender had parts."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile

import h5py

from kdsr_tf.methods.student import Student

_WEIGHTS = "model.weights.h5"
_MOVED = {
    "layers/item_tables": "item_encoder",
    "layers/dense": "layers/sum_scorer/_projections/dense",
    "layers/dense_1": "layers/sum_scorer/_projections/dense_1",
    "last_item_term": "layers/sum_scorer/last_item_term",
}
"""Groups of the file of weights: then, and now. Keras names them after attributes."""


def is_earlier(path: str) -> bool:
    """Whether a local `.keras` file is that of a student without parts."""
    with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as file, h5py.File(file) as held:
        return "layers/item_tables" in held


def read_earlier(path: str) -> Student:
    """The student of a local file for which `is_earlier` holds."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        student = Student.from_config(json.loads(archive.read("config.json"))["config"])
        weights = archive.extract(_WEIGHTS, folder)
        with h5py.File(weights, "r+") as held:
            for then, now in _MOVED.items():
                if then in held:
                    held.move(then, now)
        student.load_weights(os.path.join(folder, _WEIGHTS))
    return student
