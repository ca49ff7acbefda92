"""Which worker of a cluster this process is, from `TF_CONFIG` (no TensorFlow needed)."""

from __future__ import annotations

import json
import os

from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError

VARIABLE = "TF_CONFIG"
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def is_chief(config: Config) -> bool:
    """Whether this process writes what training writes: the only one, or a cluster's chief.

    That is the task of type `chief` where the cluster has one, else worker 0.

    Raises:
        ConfigError: if `train.strategy` needs a cluster and `TF_CONFIG` names none.
    """
    if config.train.strategy != "multi_worker":
        return True
    text = os.environ.get(VARIABLE, "")
    try:
        described = json.loads(text)
        cluster, task = described["cluster"], described["task"]
        chief = "chief" if "chief" in cluster else "worker"
        return (task["type"], int(task["index"])) == (chief, 0)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            "`train.strategy=multi_worker` needs the environment variable TF_CONFIG on every "
            f"worker, such as {_EXAMPLE}. Received: TF_CONFIG={text!r}. On one machine use "
            "train.strategy=mirrored."
        ) from None
