"""Every stage, killed with SIGKILL while it writes, leaves nothing a reader accepts.

Run again, it ends with what an uninterrupted run has written.
"""

from __future__ import annotations

import glob
import os
import signal
import time

import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.config import load_config

pytestmark = pytest.mark.timeout(900)

UNFINISHED = {
    "prepare": (".sequences.*/*",),
    "encode": ("features/.*",),
    "teach": ("teacher/.*",),
    "distill": (".examples.*",),
    "train": ("student.checkpoints/*/*/*",),
    "evaluate": (".evaluation.*",),
    "export": ("serving_model/.*", "serving_model/*/.*"),
    "report": (".report.*",),
}
"""What exists, below the working directory, while a stage writes."""


def kill_while_writing(kdsr, stage, workdir, arguments):
    process = kdsr.start(stage, *arguments, start_new_session=True)
    patterns = [os.path.join(workdir, pattern) for pattern in UNFINISHED[stage]]
    deadline = time.monotonic() + 120
    while not any(glob.glob(pattern) for pattern in patterns):
        assert process.poll() is None, f"{stage} ended before it could be killed"
        assert time.monotonic() < deadline, f"{stage} has written nothing"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def content(directory):
    """Bytes of every file below a directory but its manifest, by relative path."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if name != artifacts.MANIFEST:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, directory)] = file.read()
    return found


@pytest.mark.slow
def test_killed_stages_are_refused_and_end_as_if_never_killed(kdsr, demo):
    whole = kdsr.folder / "work" / "demo"
    killed = kdsr.folder / "work" / "killed"
    arguments = ("--config", str(whole / "config.yaml"), "--workdir", str(killed))
    config = load_config(str(whole / "config.yaml"), workdir=str(killed))
    for stage in stages.STAGES:
        names = [a.name for a in stages.artifacts_of(config) if a.stage == stage]
        kill_while_writing(kdsr, stage, str(killed), arguments)
        assert None in [artifacts.find_manifest(stages.location(config, name)) for name in names]
        for reader in [a.stage for a in stages.artifacts_of(config) if {*names} & {*a.inputs}][:1]:
            refused = kdsr(reader, *arguments)
            assert refused.returncode == 2 and f"Run `kdsr {stage}` first" in refused.stderr
        done = kdsr(stage, *arguments)
        assert done.returncode == 0, done.stderr
        for name in names:
            artifacts.read_manifest(stages.location(config, name), written_by=stage)
    for name in ("sequences", "features", "teacher", "examples"):
        assert content(killed / name) == content(whole / name), name
    ours, theirs = (
        (folder / "evaluation" / "metrics.json").read_bytes() for folder in (killed, whole)
    )
    assert ours == theirs
    left = [name for name in os.listdir(killed) if name.startswith(".") and name != ".lock"]
    assert left == [] and content(killed / "student.checkpoints") == {}
