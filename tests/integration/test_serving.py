"""A student, exported, served and asked over gRPC, answers as it did in Keras."""

from __future__ import annotations

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from kdsr_tf.config.serving_sections import ServeConfig
from kdsr_tf.methods import student as _student  # noqa: F401  (registers the class)
from serving.client import Client
from serving.server import Server
from tests.export.fixtures import workdir  # noqa: F401
from tests.nearness import assert_near


@pytest.mark.parametrize("variant", ["exact", "scann"])
def test_served_rankings_are_those_of_the_student(workdir, variant):  # noqa: F811
    student = keras.saving.load_model(workdir / "student" / "student.keras")
    ids = np.array(pq.read_table(workdir / "sequences" / "items.parquet")["item_id"].to_pylist())
    rows = pq.read_table(next((workdir / "sequences").glob("sequences-*")))["items"].to_pylist()
    histories = [np.array(row) for row in rows[:20]]
    padded = np.zeros((len(histories), 10), np.int32)
    for row, history in enumerate(histories):
        padded[row, : len(history[-10:])] = history[-10:]
    scores = np.array(student.scores(padded))
    options = ServeConfig(model_name="shop", grpc_port=0, rest_port=None)
    server = Server(str(workdir / "serving_model" / variant), options)
    server.start()
    try:
        with Client(server.target, "shop") as client:
            found = client.recommend([ids[history - 1].tolist() for history in histories], k=10)
    finally:
        server.stop()
    for row, history in enumerate(histories):
        scores[row, history] = -np.inf
        best = np.argsort(-scores[row])[:10]
        assert [item for item, _ in found[row]] == ids[best - 1].tolist()
        assert_near([score for _, score in found[row]], scores[row, best])
