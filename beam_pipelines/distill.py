"""The `distill` job: windows with the teacher's packed pair scores and codes.

Users are grouped by shard while they are small; each shard is then cut into
windows, scored and written by one worker, so records never travel through a
shuffle. A shard's bytes depend on its users alone. Item vectors are mapped from
the worker's disk or, where they are too large for it, joined to the shard.

    python -m beam_pipelines.distill --config FILE -- --runner=DataflowRunner ...
"""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow.parquet as pq
import threadpoolctl
from apache_beam.metrics import Metrics

from beam_pipelines.running import (
    NAMESPACE,
    advance,
    job_arguments,
    run_as_program,
    run_pipeline,
)
from beam_pipelines.transforms import tfds_records
from beam_pipelines.transforms.item_vectors import JoinedVectors, JoinVectors, vectors_bytes
from beam_pipelines.transforms.pair_scores import PairScorer
from beam_pipelines.transforms.shards import all_shards, default_num_shards
from beam_pipelines.transforms.windows import Window, cut_windows
from kdsr_tf import artifacts, schema, splits, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.hashing import shard_of

INTERACTIONS_PER_SHARD = 50_000
_PAIRS_PER_CHUNK = 1_000_000

_COUNTS = (
    *(f"{split}_windows" for split in schema.SPLITS),
    *(f"{split}_points" for split in schema.SPLITS),
    "pairs",
)
_CONTEXT_LOST = "context_lost"

User = tuple[str, bytes, int]
"""`user_id`, int32 items as bytes, `num_train`: plain values that Beam codes fast."""


def distill(config: Config, beam_args: Sequence[str] = ()) -> Manifest:
    """Cut every user into windows and write them with the teacher's knowledge.

    Args:
        config: The configuration. Without modalities, windows hold items only.
        beam_args: Beam options, such as `("--runner=DataflowRunner",)`.

    Returns:
        The manifest of `examples/`. Its counts are the windows and points
        (targets) per split and the valid pairs written, of all modalities together;
        its details hold `mean_context_lost`, per train point, in items.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if sequences and teachers do not belong together.
        InputError: if a score lies outside float16.
    """
    inputs = stages.read_inputs(config, "examples")
    manifest = stages.new_manifest(config, "examples", inputs)
    counts = inputs["sequences"].counts
    num_shards = config.windows.num_shards or default_num_shards(
        counts["interactions"], INTERACTIONS_PER_SHARD
    )
    teachers = {
        m: (stages.location(config, f"teacher/{m}"), inputs[f"teacher/{m}"].details)
        for m in config.modalities
    }
    size = vectors_bytes(folder for folder, _ in teachers.values())
    with artifacts.committing(stages.location(config, "examples"), manifest) as target:
        transform = WriteExamples(
            directory=target,
            num_shards=num_shards,
            max_length=config.windows.max_length,
            stride=config.windows.stride,
            teachers=teachers,
            num_items=counts["items"],
            join_vectors=size > config.distill.vectors_on_disk_limit_bytes,
        )
        paths = artifacts.find_files(stages.location(config, "sequences"), schema.SEQUENCE_FILES)
        found = run_pipeline(
            lambda pipeline: pipeline | ReadSequences(paths) | transform,
            beam_args,
            title="distill",
            total=counts["users"],
        )
        manifest.counts = {name: found.get(name, 0) for name in _COUNTS} | {"shards": num_shards}
        manifest.details["mean_context_lost"] = round(
            found.get(_CONTEXT_LOST, 0) / max(found.get("train_points", 0), 1), 3
        )
    return manifest


class ReadSequences(beam.PTransform):
    """The users of `sequences-*.parquet` as `(user_id, items, num_train)`.

    Args:
        paths: Local paths or URIs.
    """

    def __init__(self, paths: Sequence[str]):
        super().__init__()
        self._paths = list(paths)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Files" >> beam.Create(self._paths)
            | beam.Reshuffle()
            | "Read" >> beam.FlatMap(read_users)
        )


