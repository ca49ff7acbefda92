"""Exact resume: what a run is made of, on disk, whole or not at all.

A checkpoint holds every variable of the model (weights, seed generators and
metrics), of every optimizer, the epoch and step, and the state of the callbacks.
With a shuffle order that depends on seed and epoch only, a run that was killed
goes on to the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import fsspec
import keras
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from kdsr_tf.artifacts import find_files
from kdsr_tf.console import console
from kdsr_tf.errors import TrainingError
from kdsr_tf.paths import remove_folder

KEPT = 2


@dataclasses.dataclass(kw_only=True)
class State:
    """What a checkpoint holds."""

    epoch: int  # Epoch of the next step, from 0
    step: int  # Steps of that epoch already done
    finished: bool  # Whether training has ended
    variables: list[np.ndarray]  # Values in the order of `all_variables`
    # Per callback name, what its `state` returned
    callbacks: dict[str, tuple[dict[str, Any], list[np.ndarray]]]


class Stateful(Protocol):
    """A callback whose state belongs to the run."""

    name: str

    def state(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Values for JSON, and arrays."""

    def restore(self, values: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Take back what `state` returned."""


def all_variables(model: keras.Model) -> list[keras.Variable]:
    """Every variable that the next step depends on, each once, in a fixed order."""
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    left_out = {id(variable) for variable in getattr(model, "state_of_tests", ())}
    found = {id(variable): variable for variable in variables}
    return [variable for key, variable in found.items() if key not in left_out]


def restore_variables(model: keras.Model, state: State) -> None:
    """Give a built and compiled model the values of a checkpoint of the same model."""
    variables = all_variables(model)
    expected = [tuple(variable.shape) for variable in variables]
    if expected != [value.shape for value in state.variables]:
        raise TrainingError(
            "The checkpoint belongs to another version of the model. Delete the folder "
            "`student.checkpoints` beside `student` to train from the start."
        )
    for variable, value in zip(variables, state.variables, strict=True):
        variable.assign(value)


class Checkpoints:
    """A folder, made on the first save, of checkpoints, of which the newest two are kept.

    A file is written under another name, flushed to disk and renamed, so a file
    with a checkpoint's name is whole; an object store shows an object when it is
    whole.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._filesystem, self._local = fsspec.core.url_to_fs(directory)

    def save(self, state: State) -> None:
        """Write a checkpoint and drop all but the newest two."""
        arrays: dict[str, Any] = {f"variable/{k}": value for k, value in enumerate(state.variables)}
        header: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "finished": state.finished,
            "variables": len(state.variables),
            "callbacks": {},
        }
        for name, (values, held) in state.callbacks.items():
            header["callbacks"][name] = {"values": values, "arrays": len(held)}
            arrays |= {f"{name}/{k}": value for k, value in enumerate(held)}
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        self._filesystem.makedirs(self._local, exist_ok=True)
        final = f"{self._local}/epoch-{state.epoch:05d}-step-{state.step:08d}.npz"
        if isinstance(self._filesystem, LocalFileSystem):
            with open(f"{final}.partial", "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.rename(f"{final}.partial", final)
        else:
            with self._filesystem.open(final, "wb") as file:
                np.savez(file, **arrays)
        for old in self._files()[:-KEPT]:
            # A file that cannot be deleted now is tried again after the next one.
            with contextlib.suppress(OSError):
                self._filesystem.rm_file(old)

    def latest(self) -> State | None:
        """The newest readable checkpoint, or None."""
        for path in reversed(self._files()):
            try:
                return self._read(path)
            except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
                console.print(f"Skipping the damaged checkpoint {path}: {error}", markup=False)
        return None

    def values_of(self, callback: str) -> dict[str, Any] | None:
        """What the newest checkpoint holds of a callback, its arrays aside.

        For another process that looks on: None where there is no checkpoint yet, or
        where training has just replaced it.
        """
        for path in reversed(self._files()):
            with (
                contextlib.suppress(FileNotFoundError),
                self._filesystem.open(path, "rb") as file,
                np.load(file) as arrays,
            ):
                header = json.loads(arrays["header"].tobytes())
                return header["callbacks"][callback]["values"]
        return None

    def kept(self) -> str:
        """Where the last good checkpoint is, if there is one; a sentence for messages."""
        if self._files():
            return f"The last good checkpoint is kept in {self.directory}."
        return "No checkpoint had been written yet."

    def delete(self) -> None:
        """Remove the folder, and the one that holds it if nothing else is there."""
        if self._filesystem.exists(self._local):
            remove_folder(self._filesystem, self._local)
        parent = self._local.rsplit("/", 1)[0]
        if self._filesystem.exists(parent) and not self._filesystem.ls(parent):
            self._filesystem.rmdir(parent)

    def _files(self) -> list[str]:
        return find_files(self.directory, "epoch-*.npz")

    def _read(self, path: str) -> State:
        with self._filesystem.open(path, "rb") as file, np.load(file) as arrays:
            header = json.loads(arrays["header"].tobytes())
            return State(
                epoch=header["epoch"],
                step=header["step"],
                finished=header["finished"],
                variables=[arrays[f"variable/{k}"] for k in range(header["variables"])],
                callbacks={
                    name: (held["values"], [arrays[f"{name}/{k}"] for k in range(held["arrays"])])
                    for name, held in header["callbacks"].items()
                },
            )


class Checkpointing(keras.callbacks.Callback):
    """Saves checkpoints and goes on from one. Must stand last in the list.

    The epoch's end is always saved, after every other callback has seen it.

    Args:
        checkpoints: Where to save.
        stateful: Callbacks whose state is saved.
        epochs: Epoch at which training ends.
        steps: Steps per epoch.
        every_steps: Steps between checkpoints within an epoch; None saves at the
            end of epochs only.
        resume: Checkpoint to go on from; `fit` must start at its epoch and its
            data at its step.
        writes: False on all but one of several workers: reading the variables
            takes all of them, writing one.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        stateful: Sequence[Stateful],
        epochs: int,
        steps: int,
        every_steps: int | None = None,
        resume: State | None = None,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self._writes = writes
        self._checkpoints = checkpoints
        self._stateful = stateful
        self._epochs = epochs
        self._steps = steps
        self._every_steps = every_steps
        self._resume = resume
        self._epoch = self._offset = 0

    def on_train_begin(self, logs: Mapping | None = None) -> None:
        # The others have reset themselves by now.
        if self._resume is not None:
            for callback in self._stateful:
                callback.restore(*self._resume.callbacks[callback.name])

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        self._epoch, self._offset = epoch, 0
        if self._resume is None:
            return
        # `fit` has just reset the metrics; within an epoch theirs must come back.
        restore_variables(self.model, self._resume)
        if self._resume.step == 0:
            self.model.reset_metrics()
        self._offset = self._resume.step
        self._resume = None

    def on_train_batch_end(self, batch: int, logs: Mapping | None = None) -> None:
        done = self._offset + batch + 1
        if self._every_steps and done % self._every_steps == 0 and done < self._steps:
            self._save(self._epoch, done, finished=False)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        finished = self.model.stop_training or epoch + 1 == self._epochs
        self._save(epoch + 1, 0, finished)

    def _save(self, epoch: int, step: int, finished: bool) -> None:
        variables = all_variables(self.model)
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variable, value in zip(variables, values, strict=True):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise TrainingError(
                    f"`{variable.path}` is no longer finite at epoch {self._epoch + 1}, after "
                    f"{step or 'all'} steps. {self._checkpoints.kept()} Lower "
                    "`train.learning_rate` or set `train.clip_norm`."
                )
        if not self._writes:
            return
        self._checkpoints.save(
            State(
                epoch=epoch,
                step=step,
                finished=finished,
                variables=values,
                callbacks={callback.name: callback.state() for callback in self._stateful},
            )
        )
