"""TF Serving's configuration files parse as what TF Serving reads; warm-up asks everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from kdsr_tf import schema
from kdsr_tf.export import deployment
from tests.export import oracle

_BOOL, _INT64, _STRING = 8, 3, 9
_OPTIONAL, _REPEATED = 1, 3

# Fields of tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
# config/monitoring_config.proto, which the Python package leaves out.
_BATCHING = {
    "max_batch_size": ".tests.Int64",
    "batch_timeout_micros": ".tests.Int64",
    "max_enqueued_batches": ".tests.Int64",
    "num_batch_threads": ".tests.Int64",
    "allowed_batch_sizes": _INT64,
    "pad_variable_length_inputs": _BOOL,
}
_MESSAGES = {
    "Int64": {"value": _INT64},
    "BatchingParameters": _BATCHING,
    "PrometheusConfig": {"enable": _BOOL, "path": _STRING},
    "MonitoringConfig": {"prometheus_config": ".tests.PrometheusConfig"},
}


def message(name):
    file = descriptor_pb2.FileDescriptorProto(name="tests.proto", package="tests")
    for message_name, fields in _MESSAGES.items():
        made = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            label = _REPEATED if field == "allowed_batch_sizes" else _OPTIONAL
            added = made.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = 11, kind
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests.{name}"))()


@pytest.fixture(scope="module")
def files():
    return deployment.configuration_files("shop", sampling_rate=0.25)


def parse_models(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def test_models_and_request_logs(files):
    [model] = parse_models(files["models.config"]).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "shop",
        "/models/shop",
        "tensorflow",
    )
    assert model.model_version_policy.latest.num_versions == 1
    # The stock image refuses to start with one.
    assert not model.HasField("logging_config")
    [logged] = parse_models(files["request_log.config"]).model_config_list.config
    assert logged.logging_config.sampling_config.sampling_rate == 0.25
    assert logged.logging_config.log_collector_config.filename_prefix.endswith("/shop")
    logged.ClearField("logging_config")
    assert logged == model


def test_batching_and_monitoring(files):
    batching = text_format.Parse(files["batching.config"], message("BatchingParameters"))
    assert batching.num_batch_threads.value == 4
    assert batching.pad_variable_length_inputs
    sizes = list(batching.allowed_batch_sizes)
    assert sizes == sorted(sizes) and sizes[-1] == batching.max_batch_size.value
    monitoring = text_format.Parse(files["monitoring.config"], message("MonitoringConfig"))
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_docs_say_what_the_signatures_are():
    """The table and the configuration of a canary in docs/serving.md."""
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()

    def described(cell):
        tensors = re.findall(r"`(\w+)` (\w+) \[([^]]+)\]", cell)
        return {name: (dtype, len(dims.split(","))) for name, dtype, dims in tensors}

    rows = re.findall(r"^\| `(\w+)` \| (`\w+` \w+ \[.*) \| (.*) \|$", text, re.MULTILINE)
    table = {name: (described(given), described(out)) for name, given, out in rows}
    assert table == schema.SERVING_SIGNATURES
    [canary] = re.findall(r"```textproto\n(.*?)```", text, re.DOTALL)
    [model] = parse_models(canary).model_config_list.config
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) == versions == {3, 4}


def test_warm_up_asks_every_signature_alone_and_in_a_batch(tmp_path):
    histories = [["item007", "item008"], ["item009"]]
    written = deployment.write_warm_up(str(tmp_path), oracle.MODEL, histories)
    records = tf.data.TFRecordDataset(str(tmp_path / deployment.WARM_UP)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    asked = {}
    for log in logs:
        request = log.predict_log.request
        assert request.model_spec.name == oracle.MODEL
        inputs, _ = schema.SERVING_SIGNATURES[request.model_spec.signature_name]
        assert set(request.inputs) == set(inputs)
        rows = {tensor.tensor_shape.dim[0].size for tensor in request.inputs.values()}
        asked.setdefault(request.model_spec.signature_name, []).append(rows)
    assert written == len(logs)
    assert asked == {name: [{1}, {2}] for name in schema.SERVING_SIGNATURES}
