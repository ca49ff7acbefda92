"""Reading a saved student without importing what its file names.

A `.keras` file says which modules its classes are in, and a student says where the class of its
backbone is. Importing a module runs it, so a file from elsewhere must not choose one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import fsspec
import h5py
import keras

from kdsr_tf.backbones.catalogue import find_backbone
from kdsr_tf.console import cut
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods import registry  # noqa: F401  every method registers its classes with Keras
from kdsr_tf.methods.student import Student
from kdsr_tf.models.recommender import Recommender

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


_KNOWN = ("keras", "kdsr_tf", "builtins")
STUDENT_FILE = "student.keras"
_LONGEST_REASON = 500
_REMEDY = (
    "Give a file that `kdsr train` has written, such as student/student.keras of a working "
    "directory, or run `kdsr train` again."
)


def read_student(path: str, backbone: str) -> Recommender:
    """The recommender of a file.

    Args:
        path: Local path or URI of a `.keras` file.
        backbone: `model.backbone` of the configuration: the only class of one's own that the
            file may name.

    Raises:
        ConfigError: if the file is no saved student, or names another module.
    """
    if "://" not in path:
        return _read(path, backbone)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, STUDENT_FILE)
        filesystem, remote = fsspec.core.url_to_fs(path)
        filesystem.get_file(remote, local)
        return _read(local, backbone)


def _read(path: str, backbone: str) -> Recommender:
    try:
        find_backbone(backbone)  # imports it
    except ValueError as error:
        raise ConfigError(f"`model.backbone` cannot be used: {error}") from error
    try:
        with zipfile.ZipFile(path) as archive:
            modules = list(_named_modules(json.loads(archive.read("config.json"))))
    except RecursionError:
        raise ConfigError(f"{path}: its config.json is nested too deeply. {_REMEDY}") from None
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ConfigError(f"{path} is no file that Keras has saved ({error}). {_REMEDY}") from error
    for module in modules:
        if module.partition(".")[0] not in _KNOWN and module not in sys.modules:
            raise ConfigError(
                f"{path} names the module `{module}`, which would run when it is imported. "
                f"The configuration has model.backbone={backbone}. If you trust the file, set "
                "`model.backbone` to the backbone it was trained with."
            )
    try:
        student = (
            read_earlier(path) if is_earlier(path) else keras.saving.load_model(path, compile=False)
        )
    except Exception as error:  # what a file from elsewhere makes Keras raise has no one class
        reason = cut(f"{type(error).__name__}: {error}", _LONGEST_REASON)
        raise ConfigError(f"Keras cannot build the model of {path}. {_REMEDY} {reason}") from error
    if not isinstance(student, Recommender):
        raise ConfigError(f"{path} holds a {type(student).__name__}, not a student. {_REMEDY}")
    return student


def _named_modules(config: Any) -> Iterator[str]:
    """Modules of all classes and backbones, wherever they are nested."""
    if isinstance(config, list):
        for value in config:
            yield from _named_modules(value)
    if isinstance(config, dict):
        if isinstance(module := config.get("module"), str):
            yield module
        backbone = config.get("backbone")
        if isinstance(backbone, str) and "." in backbone:
            yield backbone.rpartition(".")[0]
        for value in config.values():
            yield from _named_modules(value)
