"""`kdsr train --profile`: where the time of a training step goes."""

from __future__ import annotations

import datetime

import tensorflow as tf

from kdsr_tf import stage_frame, stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.console import progress
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.training_inputs import read_training_inputs
from kdsr_tf.training.devices import set_up
from kdsr_tf.training.run import Run

FIRST_STEP, LAST_STEP = 10, 20
"""Steps that are traced; the ones before compile and warm up."""


def profile(config: Config) -> str:
    """Trace some training steps, on one replica, of a student that is then thrown away.

    Returns:
        Folder for `tensorboard --logdir`, below `student.profile/`.

    Raises:
        MissingArtifactError: naming the stage to run first.
        ConfigError: for several replicas.
    """
    if config.train.strategy != "single":
        raise ConfigError(
            "`--profile` traces one replica. Received: train.strategy="
            f"{config.train.strategy}. Add --set train.strategy=single."
        )
    inputs = stage_frame.read_inputs(config, "student")
    strategy = set_up(config)
    location = f"{stages.location(config, 'student')}.profile"
    folder = join(location, f"{datetime.datetime.now():%Y%m%d-%H%M%S}")
    run = Run(config, read_training_inputs(config, inputs), folder, strategy)
    model = run.compiled()
    epochs = -(-LAST_STEP // run.steps())
    size, seed = config.train.batch_size, config.training_seed
    batches = run.examples.train_batches(size, epochs, seed)
    with progress("profiling", total=LAST_STEP) as advance:
        model.fit(batches, steps_per_epoch=FIRST_STEP, shuffle=False, verbose=0)
        advance(FIRST_STEP)
        traced, steps = batches.skip(FIRST_STEP), LAST_STEP - FIRST_STEP
        with tf.profiler.experimental.Profile(folder):
            model.fit(traced, steps_per_epoch=steps, shuffle=False, verbose=0)
        advance(steps)
    return folder
