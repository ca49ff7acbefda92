"""What TF Serving reads beside a SavedModel: warm-up requests and its configuration files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from kdsr_tf import schema

WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")

_MODEL = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
{more}  }}
}}
"""

_MODELS = """\
# TF Serving: --model_config_file=/models/{name}-config/models.config
# Mount serving_model/exact (or scann, on an image with ScaNN's operations) at /models/{name}.
"""

_REQUEST_LOG = """\
# As models.config, and a share of the requests and answers is logged for `kdsr skew`.
# TF Serving: --model_config_file=/models/{name}-config/request_log.config
# Needs a server built with a request logger and a LogCollector registered as this `type`;
# the stock image has neither and stops with "No request-logger-creator provided".
"""

_LOGGING = """\
    logging_config {{
      log_collector_config {{
        type: "tfrecord"
        filename_prefix: "/var/log/tf_serving/{name}"
      }}
      sampling_config {{ sampling_rate: {rate} }}
    }}
"""

_BATCHING = """\
# TF Serving: --enable_batching --batching_parameters_file=/models/{name}-config/batching.config
# A request of more rows than max_batch_size is refused.
max_batch_size {{ value: 64 }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 4 }}
# A batch is filled up to the next of these sizes: few shapes, few traces.
allowed_batch_sizes: 1
allowed_batch_sizes: 8
allowed_batch_sizes: 32
allowed_batch_sizes: 64
# Histories of different lengths are padded with the tensor's first element; clients send a
# leading "" so that the padding is ignored.
pad_variable_length_inputs: true
"""

_MONITORING = """\
# TF Serving: --monitoring_config_file=/models/{name}-config/monitoring.config
prometheus_config {{ enable: true, path: "/monitoring/prometheus/metrics" }}
"""


def configuration_files(model_name: str, sampling_rate: float = 0.01) -> dict[str, str]:
    """TF Serving's configuration files, name to text.

    Args:
        model_name: Name clients ask for; also the mount point below `/models`.
        sampling_rate: Share of requests in `request_log.config`, in `[0, 1]`.
    """
    values = {"name": model_name, "rate": sampling_rate}
    texts = {
        "models.config": _MODELS + _MODEL.replace("{more}", ""),
        "request_log.config": _REQUEST_LOG + _MODEL.replace("{more}", _LOGGING),
        "batching.config": _BATCHING,
        "monitoring.config": _MONITORING,
    }
    return {name: text.format(**values) for name, text in texts.items()}


def write_warm_up(folder: str, model_name: str, histories: list[list[str]]) -> int:
    """Write requests that a server plays before a version takes traffic, and count them.

    ScaNN builds its searcher at the first query; warm-up keeps that from a user. The first of the
    histories is asked alone, then all together.
    """
    path = os.path.join(folder, WARM_UP)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    written = 0
    with tf.io.TFRecordWriter(path) as writer:
        for rows in (histories[:1], histories):
            for request in example_requests(model_name, rows):
                log = prediction_log_pb2.PredictLog(request=request)
                record = prediction_log_pb2.PredictionLog(predict_log=log)
                writer.write(record.SerializeToString())
                written += 1
    return written


def example_requests(
    model_name: str, histories: Sequence[list[str]]
) -> Iterator[predict_pb2.PredictRequest]:
    """One request per signature, made of at least one history, none of them empty."""
    length = max(map(len, histories)) + 1
    history = [[""] * (length - len(row)) + row for row in histories]
    values = {
        schema.HISTORY: history,
        schema.CANDIDATES: history,
        schema.ITEM_ID: [row[-1] for row in histories],
    }
    for signature, (inputs, _) in schema.SERVING_SIGNATURES.items():
        yield predict_pb2.PredictRequest(
            model_spec=model_pb2.ModelSpec(name=model_name, signature_name=signature),
            inputs={
                name: tf.make_tensor_proto(np.array(values[name], object), tf.string)
                for name in inputs
            },
        )
