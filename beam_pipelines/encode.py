"""The `encode` job: one vector per item and modality, from frozen encoders.

    python -m beam_pipelines.encode --config FILE -- --runner=DataflowRunner ...

Equal contents are encoded once. An item with several pictures gets the mean of
their vectors. Contents are grouped by a hash of their content into
groups whose number comes from the size of the catalogue, so that every batch an
encoder sees is the same whatever the number of workers. A bad element is set
aside before its group reaches the encoder. Vectors of an earlier run of the same
encoder are used again for contents that have not changed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from beam_pipelines.handlers.choose import choose_encoder
from beam_pipelines.handlers.encoder import Encoder, ImageEncoder, Unusable
from beam_pipelines.running import (
    job_arguments,
    run_as_program,
    run_pipeline,
)
from beam_pipelines.transforms.contents import (
    BATCHES,
    CONTENT,
    REUSED,
    UNUSABLE,
    Declare,
    GroupContents,
    Key,
    declare,
)
from beam_pipelines.transforms.encoded_items import PICTURES, REJECTED, ROWS, JoinItems
from beam_pipelines.transforms.rejected import WriteRejected
from beam_pipelines.transforms.shards import WriteShards, default_num_shards, write_table
from kdsr_tf import artifacts, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from kdsr_tf.schema import ITEM, VECTOR
from kdsr_tf.sequences import ITEMS_FILE
from kdsr_tf.sources import Source, open_source

VECTORS = "vectors"

_ITEMS_PER_SHARD = 100_000
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
    name = f"features/{modality}"
    inputs = stages.read_inputs(config, name)
    location = stages.location(config, name)
    found = artifacts.find_manifest(location)
    num_items = inputs["sequences"].counts["items"]
    declared = declare(config, modality, source)
    encoder = choose_encoder(config, modality, source)
    external = {stages.SOURCE: fingerprint, stages.encoder_input(modality): encoder.identity()}
    manifest = stages.new_manifest(config, name, inputs, external)
    described = {"name": encoder.name, "digest": encoder.digest()}
    same_encoder = found is not None and found.details.get("encoder") == described
    if same_encoder and found.fingerprint == manifest.fingerprint:
        return found
    # Built here too: an encoder that cannot be built fails before the job starts.
    size = encoder.size(encoder.load_model())
    with artifacts.committing(location, manifest) as target:
        job = EncodeItems(
            join(stages.location(config, "sequences"), ITEMS_FILE),
            declared,
            encoder,
            size,
            num_items,
            target,
            previous=vector_files(location) if same_encoder else [],
        )
        counts = run_job(job, beam_args, f"encode {modality}", num_items)
        manifest.counts = {"items": num_items} | {key: counts.get(key, 0) for key in _COUNTS}
        manifest.details = {"encoder": described, "size": size}
        _check(config, modality, source, declared, manifest, target)
    return manifest


def run_job(job: EncodeItems, beam_args: Sequence[str], title: str, total: int) -> dict[str, int]:
    """Run `EncodeItems` to its end; returns Beam's counts.

    Args:
        job: What to run.
        beam_args: Beam options.
        title: For the progress.
        total: Items.
    """
    with _without_memory_warnings():
        return run_pipeline(lambda pipeline: pipeline | job, beam_args, title=title, total=total)


class EncodeItems(beam.PTransform):
    """From a vocabulary and a catalogue to files of vectors and dead letters.

    Args:
        vocabulary: Path of `items.parquet`.
        declare: Row of the catalogue to what it declares.
        encoder: Any `Encoder`.
        size: Length of its vectors.
        num_items: Items of the vocabulary; decides the number of groups and files.
        directory: Existing local folder or URI that receives the files.
        previous: Files of vectors of the same encoder, to be used again.
    """

    def __init__(
        self,
        vocabulary: str,
        declare: Declare,
        encoder: Encoder,
        size: int,
        num_items: int,
        directory: str,
        previous: Iterable[str] = (),
    ):
        super().__init__()
        self._previous = list(previous)
        self._groups = GroupContents(
            vocabulary,
            declare,
            encoder,
            default_num_shards(num_items, encoder.group_size),
            self._previous,
        )
        self._encoder = encoder
        self._size = size
        self._num_shards = default_num_shards(num_items, _ITEMS_PER_SHARD)
        self._directory = directory

    def expand(self, pipeline: beam.Pipeline) -> None:
        groups = pipeline | "Contents" >> self._groups
        found = (
            groups[BATCHES]
            | "Encode" >> RunInference(KeyedModelHandler(self._encoder).with_no_batching())
            | "Set aside" >> beam.ParDo(_SetAside()).with_outputs(UNUSABLE, main=VECTORS)
        )
        encoded = found[VECTORS]
        if self._previous:
            encoded = (encoded, groups[REUSED]) | "All vectors" >> beam.Flatten()
        joined = {"encoded": encoded, "unread": groups[UNUSABLE], UNUSABLE: found[UNUSABLE]}
        items = joined | JoinItems(self._encoder, self._size)
        _ = items[ROWS] | "Write vectors" >> WriteShards(
            self._directory,
            "vectors",
            self._num_shards,
            key_fn=_item_as_text,
            sort_fn=_first,
            writer=VectorWriter(self._size),
        )
        if isinstance(self._encoder, ImageEncoder):
            _ = items[PICTURES] | "Write pictures" >> WriteShards(
                self._directory,
                "pictures",
                self._num_shards,
                key_fn=_first,
                sort_fn=_first,
                writer=PictureWriter(self._size),
            )
        _ = items[REJECTED] | "Dead letters" >> WriteRejected(self._directory)


@dataclasses.dataclass(frozen=True)
class VectorWriter:
    """Writes `(item, vector, content digest)` as a Parquet file.

    Args:
        size: Length of every vector.
    """

    size: int
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[tuple[int, np.ndarray, bytes]]) -> None:
        records = list(records)
        columns = {
            ITEM: pa.array([item for item, _, _ in records], pa.int32()),
            VECTOR: _column([vector for _, vector, _ in records], self.size),
            CONTENT: pa.array([digest for _, _, digest in records], pa.binary()),
        }
        write_table(path, pa.table(columns))


@dataclasses.dataclass(frozen=True)
class PictureWriter:
    """Writes `(content digest, vector)` of each picture of items with several.

    Args:
        size: Length of every vector.
    """

    size: int
    suffix = ".parquet"

    def __call__(self, path: str, records: Iterable[tuple[bytes, np.ndarray]]) -> None:
        records = list(records)
        columns = {
            CONTENT: pa.array([digest for digest, _ in records], pa.binary()),
            VECTOR: _column([vector for _, vector in records], self.size),
        }
        write_table(path, pa.table(columns))


class _SetAside(beam.DoFn):
    """Vectors pass; contents that could not be encoded leave with their reason."""

    def process(self, element: tuple[Key, np.ndarray | Unusable]) -> Iterator[Any]:
        key, found = element
        if not isinstance(found, Unusable):
            yield element
            return
        for owner in key.owners:
            yield beam.pvalue.TaggedOutput(UNUSABLE, (owner, str(found)))


def _column(vectors: list[np.ndarray], size: int) -> pa.Array:
    values = np.zeros((len(vectors), size), np.float32)
    for row, vector in enumerate(vectors):
        values[row] = vector
    return pa.FixedSizeListArray.from_arrays(values.ravel(), size)


def _first(record: tuple[Any, ...]) -> Any:
    return record[0]


def _item_as_text(row: tuple[int, np.ndarray, bytes]) -> str:
    return str(row[0])


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


def vector_files(location: str) -> list[str]:
    """Files of vectors of a committed directory that know their contents."""
    stems = ("vectors", "pictures")
    paths = [path for stem in stems for path in artifacts.find_files(location, f"{stem}-*.parquet")]
    return [path for path in paths if CONTENT in _column_names(path)]


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
        for path in artifacts.find_files(directory, "rejected-*.parquet"):
            with fsspec.open(path, "rb") as file:
                rows.extend(pq.read_table(file).to_pylist())
        reasons = collections.Counter(row["reason"] for row in rows)
        reason, count = max(reasons.items(), key=lambda item: (item[1], item[0]))
        first = next(row["where"] for row in rows if row["reason"] == reason)
        raise InputError(
            f"{modality}: {counts['rejected']:,} of {num_declared:,} items were rejected, more "
            f"than the share encode.max_rejected_fraction={limit} allows. Most frequent reason: "
            f"{reason} ({count:,} dead letters, first: {first}). "
            "Mend the catalogue or raise encode.max_rejected_fraction."
        )
    if not num_declared:
        raise InputError(
            f"No item of {source.items} has {declared.wanted}. "
            f"Columns found: {', '.join(source.item_columns)}. "
            f"Name other columns, or do without it: --set encode.{modality}=null."
        )


def run(argv: Sequence[str] | None = None) -> list[Manifest]:
    """Run the job from a command line, for launchers such as Dataflow templates."""
    config, beam_args = job_arguments(argv, "encode", __doc__)
    return encode(config, beam_args)


if __name__ == "__main__":
    # Imported anew, so that workers unpickle functions of this module by name.
    from beam_pipelines.encode import run as _run

    run_as_program(_run)
