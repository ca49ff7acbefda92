"""The private names of Beam are there and do what this package relies on."""

from __future__ import annotations

import copy

import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlConnection
from apache_beam.runners.portability.portable_runner import PipelineResult
from apache_beam.runners.worker import statesampler
from apache_beam.testing.util import assert_that
from apache_beam.transforms import userstate
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_pipelines import beam_internals, running


def test_a_worker_process_that_has_not_connected_yet():
    connection = ControlConnection()
    assert connection._futures_by_id == {}
    assert connection._state == beam_internals._UNCONNECTED


def test_fresh_metrics_ask_again():
    """Beam keeps its first answer in the result itself, which is copied here."""
    answers = iter("ab")

    class Service:
        def GetJobMetrics(self, request):
            raise StopIteration(next(answers))

    result = object.__new__(PipelineResult)
    vars(result).update(_job_id="j", _job_service=Service(), _metrics=None)
    for expected in "ab":
        with pytest.raises(StopIteration, match=expected):
            beam_internals.fresh_metrics(result)
    result._metrics = "first"
    assert result.metrics() == "first"


class _Plain(beam.DoFn):
    def process(self, element):
        yield element


class _Keeps(beam.DoFn):
    state = ReadModifyWriteStateSpec("kept", VarIntCoder())

    def process(self, element, kept=beam.DoFn.StateParam(state)):  # noqa: B008
        before = kept.read() or 0
        kept.write(before + 1)
        yield element[0], before


def test_beam_inspects_every_class_of_dofn_once(monkeypatch):
    inspected = []
    inspect = userstate.get_dofn_specs

    def watched(dofn):
        inspected.append(type(dofn))
        return inspect(dofn)

    monkeypatch.setattr(userstate, "get_dofn_specs", watched)

    def build(pipeline):
        plain = pipeline | beam.Create([1, 2]) | "A" >> beam.ParDo(_Plain())
        _ = plain | beam.Reshuffle() | "B" >> beam.ParDo(_Plain())

    running.run_pipeline(build, title="twice")
    assert inspected.count(_Plain) == 1 and userstate.get_dofn_specs is watched


def test_state_of_a_dofn_is_found_although_beam_inspects_once():
    def check(found):
        assert sorted(found) == [("a", 0), ("a", 1), ("b", 0)]

    def build(pipeline):
        pairs = pipeline | beam.Create([("a", 1), ("a", 2), ("b", 1)])
        assert_that(pairs | "A" >> beam.ParDo(_Plain()) | "B" >> beam.ParDo(_Keeps()), check)

    running.run_pipeline(build, title="state")


@pytest.mark.parametrize("flags", [[], ["--impersonate_service_account=someone"]])
def test_copied_options_see_what_is_set_through_their_views(flags):
    """As Beam does with a pipeline's options; with that flag it copies the values, too."""
    options = beam_internals.CachedOptions(flags)
    assert options.view_as(StandardOptions) is options.view_as(StandardOptions)
    other = copy.deepcopy(options)
    other.view_as(StandardOptions).runner = "Other"
    assert other.get_all_options()["runner"] == "Other"
    assert options.view_as(StandardOptions).runner is None


def test_the_sampler_of_states_sleeps_briefly_and_only_in_this_job():
    """Beam's signature may change: then a bundle waits again, and this says so."""
    usual = statesampler.StateSampler("step", None).sampling_period_ms

    def look(_):
        period = statesampler.get_current_tracker().sampling_period_ms
        Metrics.counter(running.NAMESPACE, "period").inc(period)

    counters = running.run_pipeline(
        lambda p: p | beam.Create([1]) | beam.Map(look), title="sampled"
    )
    assert counters["period"] == beam_internals.SAMPLING_MS < usual
    assert statesampler.StateSampler("step", None).sampling_period_ms == usual
