"""`Model.fit` over the replicas of a strategy, on one machine or on several.

`Model.fit` of Keras 3.15 fails under `MultiWorkerMirroredStrategy` (it asks the
first batch, one value per replica, for a tensor), and under `MirroredStrategy` it
averages what replicas log, which is not what a metric over all of them would be.
Here a step is the same `train_step`, in `strategy.run`, and metrics are read once
all replicas have added to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from kdsr_tf import schema
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.schema import ITEMS

Strategy: TypeAlias = tf.distribute.Strategy


def fit(
    model: TrainingModel,
    batches: tf.data.Dataset,
    *,
    epochs: int,
    initial_epoch: int,
    steps_per_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
    validation_data: tf.data.Dataset | None = None,
    validation_steps: int = 0,
) -> None:
    """Train a compiled model that was made under a strategy's scope, its optimizer built.

    Replica r of n learns from rows r, r + n, r + 2n… of every batch, so that all
    replicas together take the step that one would take from the whole batch, but
    for the units that dropout drops: replicas draw equal masks for their own rows. Every
    loss, term and metric is that of all replicas.

    Arguments are those of `Model.fit`; batches have the global size and are the same on every
    worker.
    """
    strategy = model.distribute_strategy
    train_step = _on_replicas(model.train_step, strategy)
    test_step = _on_replicas(model.test_step, strategy)
    stream = iter(_distribute(batches, strategy))
    called = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=epochs, steps=steps_per_epoch, verbose=0
    )
    model.stop_training = False
    called.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        called.on_epoch_begin(epoch)
        for step in range(steps_per_epoch):
            called.on_train_batch_begin(step)
            logs = train_step(stream)
            called.on_train_batch_end(step, logs)
        logs = _global_metrics(model, logs)
        if validation_data is not None:
            called.on_test_begin()
            model.reset_metrics()
            model.encode_catalogue()
            tested: dict[str, float] = {}
            stream_of_tests = iter(_distribute(validation_data, strategy))
            for _ in range(validation_steps):
                tested = test_step(stream_of_tests)
            tested = _global_metrics(model, tested)
            called.on_test_end(tested)
            logs |= {f"val_{name}": value for name, value in tested.items()}
        called.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    called.on_train_end(logs)


def wait_for_all(strategy: Strategy) -> None:
    """Return when every worker has come here."""

    @tf.function(autograph=False)
    def meet() -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda: tf.constant(1)), axis=None)

    meet().numpy()


def _distribute(batches: tf.data.Dataset, strategy: Strategy) -> tf.distribute.DistributedDataset:
    """The rows of every batch that belong to each replica."""
    replicas = strategy.num_replicas_in_sync

    def of_pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        def parts(batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
            # Empty windows where there are fewer rows than replicas: they count as nothing.
            missing = -tf.shape(batch[ITEMS])[0] % replicas
            # Every replica compares its targets with the items of the whole batch.
            whole = {k: values for k, values in batch.items() if schema.is_of_whole_batch(k)}
            rows = {
                name: tf.pad(values, [[0, missing], [0, 0]])
                for name, values in batch.items()
                if name not in whole
            }
            return tf.data.Dataset.range(first, first + local).map(
                lambda replica: whole | {k: v[replica::replicas] for k, v in rows.items()}
            )

        return batches.flat_map(parts).prefetch(local)

    return strategy.distribute_datasets_from_function(of_pipeline)


def _on_replicas(step: Callable, strategy: Strategy) -> Callable:
    """A step of all replicas; its logs are those of the first one here."""

    @tf.function(autograph=False)
    def on_replicas(stream: Iterator[Any]) -> Any:
        return strategy.run(step, args=(next(stream),))

    def logged(stream: Iterator[Any]) -> dict[str, float]:
        logs = on_replicas(stream)
        return {
            name: float(strategy.experimental_local_results(value)[0])
            for name, value in logs.items()
        }

    return logged


def _global_metrics(model: TrainingModel, logs: dict[str, float]) -> dict[str, float]:
    """The logs of an epoch, its metrics read over all replicas."""
    results = model.get_metrics_result()
    return {name: float(results.get(name, value)) for name, value in logs.items()}
