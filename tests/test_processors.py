"""Threads of TensorFlow on machines with few processors."""

from __future__ import annotations

import types

import pytest

from kdsr_tf import processors


@pytest.mark.parametrize(
    ("number", "chosen", "gpus", "expected"),
    [
        (1, None, [], [1]),
        (2, None, [], [1]),
        (3, None, [], []),
        (2, "4", [], []),
        (2, None, ["GPU"], []),
    ],
)
def test_few_processors_give_every_operation_one_thread(
    number, chosen, gpus, expected, monkeypatch
):
    limits = []
    threading = types.SimpleNamespace(set_intra_op_parallelism_threads=limits.append)
    config = types.SimpleNamespace(list_physical_devices=lambda _: gpus, threading=threading)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(number)))
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", chosen)
    processors.limit_threads(types.SimpleNamespace(config=config))
    assert limits == expected
