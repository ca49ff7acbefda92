"""Exports a working directory several times; run in a process of its own.

    python tests/export/export_versions.py WORKDIR OVERRIDE...

The working directory ends with its first version; later ones go to a copy. Prints the
outcomes as one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile

import numpy as np

from kdsr_tf.config import load_config
from kdsr_tf.export import gate
from kdsr_tf.export.publish import export


def main(workdir: str, overrides: list[str]) -> dict:
    outcomes = {}

    def run(folder: str, *more: str) -> dict:
        return dataclasses.asdict(
            export(load_config(overrides=[*overrides, *more], workdir=folder))
        )

    outcomes["first"] = run(workdir)
    outcomes["again"] = run(workdir)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "work")
        shutil.copytree(workdir, copy)
        root = os.path.join(copy, "serving_model")
        for variant in gate.VARIANTS:
            shutil.copytree(os.path.join(root, variant, "1"), os.path.join(root, variant, "2"))
        os.makedirs(os.path.join(root, ".building-left-by-a-killed-export"))
        outcomes["changed"] = run(copy, "export.k=5")
        outcomes["listing"] = {
            variant: sorted(os.listdir(os.path.join(root, variant))) for variant in gate.VARIANTS
        }
        outcomes["leftovers"] = [name for name in os.listdir(root) if name.startswith(".")]
        path = os.path.join(copy, "student", "student.keras")
        import keras  # loads TensorFlow, which the export package must do first

        student = keras.saving.load_model(path)
        table = np.array(student.tables.id_table)
        table[7] = np.nan
        student.tables.id_table.assign(table)
        student.save(path)
        try:
            run(copy, "export.k=6")
        except gate.GateError as error:
            outcomes["refused"] = f"{type(error).__name__}: {error}"
        outcomes["after_refusal"] = sorted(os.listdir(os.path.join(root, "exact")))
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2:])))
