"""From a trained student to numbered SavedModel versions that a server may load."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from typing import Any

import numpy as np
import tensorflow as tf

from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.console import progress
from kdsr_tf.export import deployment, gate
from kdsr_tf.export.exported import Exported, read_exported, reference_student, similarity_vectors
from kdsr_tf.export.gate_checks import Check
from kdsr_tf.export.gate_sample import check_finite, make_limits, make_sample
from kdsr_tf.export.index_parameters import IndexParameters
from kdsr_tf.export.indexes import Index, exact_index, tuned_scann_index
from kdsr_tf.export.model_card import model_card
from kdsr_tf.export.signatures import ServingModule
from kdsr_tf.export.versions import new_build_folder, next_version, prune, publish
from kdsr_tf.methods.folding import fold
from kdsr_tf.sources import export_files
from kdsr_tf.stage_frame import StageFrame

CONFIGURATION = "tf_serving"
_NUM_QUERIES = 256
_NUM_WARM_UP = 8


def export(config: Config) -> Manifest:
    """Export, judge and publish the student as a new version of both variants.

    `serving_model/exact/<version>` and `serving_model/scann/<version>` appear whole or
    not at all, and only after the gate has passed them; `serving_model/manifest.json`
    follows last. Old versions are dropped once the new one is complete.

    Returns:
        The manifest of `serving_model/`; that of the published version where nothing it
        depends on has changed.

    Raises:
        GateError: if a check fails; nothing is published.
        KDSRError: if an input is missing or does not belong to the others.
    """
    started = time.monotonic()
    # Every index is a new function once; TensorFlow takes that for a loop that retraces.
    tf.get_logger().setLevel("ERROR")
    frame = StageFrame(config, "serving_model", export_files.fingerprints(config))
    if frame.current is not None:
        return frame.current
    manifest, root = frame.manifest, frame.location
    build = new_build_folder(root)
    try:
        with progress("export", total=4) as bar:
            exported = read_exported(config, build)
            # No sampled history need hold the item whose row is broken.
            check_finite(exported.student.named_weights())
            similar = similarity_vectors(exported.student, config.export.similar_items_space)
            sample = make_sample(
                reference_student(config, exported, similar),
                exported.histories,
                exported.points,
                make_limits(config.export.recall_floor, config.export.exact_table),
            )
            bar.advance()
            users = np.array(sample.vectors, np.float32)
            details = save_variants(config, build, exported, similar, users)
            bar.advance()
            checks = gate.run(build, sample)
            bar.advance()
            version = next_version(root)
            manifest.counts = {
                "items": len(exported.item_ids),
                "allowed_items": exported.num_allowed,
                "version": version,
                "k": config.export.k,
                "checks": len(checks),
            }
            values = {check.name: check.value for check in checks if check.value is not None}
            manifest.details = exported.details | details | values
            manifest.seconds = round(time.monotonic() - started, 3)
            manifest.versions = artifacts.versions()
            card = _card(config, manifest, frame.inputs, checks)
            files = deployment.configuration_files(
                config.serve.model_name, sampling_rate=config.export.request_log_rate
            )
            for name, text in files.items():
                artifacts.write_text(artifacts.join(root, CONFIGURATION, name), text)
            published = publish(root, build, version, manifest, card)
            bar.advance()
        prune(root, config.export.keep_versions)
    finally:
        shutil.rmtree(build, ignore_errors=True)
    return published


def _card(
    config: Config, manifest: Manifest, inputs: dict[str, Manifest], checks: list[Check]
) -> Any:
    evaluation = artifacts.find_manifest(stages.location(config, "evaluation"))
    if evaluation and evaluation.inputs.get("student") != inputs["student"].fingerprint:
        evaluation = None

    def card(variant: str) -> str:
        return model_card(
            model_name=config.serve.model_name,
            variant=variant,
            manifest=manifest,
            inputs=inputs,
            evaluation=evaluation,
            gate=[f"{check.name}: {check.detail or 'yes'}" for check in checks],
        )

    return card


def save_variants(
    config: Config, build: str, exported: Exported, similar: np.ndarray, users: np.ndarray
) -> dict[str, Any]:
    """Save `exact` and `scann` below a local folder; returns what the manifest says of the indexes.

    `similar` are the unit vectors `(N, any)` behind `similar_items`; `users` are those of the
    histories, float32 `(histories, dim)`: queries to tune with.
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
