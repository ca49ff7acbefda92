"""`kdsr run` stops before training where nothing could be evaluated."""

from __future__ import annotations

import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import load_config
from kdsr_tf.errors import InputError
from kdsr_tf.runs import pipeline, plan


class _Ended(Exception): ...


@pytest.mark.parametrize(
    ("counts", "refused"), [({"test_points": 0}, True), ({"test_points": 3}, False), ({}, False)]
)
def test_a_source_without_a_test_point_stops_after_prepare(tmp_path, monkeypatch, counts, refused):
    config = load_config(workdir=str(tmp_path))
    manifest = Manifest(artifact="sequences", fingerprint="x", counts=counts)
    with artifacts.committing(stages.location(config, "sequences"), manifest):
        pass
    ran = []

    def run_stage(_, stage, *others):
        ran.append(stage)
        if stage == "encode":
            raise _Ended

    monkeypatch.setattr(plan, "external_fingerprints", lambda _: {})
    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    with pytest.raises(InputError if refused else _Ended) as raised:
        pipeline.run_all(config)
    assert ran == (["prepare"] if refused else ["prepare", "encode"])
    assert not refused or "holds no test point" in str(raised.value)
