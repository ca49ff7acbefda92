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

from kdsr_tf import schema, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config, load_config
from kdsr_tf.export.gate_sample import VARIANTS, GateError
from kdsr_tf.export.publish import export
from kdsr_tf.export.versions import rollback
from tests import factories

DENIED = ["item0001", "item0002", "new2"]
NEW = ["new1", "new2", "no-vector"]
HISTORY = ["item0001", "new1", "item0009"]


def ask(root: str, version: int, variants: tuple[str, ...] = VARIANTS) -> dict:
    """What a version says about denied and new items, by variant."""
    import scann  # noqa: F401  (registers the index's operations)
    import tensorflow as tf

    answers = {}
    for variant in variants:
        model = tf.saved_model.load(os.path.join(root, variant, str(version)))

        def items(name: str, key: str, value: list, model=model) -> list[str]:
            found = model.signatures[name](**{key: tf.constant(value)})[schema.ITEMS]
            return found.numpy().astype(str)[0].tolist()

        scores = model.signatures[schema.SIGNATURE_SCORE](
            history=tf.constant([HISTORY]), candidates=tf.constant([[*DENIED, *NEW]])
        )
        answers[variant] = {
            "recommend": items(schema.SIGNATURE_RECOMMEND, schema.HISTORY, [HISTORY]),
            "with_seen": items(schema.SIGNATURE_RECOMMEND_WITH_SEEN, schema.HISTORY, [HISTORY]),
            "popular": items(schema.SIGNATURE_RECOMMEND, schema.HISTORY, [[""]]),
            "similar_to_denied": items(schema.SIGNATURE_SIMILAR_ITEMS, schema.ITEM_ID, DENIED[:1]),
            "scored": np.isfinite(scores[schema.SCORES][0]).tolist(),
        }
    return answers


def bytes_of(root: str, variant: str, version: int) -> int:
    prefix = os.path.join(root, variant, str(version), "variables")
    return sum(os.path.getsize(os.path.join(prefix, name)) for name in os.listdir(prefix))


def main(workdir: str, overrides: list[str]) -> dict:
    outcomes = {}

    def configured(folder: str, *more: str) -> Config:
        return load_config(overrides=[*overrides, *more], workdir=folder)

    def run(folder: str, *more: str) -> dict:
        return dataclasses.asdict(export(configured(folder, *more)))

    outcomes["first"] = run(workdir)
    outcomes["again"] = run(workdir)
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "work")
        shutil.copytree(workdir, copy)
        root = os.path.join(copy, "serving_model")
        for variant in VARIANTS:
            shutil.copytree(os.path.join(root, variant, "1"), os.path.join(root, variant, "2"))
        os.makedirs(os.path.join(root, ".building-left-by-a-killed-export"))
        deny, new = os.path.join(folder, "deny.txt"), os.path.join(folder, "new.jsonl")
        with open(deny, "w", encoding="utf-8") as file:
            file.write("\n".join([*DENIED, "gone"]))
        changes = (
            "export.k=50",
            "export.exact_table=float16",
            f"export.deny_items={deny}",
            f"export.add_items={new}",
        )
        factories.write_new_items(configured(copy, *changes), NEW, without=1)
        outcomes["changed"] = run(copy, *changes)
        outcomes["listing"] = {
            variant: sorted(os.listdir(os.path.join(root, variant))) for variant in VARIANTS
        }
        outcomes["leftovers"] = [name for name in os.listdir(root) if name.startswith(".")]
        outcomes["answers"] = ask(root, 3)
        outcomes["bytes"] = {v: bytes_of(root, "exact", v) for v in (2, 3)}
        with open(os.path.join(root, "exact", "3", "model_card.md"), encoding="utf-8") as file:
            outcomes["card"] = file.read()
        returned: Manifest = rollback(root)
        outcomes["rolled_back"] = dataclasses.asdict(returned)
        outcomes["after_rollback"] = run(copy)
        outcomes["rolled_back_answers"] = ask(root, 4, ("exact",))
        path = os.path.join(stages.location(configured(copy), "student"), "student.keras")
        import keras  # loads TensorFlow, which the export package must do first

        student = keras.saving.load_model(path)
        rows = student.tables.modality_table("text")
        table = np.array(rows)
        table[7] = np.nan
        rows.assign(table)
        student.save(path)
        try:
            run(copy, "export.k=6")
        except GateError as error:
            outcomes["refused"] = f"{type(error).__name__}: {error}"
        outcomes["after_refusal"] = sorted(os.listdir(os.path.join(root, "exact")))
    return outcomes


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2:])))
