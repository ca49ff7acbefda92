"""The vectors of items that arrived after training, for `kdsr export --add-items`.

Part of `encode` on a small catalogue of its own: the same encoders turn the texts and
pictures of items that the vocabulary does not have into vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.encode import EncodeItems, Width, earlier_files, run_job
from beam_pipelines.handlers.choose_encoder import choose_encoder
from beam_pipelines.handlers.hidden_states import States
from beam_pipelines.transforms.contents import Earlier
from beam_pipelines.transforms.declarations import declare
from kdsr_tf import sequences, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError, InputError, StaleArtifactError
from kdsr_tf.schema import ITEM, ITEM_ID, TITLE
from kdsr_tf.sequences import ITEMS_FILE
from kdsr_tf.sources import Source
from kdsr_tf.sources.batches import Rejected
from kdsr_tf.sources.catalogue_rows import as_text
from kdsr_tf.sources.export_files import open_new_items
from kdsr_tf.stage_frame import StageFrame


def encode_new_items(config: Config, beam_args: Sequence[str] = ()) -> Manifest:
    """Encode the items of `export.add_items` that the vocabulary does not have.

    Args:
        config: The configuration; `export.add_items` is set.
        beam_args: Beam options.

    Returns:
        The manifest of `new_items/`, written now or before. Counts: `items` new ones,
        `known` ones that the student has learnt, `rejected` rows, and per modality
        the vectors.

    Raises:
        ConfigError: if no modality has an encoder.
        InputError: if the file cannot be read, or no modality has a column in it.
        StaleArtifactError: if an encoder is not the one that encoded the catalogue.
    """
    if not config.modalities:
        raise ConfigError(
            "`export.add_items` places new items by their texts or pictures, and no modality has "
            "an encoder. Set encode.text or encode.image, or train with interactions of them."
        )
    source = open_new_items(config)
    encoders, problems = {}, []
    for modality in config.modalities:
        try:
            declared = declare(config, modality, source)
            encoders[modality] = declared, choose_encoder(config, modality, source)
        except InputError as error:  # the file has no column of this modality
            problems.append(f"{modality}: {error}")
    if not encoders:
        raise InputError(
            f"`export.add_items`: {config.export.add_items} has nothing that an encoder of this "
            "configuration reads. One modality is enough.\n" + "\n".join(problems)
        )
    external = {stages.ADD_ITEMS: source.fingerprint()}
    with StageFrame(config, stages.NEW_ITEMS, external) as frame:
        described = {}
        for modality, (_, encoder) in encoders.items():
            described[modality] = {"name": encoder.name, "digest": encoder.digest()}
            _check_same(modality, described[modality], frame.inputs[f"features/{modality}"])
        if frame.current is not None:
            return frame.current
        target = frame.new_folder()
        kept: dict[str, dict[str, Any]] = {}
        counts = _write_vocabulary(config, source, frame.inputs["sequences"], target)
        for modality, (declared, encoder) in encoders.items():
            folder = join(target, modality)
            fsspec.core.url_to_fs(folder)[0].makedirs(folder, exist_ok=True)
            # The rows are as wide as those of the catalogue, whose encoder is the same.
            details = frame.inputs[f"features/{modality}"].details
            states = States(**details["states"]) if "states" in details else None
            job = EncodeItems(
                join(target, ITEMS_FILE),
                declared,
                encoder,
                Width(details["size"], states),
                max(counts["items"], 1),
                folder,
                previous=_reusable(frame, modality, described[modality], states),
            )
            title = f"encode new items: {modality}"
            counted = run_job(job, beam_args, title, counts["items"])
            counts[f"{modality}_vectors"] = counted.get("encoded", 0)
            if states is not None:
                kept[modality] = states.described()
        frame.manifest.counts = counts
        frame.manifest.details = {"encoders": described} | ({"states": kept} if kept else {})
    return frame.manifest


def _reusable(
    frame: StageFrame, modality: str, described: dict[str, str], states: States | None
) -> list[Earlier]:
    """Committed files of the same encoder."""
    found = frame.committed
    if found is None or found.details.get("encoders", {}).get(modality) != described:
        return []
    had = found.details.get("states", {}).get(modality)
    return earlier_files(join(frame.location, modality), had, states)


def _write_vocabulary(
    config: Config, source: Source, vocabulary: Manifest, target: str
) -> dict[str, int]:
    """Number the new items after the known ones, in the order of their file."""
    folder = stages.location(config, "sequences")
    known = set(sequences.read_items(folder, ITEM_ID)[ITEM_ID].to_pylist())
    new: dict[str, str] = {}
    counts = {"items": 0, "known": 0, "rejected": 0}
    for row in source.read_items():
        if isinstance(row, Rejected):
            counts["rejected"] += 1
        elif row.item_id in known:
            counts["known"] += 1
        else:
            title = as_text(row.values.get(source.title_column)) or row.item_id
            new.setdefault(row.item_id, title)
    counts["items"] = len(new)
    first = vocabulary.counts["items"] + 1
    columns = {
        ITEM: pa.array(range(first, first + len(new)), pa.int32()),
        ITEM_ID: pa.array(list(new), pa.string()),
        TITLE: pa.array(list(new.values()), pa.string()),
    }
    with fsspec.open(join(target, ITEMS_FILE), "wb") as file:
        pq.write_table(pa.table(columns), file)
    return counts


def _check_same(modality: str, described: dict[str, str], features: Manifest) -> None:
    before = features.details["encoder"]
    if before != described:
        raise StaleArtifactError(
            f"`export --add-items` cannot combine the new items with features/{modality}: those "
            f"were encoded by {before['name']} {before['digest']}, and the new ones would be by "
            f"{described['name']} {described['digest']}. Give the same encoder, and vectors of "
            "the same length."
        )