class WriteExamples(beam.PTransform):
    """Users to one TFDS dataset of windows.

    Args:
        directory: Existing local folder or URI.
        num_shards: Files per split, > 0.
        max_length: Most inputs of a window.
        stride: Step between the train windows of a long sequence.
        teachers: Per modality, the folder of its teacher and its manifest's details.
        num_items: Largest item index.
        join_vectors: Join item vectors to each shard instead of mapping a file.
    """

    def __init__(
        self,
        *,
        directory: str,
        num_shards: int,
        max_length: int,
        stride: int,
        teachers: Mapping[str, tuple[str, dict[str, Any]]],
        num_items: int,
        join_vectors: bool = False,
    ):
        super().__init__()
        self._directory = directory
        self._num_shards = num_shards
        self._writer = ShardWriter(
            directory, num_shards, max_length, stride, teachers, join_vectors
        )
        self._num_codes = _num_codes(teachers)
        self._joined = {m: folder for m, (folder, _) in teachers.items() if join_vectors}
        self._num_items = num_items

    def expand(self, users: beam.PCollection) -> beam.PCollection:
        num_shards, directory, num_codes = self._num_shards, self._directory, self._num_codes
        keyed = users | "Shard" >> beam.Map(lambda user: (shard_of(user[0], num_shards), user))
        groups = {"users": keyed, "shards": all_shards(users.pipeline, num_shards)}
        if self._joined:
            items = keyed | "Train items" >> beam.MapTuple(_train_items)
            for modality, folder in self._joined.items():
                transform = JoinVectors(folder, self._num_items + 1)
                groups[modality] = items | f"Join {modality} vectors" >> transform
        return (
            groups
            | beam.CoGroupByKey()
            | "Write" >> beam.ParDo(self._writer)
            | beam.combiners.ToList()
            | "Describe" >> beam.Map(_describe, directory, num_codes)
        )


