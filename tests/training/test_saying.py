"""What training says: of its first step, of its best epoch, and of nothing to learn from."""

from __future__ import annotations

import types

import pytest

from kdsr_tf.config import Config
from kdsr_tf.data.examples import Examples
from kdsr_tf.errors import InputError
from kdsr_tf.training.callbacks import EpochProgress
from kdsr_tf.training.fit import advice, train
from tests import factories


def test_the_first_step_is_said_to_compile_and_is_not_counted_for_later_epochs(capfd, monkeypatch):
    now = iter([0.0, 60.0, 70.0, 100.0, 110.0])
    shown = EpochProgress(epochs=3, steps=2, first_epoch=0, first_step=0, title="training")
    clock = types.SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr("kdsr_tf.training.callbacks.time", clock)
    monkeypatch.setattr("kdsr_tf.training.callbacks.progress", _no_bar)
    for epoch in (0, 1):
        shown.on_epoch_begin(epoch)
        shown.on_train_batch_end(0)
        shown.on_train_batch_end(1)
        shown.on_epoch_end(epoch, {"loss": 1.0})
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("The first step of each window length is compiled") == 1
    assert said.count("First step: 60 s, its compilation included.") == 1
    # 70 s, of which the first step took 60: two more epochs take about 20 s.
    assert "epoch 1: loss 1.0000 (70 s; at most 0 min left)" in said
    assert "epoch 2: loss 1.0000 (10 s" in said


class _no_bar:
    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def advance(self, _): ...


@pytest.mark.parametrize("best", [None, 1, 6])
def test_a_best_epoch_before_the_last_needs_no_advice(best):
    assert advice(Config(train={"epochs": 7}), best) is None


def test_a_best_epoch_that_is_the_last_one_asks_for_more():
    said = advice(Config(train={"epochs": 7, "monitor": "hr_20"}), 7)
    assert said.startswith("The best epoch is the last one (train.epochs=7): hr_20 was still")
    assert said.endswith("Try --set train.epochs=14.")


def test_examples_without_a_train_window_are_one_message(tmp_path, monkeypatch):
    config = Config(
        workdir=str(tmp_path),
        encode={"text": {}},
        windows={"max_length": 8, "stride": 4},
        model={"dim": 8, "num_layers": 1, "num_heads": 1},
        teach={"num_codes": 5},
    )
    factories.write_workdir(config, num_users=12)
    monkeypatch.setattr(Examples, "num_windows", lambda self, split: 0)
    with pytest.raises(InputError, match=r"holds no train window.*nothing to learn from"):
        train(config)
