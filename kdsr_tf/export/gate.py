"""The gate: what a SavedModel must show before it may appear as a version.

Both variants are loaded in a fresh process, as a server loads them, and asked real
histories and awkward ones (`gate_sample`); every answer is compared with the Keras
student's (`gate_checks`). Run as a module it judges a folder:
`python -m kdsr_tf.export.gate FOLDER`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading

from kdsr_tf import light_imports

if __name__ == "__main__":
    light_imports.install()

import tensorflow as tf

from kdsr_tf.export.gate_checks import Check, check_answers, check_files
from kdsr_tf.export.gate_sample import VARIANTS, GateError, Sample

SAMPLE = "sample.json"
RESULTS = "results.json"


def judge(folder: str, sample: Sample) -> list[Check]:
    """Every check, passed or not, of the SavedModels `folder/exact` and `folder/scann`."""
    import scann  # noqa: F401  (registers the operations of the index)

    checks = []
    for variant in VARIANTS:
        path = os.path.join(folder, variant)
        checks += check_files(variant, path)
        # TensorFlow takes the path of the variables for a pattern, in which `[1]` is no text: the
        # model is loaded from within its folder. It is kept: its signatures die with it.
        with contextlib.chdir(path):
            model = tf.saved_model.load(".")
        checks += check_answers(variant, model.signatures, sample)
    return checks


def run(folder: str, sample: Sample) -> list[Check]:
    """Judge a folder in a fresh process; it receives two JSON files.

    Returns:
        The checks, all passed.

    Raises:
        GateError: naming every check that failed.
    """
    with open(os.path.join(folder, SAMPLE), "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(sample), file)
    command = [sys.executable, "-m", "kdsr_tf.export.gate", folder]
    # Nothing is ever written: the pipe ends with this process, and the other with the pipe.
    listening, held = os.pipe()
    with open(listening), open(held, "w"):
        done = subprocess.run(command, stdin=listening, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GateError(
            f"The exported model could not be loaded and asked in a fresh process "
            f"(exit status {done.returncode}). Nothing was published. Its last words:\n"
            f"{done.stderr[-2000:]}"
        )
    with open(os.path.join(folder, RESULTS), encoding="utf-8") as file:
        checks = [Check(**check) for check in json.load(file)]
    failed = [f"  {check.name}: {check.detail}" for check in checks if not check.passed]
    if failed:
        raise GateError(
            f"The exported model failed {len(failed)} of {len(checks)} checks. Nothing was "
            "published.\n" + "\n".join(failed) + "\nA recall below its floor: raise "
            "`export.num_reordering_candidates` (with a tree `export.num_leaves_to_search`) or "
            "lower `export.recall_floor`. NaN or wrong scores: train and export again."
        )
    return checks


def main(folder: str) -> None:
    """Judge a folder in this process and write the results beside the sample."""
    with open(os.path.join(folder, SAMPLE), encoding="utf-8") as file:
        sample = Sample.from_json(json.load(file))
    checks = judge(folder, sample)
    with open(os.path.join(folder, RESULTS), "w", encoding="utf-8") as file:
        json.dump([dataclasses.asdict(check) for check in checks], file)


def _end_with_parent() -> None:
    """End this process when the exporter has ended, even by kill -9."""
    # Not `sys.stdin.read`: its lock, held by a thread, can abort Python's own exit.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(sys.argv[1])
