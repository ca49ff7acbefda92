"""What is watched while the student trains."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import fsspec
import keras
import numpy as np

from kdsr_tf.artifacts import join
from kdsr_tf.console import console, progress
from kdsr_tf.errors import TrainingError
from kdsr_tf.items.item_encoder import ItemEncoder
from kdsr_tf.metrics.modality_retention import correlation, pair_cosines, sample_pairs
from kdsr_tf.models.weighted_terms import NORM
from kdsr_tf.training.checkpoints import Checkpoints

RETENTION_PAIRS = 20_000
SIMILARITIES = "similarities"
"""Folder below a phase's logs, for `ModalityRetention`."""


class ModalityRetention(keras.callbacks.Callback):
    """Adds `retention_{m}` per modality to the logs; see `modality_retention`.

    The similarities themselves are kept too, so that they can later be compared with those
    of another model, epoch by epoch.

    Args:
        encoder: The item encoder in training; one that looks vectors up.
        references: Per modality, the teacher's vectors `(num_items + 1, d)` and
            which items are present, bools `(num_items + 1,)`.
        seed: Seed of the sample of pairs, the same in every epoch.
        folder: Where the similarities are kept (see `similarities_file`); None for nowhere.
        num_pairs: Size of the sample.
    """

    def __init__(
        self,
        encoder: ItemEncoder,
        references: Mapping[str, tuple[np.ndarray, np.ndarray]],
        seed: int,
        folder: str | None = None,
        num_pairs: int = RETENTION_PAIRS,
    ) -> None:
        super().__init__()
        self._encoder = encoder
        self._folder = folder
        self._pairs = {
            modality: sample_pairs(present, num_pairs, seed)
            for modality, (_, present) in references.items()
        }
        self._similarities = {
            modality: pair_cosines(vectors, *self._pairs[modality])
            for modality, (vectors, _) in references.items()
        }

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for modality, pairs in self._pairs.items():
            table = self._encoder.row_variables()[modality]
            ours = pair_cosines(keras.ops.convert_to_numpy(table), *pairs)
            logs[f"retention_{modality}"] = correlation(ours, self._similarities[modality])
            if self._folder is not None:
                path = similarities_file(self._folder, modality, epoch + 1)
                with fsspec.open(path, "wb", auto_mkdir=True) as file:
                    np.save(file, ours.astype(np.float16))


def similarities_file(folder: str, modality: str, epoch: int) -> str:
    """Where the cosines of an epoch, from 1, are: float16 in the order of `sample_pairs`."""
    return join(folder, f"{modality}-{epoch:04d}.npy")


class FiniteLosses(keras.callbacks.Callback):
    """Stops at the first step with a loss or gradient that is not finite, and names it.

    The optimizer has refused that step, so the weights are still good.

    Args:
        checkpoints: Those of the run, for the message.
        first_epoch: Epoch that starts at `first_step`.
        first_step: Steps of that epoch done before.
    """

    def __init__(self, checkpoints: Checkpoints, first_epoch: int = 0, first_step: int = 0) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._first = (first_epoch, first_step)
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        bad = {name: value for name, value in logs.items() if not math.isfinite(value)}
        if not bad:
            return
        step = batch + 1 + (self._first[1] if self._epoch == self._first[0] else 0)
        named = [
            f"the gradient of the group `{name.removeprefix(NORM)}` has norm {value}"
            if name.startswith(NORM)
            else f"`{name}` is {value}"
            for name, value in bad.items()
            if name != "loss" and not name.endswith("_weighted")
        ]
        raise TrainingError(
            f"Training stopped at step {step} of epoch {self._epoch + 1}: "
            f"{', '.join(named) or 'the weighted `loss` is ' + str(bad.get('loss'))}. "
            f"{self._checkpoints.kept()} Lower `train.learning_rate` or set `train.clip_norm`."
        )


def name_after_test_points(logs: dict[str, float]) -> None:
    """Call what was measured on the test points `test_*`, not `val_*`, in the logs of an epoch.

    Test windows carry no pairs, so only the ranking and its loss are kept.
    """
    for name in [name for name in logs if name.startswith("val_")]:
        value = logs.pop(name)
        if name.startswith(("val_hr_", "val_mrr_")) or name == "val_next_item":
            logs[name.replace("val_", "test_", 1)] = value


class BestEpoch(keras.callbacks.EarlyStopping):
    """Early stopping by the largest value; keeps the best epoch's weights, survives a restart."""

    name = "best_epoch"
    _FIELDS = ("wait", "best", "best_epoch", "stopped_epoch")

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, patience=patience, mode="max", restore_best_weights=True)

    def state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {field: getattr(self, field) for field in self._FIELDS}, self.best_weights or []

    def restore(self, values: dict[str, Any], arrays: list[np.ndarray]) -> None:
        for field in self._FIELDS:
            setattr(self, field, values[field])
        self.best_weights = arrays or None


class EpochLog(keras.callbacks.Callback):
    """One row of logs per epoch, epochs counted from 1, with its seconds."""

    name = "epoch_log"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._before = 0.0
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        seconds = round(self._elapsed(), 3)
        self.rows.append({"epoch": epoch + 1, **logs, "seconds": seconds})
        self._before, self._started = 0.0, time.monotonic()

    def state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        return {"rows": self.rows, "elapsed": self._elapsed()}, []

    def restore(self, values: dict[str, Any], arrays: list[np.ndarray]) -> None:
        self.rows, self._before = values["rows"], values["elapsed"]

    def _elapsed(self) -> float:
        return self._before + time.monotonic() - self._started


class EpochProgress(keras.callbacks.Callback):
    """A progress bar per epoch with an estimate, and one line when it ends.

    Args:
        epochs: Most epochs, for the title.
        steps: Steps per epoch.
        first_epoch: Epoch that starts at `first_step`.
        first_step: Steps of that epoch done before.
        title: What is being trained.
    """

    def __init__(
        self, epochs: int, steps: int, first_epoch: int, first_step: int, title: str
    ) -> None:
        super().__init__()
        self._epochs, self._steps, self._title = epochs, steps, title
        self._first = (first_epoch, first_step)
        self._open = contextlib.ExitStack()
        self._bar: Any = None
        self._started = 0.0
        self._first_step: float | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        if self._first_step is None:
            console.print(
                "The first step of each window length is compiled, which takes much longer than "
                "the steps after it."
            )
        title = f"{self._title}, epoch {epoch + 1} of at most {self._epochs}"
        self._bar = self._open.enter_context(progress(title, total=self._steps))
        if epoch == self._first[0]:
            self._bar.advance(self._first[1])
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping | None = None) -> None:
        if self._first_step is None:
            self._first_step = time.monotonic() - self._started
            console.print(f"First step: {self._first_step:.0f} s, its compilation included.")
        self._bar.advance(1)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.close()
        seconds = time.monotonic() - self._started
        # Later epochs do not compile that step again.
        compiling = self._first_step if epoch == self._first[0] else 0.0
        left = (seconds - (compiling or 0.0)) * (self._epochs - epoch - 1) / 60
        shown = [f"{name} {logs[name]:.4f}" for name in ("loss", *_SHOWN) if name in logs]
        console.print(
            f"epoch {epoch + 1}: {', '.join(shown)} ({seconds:.0f} s; at most {left:.0f} min left)"
        )

    def close(self) -> None:
        """End the bar, whatever happened."""
        self._open.close()


_SHOWN = (
    "next_item",
    *(f"{split}_{metric}" for split in ("val", "test") for metric in ("hr_5", "hr_20", "mrr_20")),
    "retention_image",
    "retention_text",
)
