"""Both variants of a SavedModel, from what is exported."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from kdsr_tf.config import Config
from kdsr_tf.export import deployment
from kdsr_tf.export.exported import Exported
from kdsr_tf.export.index_parameters import IndexParameters
from kdsr_tf.export.indexes import Index, exact_index, tuned_scann_index
from kdsr_tf.export.signatures import ServingModule
from kdsr_tf.methods.folding import fold

_NUM_QUERIES = 256
_NUM_WARM_UP = 8


def save_variants(
    config: Config, build: str, exported: Exported, similar: np.ndarray, users: np.ndarray
) -> dict[str, Any]:
    """Save `exact` and `scann` below a local folder.

    Args:
        config: The configuration.
        build: The folder.
        exported: What is exported.
        similar: Unit vectors `(N, any)` behind `similar_items`.
        users: Vectors of the histories, float32 `(histories, dim)`: queries to tune with.

    Returns:
        What the manifest says of the indexes.
    """
    options, num_items = config.export, exported.num_allowed
    table = exported.vectors()[:num_items]
    similar, hidden_similar = np.split(similar, [num_items])
    retrieve = min(options.k + options.max_exclusions, num_items)
    retrieve_similar = min(options.k + 1, num_items)
    overrides: dict[str, Any] = {
        "num_leaves": options.num_leaves,
        "num_leaves_to_search": options.num_leaves_to_search,
        "num_reordering_candidates": options.num_reordering_candidates,
    }
    depths = np.array([options.k + len(np.unique(history)) for history in exported.histories])
    index, parameters, recall = tuned_scann_index(
        table, users, depths, retrieve, options.recall_floor, **overrides
    )
    neighbours = similar[:: max(1, num_items // _NUM_QUERIES)]
    similar_index, similar_parameters, similar_recall = tuned_scann_index(
        similar,
        neighbours,
        np.full(len(neighbours), retrieve_similar),
        retrieve_similar,
        options.recall_floor,
        **overrides,
        hidden=hidden_similar,
    )
    dtype = options.exact_table
    indexes = {
        "scann": (index, similar_index),
        "exact": (
            exact_index(table, retrieve, dtype),
            exact_index(similar, retrieve_similar, dtype, hidden_similar),
        ),
    }
    for variant, pair in indexes.items():
        _save(config, os.path.join(build, variant), exported, pair)
    return {
        "index": _index_details(parameters, recall),
        "similar_items_index": _index_details(similar_parameters, similar_recall),
    }


def _index_details(parameters: IndexParameters, recall: float) -> dict[str, Any]:
    return dataclasses.asdict(parameters) | {"recall_while_building": round(recall, 4)}


def _save(config: Config, folder: str, exported: Exported, indexes: tuple[Index, Index]) -> None:
    module = ServingModule(
        fold(exported.student),
        *indexes,
        item_ids=exported.item_ids,
        train_counts=exported.train_counts,
        k=config.export.k,
        max_length=config.windows.max_length,
    )
    tf.saved_model.save(
        module,
        folder,
        signatures=module.signatures(),
        options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
    )
    histories = exported.histories[:_NUM_WARM_UP]
    ids = [exported.item_ids[history - 1].tolist() for history in histories]
    deployment.write_warm_up(folder, config.serve.model_name, ids)
