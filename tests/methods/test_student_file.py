"""Reading a saved student: what it names is not imported."""

from __future__ import annotations

import json
import sys
import zipfile

import keras
import numpy as np
import pytest

from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.student_file import read_student
from tests.models.batches import make_student

ITEMS = np.array([[3, 5, 2]], "int32")
OWN = """
from kdsr_tf.backbones.sasrec import SASRec
import keras

@keras.saving.register_keras_serializable()
class Own(SASRec):
    pass
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("student") / "student.keras")
    student = make_student()
    student.save(path)
    return student, path


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported."""
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{OWN}")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("stranger", None)


def changed(path, folder, change):
    """A copy of a file with another configuration."""
    copy = str(folder / "changed.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                change(config)
                data = json.dumps(config)
            new.writestr(name, data)
    return copy


def test_a_student_is_read_back(saved):
    student, path = saved
    found = read_student(path, "sasrec")
    np.testing.assert_allclose(found.user_vectors(ITEMS), student.user_vectors(ITEMS), rtol=1e-5)


CHANGES = {
    "backbone": lambda config: config["config"].update(backbone="stranger.Own"),
    "class": lambda config: config.update(
        module="stranger", class_name="Own", registered_name="stranger>Own"
    ),
    "nested": lambda config: config["config"].update(
        dtype={"module": "stranger", "class_name": "Own", "config": {}, "registered_name": "x"}
    ),
    "in a list": lambda config: config.update(
        build_config=[[{"module": "stranger.part", "class_name": "Own", "config": {}}]]
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_does_not_choose_what_is_imported(saved, module, tmp_path, change):
    path = changed(saved[1], tmp_path, change)
    with pytest.raises(ConfigError, match=r"names the module `stranger.*model.backbone"):
        read_student(path, "sasrec")
    assert not module.exists()


def test_a_file_that_names_the_command_does_not_run_it(saved, tmp_path):
    name = {"module": "kdsr_tf.__main__", "class_name": "Own", "registered_name": "x>Own"}
    path = changed(saved[1], tmp_path, lambda config: config.update(name))
    # The command itself would end with SystemExit.
    with pytest.raises(ConfigError, match=r"cannot build the model of .*changed.keras.*Own"):
        read_student(path, "sasrec")


def test_keras_own_loader_does_not_import_the_backbone_either(saved, module, tmp_path):
    path = changed(saved[1], tmp_path, CHANGES["backbone"])
    with pytest.raises(ValueError, match="import that module before"):
        keras.saving.load_model(path)
    assert not module.exists()


def test_the_class_that_the_configuration_names_is_imported(saved, module, tmp_path):
    path = changed(saved[1], tmp_path, CHANGES["backbone"])
    assert type(read_student(path, "stranger.Own").backbone).__name__ == "Own"
    assert module.exists()


DAMAGES = {
    "unknown class": lambda config: config.update(class_name="NoSuchClass", registered_name=None),
    "unknown argument": lambda config: config["config"].update(no_such_argument=1),
    "missing argument": lambda config: config["config"].pop("num_items"),
    "other weights": lambda config: config["config"].update(dim=config["config"]["dim"] * 2),
    "no configuration": lambda config: config.pop("config"),
    "a number": lambda config: config.update(config=5),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_keras_cannot_build_is_one_error_that_names_it(saved, tmp_path, damage):
    path = changed(saved[1], tmp_path, damage)
    with pytest.raises(ConfigError) as caught:
        read_student(path, "sasrec")
    message = str(caught.value)
    assert message.startswith(f"Keras cannot build the model of {path}. Give a file that")
    assert len(message) < len(path) + 700 and "\n" not in message


@pytest.mark.parametrize("brackets", ["[]", ('{"a":', "}")], ids=["lists", "objects"])
def test_deep_nesting_is_one_error_that_names_the_file(saved, tmp_path, brackets):
    path = str(tmp_path / "deep.keras")
    with zipfile.ZipFile(saved[1]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                nested = brackets[0] * 100_000 + "1" + brackets[1] * 100_000
                data = b'{"deep": ' + nested.encode() + b", " + data.lstrip()[1:]
            new.writestr(name, data)
    with pytest.raises(ConfigError, match=r"deep.keras: .* nested too deeply. Give a file"):
        read_student(path, "sasrec")


def test_what_is_no_student_is_said(tmp_path):
    (tmp_path / "text.keras").write_text("no zip")
    with pytest.raises(ConfigError, match="no file that Keras has saved"):
        read_student(str(tmp_path / "text.keras"), "sasrec")
    other = str(tmp_path / "other.keras")
    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(other)
    with pytest.raises(ConfigError, match="holds a Sequential"):
        read_student(other, "sasrec")
    with pytest.raises(ConfigError, match=r"`model.backbone` cannot be used.*no.such"):
        read_student(other, "no.such.Module")
