"""The runner: counters, progress from worker processes, errors from DoFns."""

from __future__ import annotations

import apache_beam as beam
import pytest

from beam_pipelines import running
from kdsr_tf.errors import InputError

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.mark.parametrize("beam_args", [(), TWO_PROCESSES], ids=["in_memory", "two_processes"])
def test_counters_come_back(beam_args):
    def count(element: int) -> int:
        running.advance(element)
        return element

    def build(pipeline):
        _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(count)

    assert running.run_pipeline(build, beam_args, title="count", total=6) == {"done": 6}


@pytest.mark.parametrize("beam_args", [(), TWO_PROCESSES], ids=["in_memory", "two_processes"])
def test_user_error_of_a_worker_keeps_its_class_and_message(beam_args):
    def refuse(element: int):
        raise InputError(f"`ids` must be unique.\nReceived: {element} twice. Remove one.")

    def build(pipeline):
        _ = pipeline | beam.Create([7]) | beam.Map(refuse)

    with pytest.raises(InputError) as caught:
        running.run_pipeline(build, beam_args, title="refuse")
    assert str(caught.value) == "`ids` must be unique.\nReceived: 7 twice. Remove one."


def test_other_errors_stay_what_they_are():
    def build(pipeline):
        _ = pipeline | beam.Create([0]) | beam.Map(lambda element: 1 // element)

    with pytest.raises(Exception, match="division"):
        running.run_pipeline(build, title="divide")
