"""Builds the models of the export and serving tests; run in a process of its own.

    python tests/export/build_models.py FOLDER

Every model has a linear encoder whose answers NumPy computes exactly (`oracle.py`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys

import numpy as np

from kdsr_tf.export import deployment
from kdsr_tf.export.index_parameters import choose_parameters
from kdsr_tf.export.indexes import Index, exact_index, scann_index, tuned_scann_index
from kdsr_tf.export.signatures import ServingModule
from tests.export import oracle

# isort: split
import tensorflow as tf


class LinearStudent(tf.Module):
    """Scores of about 1e7: a sum of the history's rows, the last ones weigh most."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.table = tf.Variable(table)
        self.weights = tf.constant(oracle.WEIGHTS)

    def user_vectors(self, items: tf.Tensor) -> tf.Tensor:
        mask = tf.cast(items != 0, tf.float32) * self.weights[: tf.shape(items)[1]]
        return tf.einsum("bl,bld->bd", mask, tf.gather(self.table, items))


class SubtractingModule(ServingModule):
    """Excludes as `query_with_exclusions` of TFRS does: by subtracting 1e5."""

    def _search(self, index, queries, usable, excluded, otherwise):
        similarity = index.scores(queries)
        scores = tf.where(usable[:, tf.newaxis], similarity, otherwise)
        seen = tf.reduce_any(excluded[:, :, tf.newaxis] == tf.range(1, self.num_items + 1), axis=1)
        best, place = tf.math.top_k(scores - 1e5 * tf.cast(seen, tf.float32), k=self.k)
        return best, place + 1


def save(
    folder: str,
    table: np.ndarray,
    index: Index | None = None,
    module: type[ServingModule] = ServingModule,
) -> None:
    """Save a version; `exact` where no index is given."""
    encoder_table = table.copy()
    encoder_table[oracle.ITEM_IDS.index(oracle.POISON) + 1] = np.nan
    unit = oracle.unit_rows(table[1:])
    similar = exact_index(unit, oracle.K + 1)
    if index is not None:
        parameters = choose_parameters(len(unit), oracle.K + 1, num_reordering_candidates=300)
        similar = scann_index(unit, oracle.K + 1, parameters)
    built = module(
        LinearStudent(encoder_table),
        index or exact_index(table[1:], oracle.RETRIEVE),
        similar,
        item_ids=oracle.ITEM_IDS,
        train_counts=oracle.train_counts(),
        k=oracle.K,
        max_length=oracle.MAX_LENGTH,
    )
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(built, folder, signatures=built.signatures(), options=options)
    deployment.write_warm_up(folder, oracle.MODEL, [["item007", "item008"], ["item009"]])
    with open(os.path.join(folder, "manifest.json"), "w", encoding="utf-8") as file:
        file.write("{}")


def tune(path: str, num_leaves: int | None) -> None:
    """Parameters and recall of an index whose first parameters are not enough."""
    vectors = np.random.default_rng(4).normal(size=(5_000, 64)).astype(np.float32)
    queries, depths = vectors[:50], np.full(50, 20)
    index, parameters, recall = tuned_scann_index(vectors, queries, depths, 20, 0.995, num_leaves)
    _, items = index.search(tf.constant(queries))
    with open(path, "w", encoding="utf-8") as file:
        found = {"recall": recall, "first": items[:, 0].numpy().tolist()}
        json.dump(dataclasses.asdict(parameters) | found, file)


def search_one_leaf(path: str) -> None:
    """Answers of a tree whose leaves hold fewer items than are asked for."""
    vectors = oracle.table()[1:]
    parameters = choose_parameters(len(vectors), 200, num_leaves=8, num_leaves_to_search=1)
    scores, items = scann_index(vectors, 200, parameters).search(tf.constant(vectors[:5]))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"scores": scores.numpy().tolist(), "items": items.numpy().tolist()}, file)


def main(root: str) -> None:
    tune(f"{root}/tuned_flat.json", num_leaves=None)
    tune(f"{root}/tuned_tree.json", num_leaves=70)
    search_one_leaf(f"{root}/one_leaf.json")
    table, other = oracle.table(), oracle.table(seed=1)
    # Everything is searched and scored exactly: the answers are those of the oracle for any
    # history, however the tree was trained.
    parameters = choose_parameters(oracle.NUM_ITEMS, oracle.RETRIEVE, 8, 8, oracle.NUM_ITEMS)
    tree = scann_index(table[1:], oracle.RETRIEVE, parameters)
    save(f"{root}/good/scann", table, tree)
    save(f"{root}/good/exact", table)
    save(f"{root}/next/exact", other)
    shuffled = np.random.default_rng(0).permutation(table[1:])
    wrong = scann_index(shuffled, oracle.RETRIEVE, parameters)
    save(f"{root}/shuffled_index/scann", table, wrong)
    save(f"{root}/subtracted/exact", table, module=SubtractingModule)
    shutil.copytree(f"{root}/good/exact", f"{root}/shuffled_index/exact")


if __name__ == "__main__":
    main(sys.argv[1])
