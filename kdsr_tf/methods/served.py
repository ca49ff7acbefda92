"""Trained recommenders as they are evaluated, exported and served."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from kdsr_tf import artifacts, schema, sequences, stages
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.items.content import Content
from kdsr_tf.methods import new_item_rows
from kdsr_tf.methods.feature_content import read_content
from kdsr_tf.methods.student_file import STUDENT_FILE, read_student
from kdsr_tf.models.recommender import Recommender


class Extended(NamedTuple):
    """A recommender that knows new items too."""

    recommender: Recommender  # Its items are those of the vocabulary and then the new ones
    new_ids: list[str]  # Ids of the new items
    details: dict[str, int]  # Counts for the manifest


def read_served(config: Config) -> Recommender:
    """The recommender of a working directory with the vectors of all its items."""
    trained = _read(config)
    if not trained.item_encoder.computed:
        return trained
    return trained.served(read_content(config))


def read_extended(config: Config) -> Extended:
    """The same, with the items of `new_items/`.

    Vectors that are computed are computed for new items as for all others; in tables they get
    rows by `new_item_rows`. Items without content in any modality are left out and reported.
    """
    trained, known = _read(config), sequences.count_items(stages.location(config, "sequences"))
    folder = stages.location(config, stages.NEW_ITEMS)
    manifest = artifacts.read_manifest(folder, written_by="export")
    ids = sequences.read_items(folder, schema.ITEM_ID)[schema.ITEM_ID].to_pylist()
    encoded = [m for m in config.modalities if f"{m}_vectors" in manifest.counts]
    if trained.item_encoder.computed:
        content = read_content(config, num_new=len(ids))
        usable = cast(Content, content).any_present()[known + 1 :]
        rows = np.concatenate([np.arange(known + 1), known + 1 + np.flatnonzero(usable)])
        served = trained.served(content, rows)
    else:
        condensed = {m: new_item_rows.condense(config, m, known, len(ids)) for m in encoded}
        nowhere = np.zeros(len(ids), bool)
        usable = np.any([nowhere, *(part.new_present for part in condensed.values())], axis=0)
        condensed = {
            m: part._replace(new=part.new[usable], new_present=part.new_present[usable])
            for m, part in condensed.items()
        }
        tables, boost = trained.item_encoder, config.export.added_items_boost
        if usable.any():
            tables = new_item_rows.with_new_items(tables, condensed, boost)
        served = trained.with_items(tables)
    added = [item_id for item_id, kept in zip(ids, usable, strict=True) if kept]
    if len(ids) > len(added):
        console.print(
            f"Warning: {len(ids) - len(added):,} of {len(ids):,} new items have no vector in "
            "any modality and are left out.",
            style="yellow",
            markup=False,
        )
    details = {
        "items": len(added),
        "without_vectors": len(ids) - len(added),
        "known_already": manifest.counts["known"],
    }
    return Extended(served, added, details)


def _read(config: Config) -> Recommender:
    path = artifacts.join(stages.location(config, "student"), STUDENT_FILE)
    return read_student(path, config.model.backbone)
