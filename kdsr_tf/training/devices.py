"""What must be set before TensorFlow touches a device, and the replicas of a step."""

from __future__ import annotations

import keras
import tensorflow as tf

from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.processors import limit_threads


def set_up(config: Config) -> tf.distribute.Strategy:
    """Prepare the process for training. Call it before anything runs on a device.

    GPU memory grows with need, so that one process does not take a whole GPU. On two
    processors every operation gets one thread: a step has enough of them that do not wait
    for one another, and shared out they disturb each other (docs/performance.md). A process in
    which TensorFlow has begun keeps the threads that it has.

    Returns:
        The strategy under whose scope the model is to be made; with
        `train.strategy=single` TensorFlow's default, of one replica.
    """
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            console.print(f"{gpu.name} is in use already: its memory does not grow with need.")
    limit_threads(tf)
    # Collectives must be configured before anything else runs.
    strategy = _STRATEGIES[config.train.strategy]()
    keras.utils.set_random_seed(config.training_seed)
    return strategy


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


_STRATEGIES = {
    "single": tf.distribute.get_strategy,
    "mirrored": _mirrored,
    "multi_worker": tf.distribute.MultiWorkerMirroredStrategy,
}
