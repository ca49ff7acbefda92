"""The `encode` job: one vector per item and modality, from frozen encoders.

    python -m beam_pipelines.encode --config FILE -- --runner=DataflowRunner ...

Equal contents are encoded once. An item with several pictures gets the mean of
their vectors. Contents are grouped by a hash of their content into
groups whose number comes from the size of the catalogue, so that every batch an
encoder sees is the same whatever the number of workers. A bad element never
reaches the encoder. Vectors of an earlier run of the same encoder are used again
for contents that have not changed. Where `encode.<modality>.states` asks for them,
states of the encoder's layers are written beside the vectors, from the same calls.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from beam_pipelines.handlers.choose_encoder import choose_encoder
from beam_pipelines.handlers.encoder import Encoder, ImageEncoder, Unusable
from beam_pipelines.handlers.hidden_states import States
from beam_pipelines.handlers.kept_pictures import keeping_pictures
from beam_pipelines.running import advance, main_of, run_pipeline
from beam_pipelines.transforms.contents import CONTENT, Earlier, GroupContents, Key, Known
from beam_pipelines.transforms.declarations import Declare, declare
from beam_pipelines.transforms.encoded_items import (
    PICTURE_STATES,
    PICTURES,
    VECTORS,
    WriteItems,
)
from beam_pipelines.transforms.rejected import DEAD_LETTERS
from beam_pipelines.transforms.shards import default_num_shards
from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.console import console
from kdsr_tf.errors import InputError
from kdsr_tf.schema import STATES
from kdsr_tf.sequences import ITEMS_FILE
from kdsr_tf.sources import Source, open_source
from kdsr_tf.stage_frame import StageFrame

_ITEMS_PER_SHARD = 100_000
_CONSTANT = (
    "level 0 of the class token is the same for every {modality}: it has read nothing yet. "
    "encode.{modality}.states.pooling=mean tells items apart."
)
_COUNTS = ("encoded", "without", "rejected", "rejected_pictures", "duplicates", "reused")


def encode(config: Config, beam_args: Sequence[str] = ()) -> list[Manifest]:
    """Encode every modality that has an encoder and is not up to date.

    Args:
        config: The configuration.
        beam_args: Beam options, such as `("--runner=DataflowRunner",)`.

    Returns:
        The manifest of each `features/<modality>/`, written now or before.
        Counts: `items` = `encoded` + `without` + `rejected`. `rejected_pictures` are
        those of encoded items that have others. Of the contents (an item has one
        text and any number of pictures) `duplicates` equal another one, and
        `reused` kept an earlier vector.

    Raises:
        ConfigError: for a missing preset or weights file, or a bad template.
        InputError: for a missing column, if too many contents are rejected, or if no
            item has any.
    """
    source = open_source(config.source)
    fingerprint = source.fingerprint()
    return [
        _encode(config, modality, source, fingerprint, beam_args) for modality in config.modalities
    ]


def _encode(
    config: Config, modality: str, source: Source, fingerprint: str, beam_args: Sequence[str]
) -> Manifest:
    declared = declare(config, modality, source)
    encoder = choose_encoder(config, modality, source)
    external = {stages.SOURCE: fingerprint, stages.encoder_input(modality): encoder.identity()}
    with StageFrame(config, f"features/{modality}", external) as frame:
        manifest, current = frame.manifest, frame.current
        described = {"name": encoder.name, "digest": encoder.digest()}
        if current is not None and current.details.get("encoder") == described:
            return current
        # Built here too: an encoder that cannot be built fails before the job starts.
        model = encoder.load_model()
        size, states = encoder.size(model), encoder.states(model)
        num_items = frame.inputs["sequences"].counts["items"]
        target = frame.new_folder()
        job = EncodeItems(
            join(stages.location(config, "sequences"), ITEMS_FILE),
            declared,
            encoder,
            Width(size, states),
            num_items,
            target,
            previous=_reusable(frame, described, states),
        )
        counts = run_job(job, beam_args, f"encode {modality}", num_items)
        manifest.counts = {"items": num_items} | {key: counts.get(key, 0) for key in _COUNTS}
        manifest.details = {"encoder": described, "size": size}
        if states is not None:
            manifest.details["states"] = states.described()
            if states.pooling == "cls" and 0 in states.layers:
                said = _CONSTANT.format(modality=modality)
                console.print(f"Warning: {said}", style="yellow", markup=False)
        _check(config, modality, source, declared, manifest, target)
    return manifest


def _reusable(
    frame: StageFrame, described: Mapping[str, str], states: States | None
) -> list[Earlier]:
    """Committed files of the same encoder."""
    found = frame.committed
    if found is None or found.details.get("encoder") != described:
        return []
    return earlier_files(frame.location, found.details.get("states"), states)


def run_job(job: EncodeItems, beam_args: Sequence[str], title: str, total: int) -> dict[str, int]:
    """Run `EncodeItems` to its end; returns Beam's counts.

    Args:
        job: What to run.
        beam_args: Beam options.
        title: For the progress.
        total: Items.
    """
    with keeping_pictures() as kept, _without_memory_warnings():
        if isinstance(job.encoder, ImageEncoder):
            job.encoder.kept = kept
        return run_pipeline(lambda pipeline: pipeline | job, beam_args, title=title, total=total)


class Width(NamedTuple):
    """What an encoder's rows hold.

    Args:
        size: Length of a vector.
        states: States beside it, or None.
    """

    size: int
    states: States | None = None


class EncodeItems(beam.PTransform):
    """From a vocabulary and a catalogue to files of vectors, of states and of dead letters.

    Args:
        vocabulary: Path of `items.parquet`.
        declare: Row of the catalogue to what it declares.
        encoder: Any `Encoder`.
        width: What its rows hold.
        num_items: Items of the vocabulary; decides the number of groups and files.
        directory: Existing local folder or URI that receives the files.
        previous: Files of the same encoder, with the same states, to be used again.
    """

    def __init__(
        self,
        vocabulary: str,
        declare: Declare,
        encoder: Encoder,
        width: Width,
        num_items: int,
        directory: str,
        previous: Iterable[Earlier] = (),
    ):
        super().__init__()
        self._groups = GroupContents(
            vocabulary,
            declare,
            encoder,
            default_num_shards(num_items, encoder.group_size),
            list(previous),
        )
        self.encoder = encoder
        num_shards = default_num_shards(num_items, _ITEMS_PER_SHARD)
        self._items = WriteItems(directory, encoder, width.size, width.states, num_shards)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Contents" >> self._groups
            | "Encode" >> RunInference(ContentsHandler(self.encoder).with_no_batching())
            | "Items" >> self._items
        )


class ContentsHandler(KeyedModelHandler):
    """Lets an encoder turn `(Key, content)` into `(Key, vector or Unusable)`; tells of progress.

    What is `Known` already passes by the encoder.
    """

    def run_inference(
        self, batch: Sequence[tuple[Key, Any]], model: Any, inference_args: Any = None
    ) -> Iterator[tuple[Key, np.ndarray | Unusable]]:
        contents = [element for element in batch if not isinstance(element[1], Known)]
        found = iter(super().run_inference(contents, model, inference_args) if contents else ())
        for key, content in batch:
            yield (key, content.found) if isinstance(content, Known) else next(found)
        advance(sum(owner.part == 0 for key, _ in batch for owner in key.owners))


@contextlib.contextmanager
def _without_memory_warnings() -> Iterator[None]:
    """Hide a warning of Beam that its memory metrics need a package of no use here."""

    def keep(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Resource module is not available")

    logger = logging.getLogger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def earlier_files(
    location: str, found: Mapping[str, Any] | None, states: States | None
) -> list[Earlier]:
    """Files of a directory that know their contents, unless they lack the states wanted now.

    Args:
        location: Local path or URI of the directory, written by the same encoder.
        found: What its manifest says of its states, or None.
        states: States that are wanted now, or None.
    """
    if states is not None and found != states.described():
        return []
    earlier: list[Earlier] = []
    for stem, beside in ((VECTORS, STATES), (PICTURES, PICTURE_STATES)):
        paths = artifacts.find_files(location, f"{stem}-*.parquet")
        others = artifacts.find_files(location, f"{beside}-*.parquet")
        earlier += map(Earlier, paths, others if states is not None else [None] * len(paths))
    return [files for files in earlier if CONTENT in _column_names(files.vectors)]


def _column_names(path: str) -> list[str]:
    with fsspec.open(path, "rb") as file:
        return pq.read_schema(file).names


def _check(
    config: Config,
    modality: str,
    source: Source,
    declared: Declare,
    manifest: Manifest,
    directory: str,
) -> None:
    """Refuse a run that rejected too much or encoded nothing."""
    limit = config.encode.max_rejected_fraction
    counts = manifest.counts
    num_declared = counts["items"] - counts["without"]
    if counts["rejected"] > limit * num_declared:
        rows: list[dict[str, str]] = []
        for path in artifacts.find_files(directory, f"{DEAD_LETTERS}-*.parquet"):
            with fsspec.open(path, "rb") as file:
                rows.extend(pq.read_table(file).to_pylist())
        reasons = collections.Counter(row["reason"] for row in rows)
        reason, count = max(reasons.items(), key=lambda item: (item[1], item[0]))
        first = next(row["where"] for row in rows if row["reason"] == reason)
        raise InputError(
            f"{modality}: {counts['rejected']:,} of {num_declared:,} items were rejected, more "
            f"than the share encode.max_rejected_fraction={limit} allows. Most frequent reason: "
            f"{reason} ({count:,} dead letters, first: {first}). "
            "Correct the catalogue or raise encode.max_rejected_fraction."
        )
    if not num_declared:
        raise InputError(
            f"No item of {source.items} has {declared.wanted}. "
            f"Columns found: {', '.join(source.item_columns)}. "
            f"Name other columns, or do without it: --set encode.{modality}=null."
        )


if __name__ == "__main__":
    main_of("encode")
