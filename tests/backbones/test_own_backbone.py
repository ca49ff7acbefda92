"""The backbone of `docs/backbones.md`, as a user would plug it in."""

from __future__ import annotations

import pathlib
import re

import keras
import numpy as np
import pytest
import yaml

from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.registry import backbone_class, build_model
from kdsr_tf.methods.student import Student
from kdsr_tf.methods.training_inputs import TrainingInputs
from tests.models.batches import NUM_CODES, NUM_ITEMS, make_batch, make_student, repeated

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "backbones.md"
ITEMS = np.array([[3, 5, 2, 7, 3, 9], [4, 11, 6, 0, 0, 0]], "int32")


def _block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]


@pytest.fixture
def settings(tmp_path, monkeypatch) -> dict:
    """The section `model` of the page, with its class where Python finds it."""
    (tmp_path / "my_backbones.py").write_text(_block("python") + "\n\nNUMBER = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    return yaml.safe_load(_block("yaml"))["model"]


def test_the_documented_backbone_trains_and_is_saved(settings, tmp_path):
    student = make_student(
        backbone=settings["backbone"], backbone_options=settings["options"], dropout=0.0
    )
    model = KDSR(student, num_codes=NUM_CODES)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    losses = model.fit(repeated(make_batch(32), 60), epochs=2, verbose=0).history["next_item"]
    assert losses[1] < 0.6 * losses[0], losses
    before = np.asarray(student.user_vectors(ITEMS))
    # Padding reaches no real state, and no state depends on a later item.
    np.testing.assert_allclose(
        student.user_vectors(ITEMS[1:, :3]), before[1:], rtol=1e-5, atol=1e-6
    )
    states = [
        np.asarray(student.encode(student.tables(items))[0]) for items in (ITEMS, ITEMS[:, :4])
    ]
    np.testing.assert_allclose(states[0][:, :4], states[1], rtol=1e-5, atol=1e-6)
    student.save(tmp_path / "student.keras")
    copy = keras.saving.load_model(tmp_path / "student.keras")
    assert type(copy.backbone).__name__ == "RecentItems" and copy.backbone.recent == 4
    np.testing.assert_allclose(copy.user_vectors(ITEMS), before, rtol=1e-5)


def test_a_configuration_names_the_class(settings, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {**settings, "dim": 8}}))

    def configured(*overrides: str):
        return load_config(str(tmp_path / "config.yaml"), overrides, str(tmp_path / "work"))

    student = build_model(configured(), TrainingInputs(NUM_ITEMS)).student
    assert isinstance(student, Student) and student.backbone.recent == 4
    assert backbone_class(configured()).causal
    for override, message in (
        ("model.options={width: 4}", "no option `width`. Its options: recent"),
        ("model.backbone=my_backbones.Missing", r"cannot import my_backbones.Missing"),
        ("model.backbone=no.such.Module", r"cannot import no.such.Module.*PYTHONPATH"),
        ("model.backbone=my_backbones.NUMBER", r"must be a subclass of .*Backbone. Received: 7"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_model(configured(override), TrainingInputs(NUM_ITEMS))
    with pytest.raises(ConfigError, match=r"`model.backbone` cannot be used: .*no.such.Module"):
        backbone_class(configured("model.backbone=no.such.Module"))
    with pytest.raises(ConfigError, match=r"or the dotted path of a class. Received.*sasreck"):
        configured("model.backbone=sasreck")
