"""The fits of one student and where they keep their state."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdsr_tf import stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.console import console, table
from kdsr_tf.data.examples import Examples
from kdsr_tf.items.item_encoder import ItemEncoder
from kdsr_tf.methods.registry import backbone_class, build_model
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.training import callbacks, distributed, rates
from kdsr_tf.training.checkpoints import Checkpointing, Checkpoints, State, restore_variables
from kdsr_tf.training.cluster import is_chief
from kdsr_tf.training.term_gradients import term_gradient_norms
from kdsr_tf.training.warm_start import WarmStart

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_GRADIENT_ROWS = 32
"""Windows, or prefixes, on which the gradient of each term is measured, once per epoch."""


class Run:
    """The fits of one student.

    Args:
        config: The configuration.
        read: What the method reads beside windows.
        directory: Folder of its checkpoints and logs, local path or URI.
        strategy: Result of `devices.set_up`.
        start: Earlier student to start from.
    """

    def __init__(
        self,
        config: Config,
        read: TrainingInputs,
        directory: str,
        strategy: tf.distribute.Strategy,
        start: WarmStart | None = None,
    ) -> None:
        self._config = config
        self._read = read
        self._strategy = strategy
        self._start = start
        self._writes = is_chief(config)
        self.checkpoints = Checkpoints(directory)
        self.logs = join(directory, "logs")
        self.examples = Examples(
            stages.location(config, stages.windows_of(config)),
            config.windows.max_length,
            config.needs.pairs,
            prefixes=not backbone_class(config).causal,
            few_shapes=config.train.jit_compile,
            content=read.content,
        )

    @property
    def judge(self) -> str:
        """Split by which the epoch is selected."""
        return TEST if self._config.train.selection == "test_oracle" else VALIDATION

    @property
    def learnt(self) -> tuple[str, ...]:
        """Splits that are learnt from while the epoch is selected."""
        return (TRAIN, VALIDATION) if self.judge == TEST else (TRAIN,)

    def steps(self, splits: Sequence[str] = (TRAIN,)) -> int:
        """Steps of one epoch over some splits."""
        return self.examples.steps_per_epoch(self._config.train.batch_size, splits)

    def fit(
        self, phase: str, epochs: int, splits: Sequence[str]
    ) -> tuple[TrainingModel, list[dict[str, float]], int | None]:
        """One fit over some splits to its end, from its last checkpoint if there is one.

        Args:
            phase: `select` (judges every epoch, keeps the best) or `refit`.
            epochs: Most epochs.
            splits: What is learnt from.

        Returns:
            The model, a row of logs per epoch, and the best epoch, from 1; None
            if there was nothing to select by.
        """
        config = self._config.train
        judges = phase == "select" and self.examples.num_windows(self.judge) > 0
        monitor = f"{'test' if self.judge == TEST else 'val'}_{config.monitor}"
        best = callbacks.BestEpoch(monitor, config.patience) if judges else None
        log = callbacks.EpochLog()
        checkpoints = Checkpoints(join(self.checkpoints.directory, phase))
        model = self.compiled(splits)
        state = checkpoints.latest()
        if self._writes:
            _announce(model, state, phase)
        while state is None or not state.finished:
            self._fit_part(model, phase, epochs, splits, checkpoints, log, best, state)
            distributed.wait_for_all(self._strategy)  # the chief has written
            state = checkpoints.latest()
        distributed.wait_for_all(self._strategy)  # all have read
        restore_variables(model, state)
        log.restore(*state.callbacks[log.name])
        if best is None:
            return model, log.rows, None
        best.restore(*state.callbacks[best.name])
        model.set_weights(best.best_weights)
        return model, log.rows, best.best_epoch + 1

    def compiled(self, splits: Sequence[str] = (TRAIN,)) -> TrainingModel:
        """The model with its optimizer, built and ready for its first step."""
        config = self._config.train
        with self._strategy.scope():
            steps = self.steps(splits)
            model = build_model(self._config, self._read, steps)
            if self._read.content is not None:
                model.read_content_from(self._read.content)
            if self._start is not None:
                self._start.apply(model.recommender)
            tables = model.recommender.item_encoder.row_variables().values()
            optimizer = rates.grouped_adam(
                rates.variable_groups(model),
                {rates.REST: config.learning_rate, **self._config.needs.learning_rates},
                slow_start_steps=config.slow_start_epochs * steps,
                slow_start_factor=config.slow_start_factor,
                weight_decay=config.weight_decay,
                clip_norm=config.clip_norm,
                warmup_steps=config.warmup_steps,
                decay=config.decay,
                total_steps=config.epochs * steps,
                accumulation_steps=config.accumulation_steps,
                lazy=[v for v in tables if v.trainable and config.lazy_tables],
            )
            model.compile(optimizer=optimizer, jit_compile=config.jit_compile)
            # Checkpoints hold the optimizer's variables: they must exist before the first
            # step. `compile` wraps the optimizer where float16 needs a loss scale.
            model.optimizer.build(model.trainable_variables)
        return model

    def served_items(self, model: TrainingModel) -> ItemEncoder:
        """The item encoder with the vectors of all items at hand."""
        encoder = model.recommender.item_encoder
        return encoder.materialised(self._read.content) if encoder.computed else encoder

    def _fit_part(
        self,
        model: TrainingModel,
        phase: str,
        epochs: int,
        splits: Sequence[str],
        checkpoints: Checkpoints,
        log: callbacks.EpochLog,
        best: callbacks.BestEpoch | None,
        state: State | None,
    ) -> None:
        """The rest of an interrupted epoch, or all epochs that are left."""
        config = self._config.train
        epoch, step = (state.epoch, state.step) if state is not None else (0, 0)
        last, steps = (epoch + 1 if step else epochs), self.steps(splits)
        stateful: list[Any] = [log] if best is None else [log, best]
        called = self._measuring(model, phase, checkpoints, epoch, step)
        with contextlib.ExitStack() as open_until_the_end:
            if self._writes:
                title = f"training ({phase})"
                shown = callbacks.EpochProgress(epochs, steps, epoch, step, title)
                open_until_the_end.enter_context(contextlib.closing(shown))
                called += [
                    keras.callbacks.TensorBoard(join(self.logs, phase), write_graph=False),
                    shown,
                ]
            every = config.checkpoint_steps
            saving = Checkpointing(checkpoints, stateful, epochs, steps, every, state, self._writes)
            called += [*stateful, saving]
            batches = self.examples.train_batches(
                config.batch_size, last, self._config.training_seed, epoch, step, splits
            )
            judged_per_batch = self._config.evaluate.batch_size
            arguments: dict[str, Any] = {
                "epochs": last,
                "initial_epoch": epoch,
                "steps_per_epoch": steps - step,
                "callbacks": called,
            }
            if best is not None:
                arguments["validation_data"] = self.examples.batches(self.judge, judged_per_batch)
            if config.strategy == "single":
                model.fit(batches, shuffle=False, verbose=0, **arguments)
                return
            distributed.fit(
                model,
                batches,
                validation_steps=self.examples.num_batches(self.judge, judged_per_batch),
                **arguments,
            )

    def _measuring(
        self, model: TrainingModel, phase: str, checkpoints: Checkpoints, epoch: int, step: int
    ) -> list[keras.callbacks.Callback]:
        """The callbacks that change the logs; all others read them."""
        seed = self._config.training_seed
        tables = model.recommender.item_encoder.row_variables()
        teachers = self._read.teachers.items()
        references = {m: (t.vectors, t.present) for m, t in teachers if m in tables}
        kept = join(self.logs, phase, callbacks.SIMILARITIES) if self._writes else None
        few: Any = None
        if self._config.train.strategy == "single":
            few = next(iter(self.examples.sample(_GRADIENT_ROWS, seed)))

        def measure(epoch: int, logs: dict[str, float]) -> None:
            if self.judge == TEST:
                callbacks.name_after_test_points(logs)
            for group, rate in rates.current_rates(model.optimizer).items():
                logs[f"learning_rate_{group}"] = rate
            for term, norm in term_gradient_norms(model, few).items() if few else ():
                logs[f"term_gradient_{term}"] = norm

        return [
            callbacks.FiniteLosses(checkpoints, epoch, step),
            keras.callbacks.LambdaCallback(on_epoch_end=measure),
            callbacks.ModalityRetention(model.recommender.item_encoder, references, seed, kept),
        ]


def num_parameters(variables: Sequence[keras.Variable]) -> int:
    """Numbers in some variables."""
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _announce(model: TrainingModel, state: State | None, phase: str) -> None:
    rows = [
        (group, len(variables), num_parameters(variables))
        for group, variables in rates.variable_groups(model).items()
    ]
    console.print(table(f"training ({phase})", ("group", "variables", "parameters"), rows))
    if state is not None:
        console.print(f"Going on from epoch {state.epoch + 1}, step {state.step}.")