class ShardWriter(beam.DoFn):
    """Writes one shard's users as one file per split.

    Takes `(shard, {"users": users})`, with `join_vectors` also the item vectors of
    every modality, and yields `(shard, {split: (records, bytes)})`. The arguments
    are those of `WriteExamples`.
    """

    def __init__(
        self,
        directory: str,
        num_shards: int,
        max_length: int,
        stride: int,
        teachers: Mapping[str, tuple[str, dict[str, Any]]],
        join_vectors: bool = False,
    ):
        self._directory = directory
        self._num_shards = num_shards
        self._max_length = max_length
        self._stride = stride
        self._teachers = dict(teachers)
        self._join_vectors = join_vectors
        self._context_lost = Metrics.counter(NAMESPACE, _CONTEXT_LOST)

    def setup(self) -> None:
        if not self._join_vectors:
            self._scorers = {m: PairScorer(*teacher) for m, teacher in self._teachers.items()}
        features = tfds_records.example_features(_num_codes(self._teachers))
        self._encode = tfds_records.record_encoder(features)

    def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        shard, groups = element
        if self._join_vectors:
            self._scorers = {
                m: PairScorer(*teacher, JoinedVectors(groups[m]))
                for m, teacher in self._teachers.items()
            }
        users = sorted(groups["users"])
        with contextlib.ExitStack() as stack:
            # Small matrix products gain nothing from threads; processes do the rest.
            stack.enter_context(threadpoolctl.threadpool_limits(1))
            writers = {
                split: stack.enter_context(
                    tfds_records.RecordWriter(
                        tfds_records.shard_path(self._directory, split, shard, self._num_shards)
                    )
                )
                for split in schema.SPLITS
            }
            for chunk in self._chunks(users):
                self._write(chunk, writers)
        yield shard, {split: (writer.count, writer.size) for split, writer in writers.items()}

    def _chunks(self, users: Iterable[User]) -> Iterator[list[tuple[str, Window]]]:
        """Windows with their user, in order, a bounded number of pairs at a time."""
        chunk, pairs, num_users = [], 0, 0
        for user_id, items, num_train in users:
            sequence = np.frombuffer(items, np.int32)
            for window in cut_windows(sequence, num_train, self._max_length, self._stride):
                chunk.append((user_id, window))
                pairs += schema.num_pairs(len(window.items)) if window.split != "test" else 1
            self._context_lost.inc(
                splits.context_lost(splits.num_inputs(num_train), self._max_length, self._stride)
            )
            num_users += 1
            if pairs >= _PAIRS_PER_CHUNK:
                yield chunk
                advance(num_users)
                chunk, pairs, num_users = [], 0, 0
        yield chunk
        advance(num_users)

    def _write(
        self, chunk: list[tuple[str, Window]], writers: Mapping[str, tfds_records.RecordWriter]
    ) -> None:
        counts = dict.fromkeys(_COUNTS, 0)
        knowledge = self._score([window for _, window in chunk], counts)
        for (user_id, window), fields in zip(chunk, knowledge, strict=True):
            record = {
                schema.USER_ID: user_id,
                schema.ITEMS: window.items,
                schema.TARGET: window.target,
                schema.WINDOW_START: window.start,
                **fields,
            }
            writers[window.split].write(self._encode(record))
            counts[f"{window.split}_windows"] += 1
            counts[f"{window.split}_points"] += int(np.count_nonzero(window.target))
        for name, count in counts.items():
            Metrics.counter(NAMESPACE, name).inc(count)

    def _score(
        self, windows: Sequence[Window], counts: dict[str, int]
    ) -> list[dict[str, np.ndarray]]:
        """The modality fields of every window; equally long windows go together."""
        fields: list[dict[str, np.ndarray]] = [{} for _ in windows]
        by_length = defaultdict(list)
        for index, window in enumerate(windows):
            by_length[0 if window.split == "test" else len(window.items)].append(index)
        for modality, scorer in self._scorers.items():
            keys = (
                schema.present_key(modality),
                schema.scores_key(modality),
                schema.codes_key(modality),
            )
            for length, indices in by_length.items():
                if length == 0:
                    rows = itertools.repeat(scorer.none())
                else:
                    items = np.stack([windows[index].items for index in indices])
                    *arrays, num_valid = scorer(items)
                    counts["pairs"] += num_valid
                    rows = zip(*arrays, strict=True)
                for index, row in zip(indices, rows, strict=False):
                    fields[index].update(zip(keys, row, strict=True))
        return fields


def _describe(
    shards: list[tuple[int, dict[str, tuple[int, int]]]],
    directory: str,
    num_codes: Mapping[str, int],
) -> None:
    sizes = [by_split for _, by_split in sorted(shards)]
    tfds_records.write_dataset_info(
        directory,
        tfds_records.example_features(num_codes),
        {split: [by_split[split] for by_split in sizes] for split in schema.SPLITS},
    )


def _train_items(shard: int, user: User) -> tuple[int, bytes]:
    """Items whose vectors a user's pairs need: test windows carry no pairs."""
    _, items, num_train = user
    return shard, items[: num_train * np.dtype(np.int32).itemsize]


def _num_codes(teachers: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, int]:
    return {m: details["num_codes"] for m, (_, details) in teachers.items()}


def read_users(path: str) -> Iterator[User]:
    """The users of one sequences file."""
    columns = [schema.USER_ID, schema.ITEMS, schema.NUM_TRAIN]
    with fsspec.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            users, items, num_train = (batch.column(name) for name in columns)
            offsets = items.offsets.to_numpy()
            values = items.values.to_numpy().astype(np.int32, copy=False)
            for row in range(len(users)):
                sequence = values[offsets[row] : offsets[row + 1]]
                yield users[row].as_py(), sequence.tobytes(), num_train[row].as_py()


def run(argv: Sequence[str] | None = None) -> Manifest:
    """Run the job from a command line, for launchers such as Dataflow templates."""
    config, beam_args = job_arguments(argv, "distill", __doc__)
    return distill(config, beam_args)


if __name__ == "__main__":
    # Imported anew, so that workers unpickle functions of this module by name.
    from beam_pipelines.distill import run as _run

    run_as_program(_run)
