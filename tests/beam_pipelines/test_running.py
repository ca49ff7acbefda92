"""The runner: counters, progress from worker processes, errors from DoFns."""

from __future__ import annotations

import os
import signal
import sys

import apache_beam as beam
import pytest

from beam_pipelines import running
from kdsr_tf.errors import ConfigError, InputError, KDSRError

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.mark.parametrize("beam_args", [(), TWO_PROCESSES], ids=["in_memory", "two_processes"])
def test_counters_come_back(beam_args):
    def count(element: int) -> int:
        running.advance(element)
        return element

    def build(pipeline):
        _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(count)

    assert running.run_pipeline(build, beam_args, title="count", total=6) == {"done": 6}


def _refuse(pipeline):
    def refuse(element: int):
        raise InputError(f"`ids` must be unique.\nReceived: {element} twice. Remove one.")

    _ = pipeline | beam.Create([7]) | beam.Map(refuse)


def test_user_error_keeps_its_class_and_message():
    with pytest.raises(InputError) as caught:
        running.run_pipeline(_refuse, title="refuse")
    assert str(caught.value) == "`ids` must be unique.\nReceived: 7 twice. Remove one."


@pytest.mark.parametrize("late", [0, 1])
def test_user_error_ends_the_job_even_if_a_worker_process_starts_late(tmp_path, monkeypatch, late):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "number = int(os.environ.get('WORKER_ID', '_-1').rsplit('_', 1)[1])\n"
        f"time.sleep(3 * (number >= 0 and number % 2 == {late}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(InputError) as caught:
        running.run_pipeline(_refuse, TWO_PROCESSES, title="refuse")
    assert str(caught.value) == "`ids` must be unique.\nReceived: 7 twice. Remove one."


def test_other_errors_stay_what_they_are():
    def build(pipeline):
        _ = pipeline | beam.Create([0]) | beam.Map(lambda element: 1 // element)

    with pytest.raises(Exception, match="division"):
        running.run_pipeline(build, title="divide")


def test_a_full_disk_ends_the_job_with_one_clear_error():
    def build(pipeline):
        def write(element: int) -> None:
            with open("/dev/full", "w") as file:
                file.write(str(element))

        _ = pipeline | beam.Create([1]) | beam.Map(write)

    with pytest.raises(KDSRError, match=r"^No space is left on the disk"):
        running.run_pipeline(build, title="full")


def test_a_killed_worker_process_ends_the_job_with_one_clear_error(capfd):
    def build(pipeline):
        def die(element: int) -> int:
            if element == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return element

        _ = pipeline | beam.Create(range(6)) | beam.Reshuffle() | beam.Map(die)

    with pytest.raises(KDSRError, match=r"worker process was killed.*run the job again\.$"):
        running.run_pipeline(build, TWO_PROCESSES, title="kill")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("beam_args", "message"),
    [
        (["--direct_num_wrokers=2"], r"^Beam has no option --direct_num_wrokers=2 .*DirectRunner"),
        (["--runner=direct", "--wrokdir", "x"], r"^Beam has no option --wrokdir x "),
        (["config.yaml"], r"^Beam has no option config.yaml "),
        (["--direct_num_workers=two"], r"^Beam refuses an option: .*direct_num_workers.*two"),
        (["--runner=Nonsense"], r"^Beam cannot use .*runner: Nonsense\. Valid values are "),
        (["--runner=no_such_module.Runner"], r"^Beam cannot use .*No module named"),
        (["--runner=DataflowRunner"], r"(?s)^Beam cannot use .*temp_location"),
    ],
)
def test_options_that_beam_does_not_understand_are_refused(beam_args, message):
    with pytest.raises(ConfigError, match=message):
        running.run_pipeline(lambda _: pytest.fail("was built"), beam_args, title="never")


def test_a_portable_runner_may_have_options_of_its_own():
    class Reached(Exception):
        pass

    def build(pipeline):
        raise Reached

    with pytest.raises(Reached):
        running.run_pipeline(build, ["--runner=PortableRunner", "--of_its_own=1"], title="portable")
