"""The `distill` job: windows with the teacher's packed pair scores and codes.

Every file of `sequences/` becomes one file per split, read, cut, scored and
written in its order by one worker: neither users nor records travel through a
shuffle, and memory holds a bounded number of windows. Item vectors are mapped
from the worker's disk or, where they are too large for it, joined to the file.

    python -m beam_pipelines.distill --config FILE -- --runner=DataflowRunner ...
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import threadpoolctl
from apache_beam.metrics import Metrics

from beam_pipelines.running import NAMESPACE, advance, main_of, run_pipeline
from beam_pipelines.transforms import item_vectors, tfds_records
from beam_pipelines.transforms.cut_windows import Window, cut_windows
from beam_pipelines.transforms.item_vectors import JoinedVectors, JoinVectors, read_teacher
from kdsr_tf import schema, sequences, splits, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.sequences import User
from kdsr_tf.stage_frame import StageFrame

_PAIRS_PER_CHUNK = 1_000_000

_TARGETS = {"train": "train_targets", "validation": "validation_points", "test": "test_points"}
"""Counts of targets by split; `train_points` of `sequences/` are the first two together."""

_COUNTS = (*(f"{split}_windows" for split in schema.SPLITS), *_TARGETS.values(), "pairs")
_CONTEXT_LOST = "context_lost"


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
    with StageFrame(config, stages.windows_of(config)) as frame:
        counts = frame.inputs["sequences"].counts
        paths = sequences.shards(stages.location(config, "sequences"))
        teachers = {
            m: (stages.location(config, f"teacher/{m}"), frame.inputs[f"teacher/{m}"].details)
            for m in config.needs.pairs
        }
        size = item_vectors.vectors_bytes(folder for folder, _ in teachers.values())
        writer = ShardWriter(
            frame.new_folder(),
            len(paths),
            config.windows.max_length,
            config.windows.stride,
            teachers,
            join_vectors=size > config.distill.vectors_on_disk_limit_bytes,
        )
        found = run_pipeline(
            lambda pipeline: write_examples(pipeline, paths, writer, counts["items"]),
            beam_args,
            title="distill",
            total=counts["users"],
        )
        frame.manifest.counts = {name: found.get(name, 0) for name in _COUNTS} | {
            "shards": len(paths)
        }
        frame.manifest.details["mean_context_lost"] = round(
            found.get(_CONTEXT_LOST, 0) / max(found.get(_TARGETS["train"], 0), 1), 3
        )
    return frame.manifest


def write_examples(
    pipeline: beam.Pipeline, paths: Sequence[str], writer: ShardWriter, num_items: int
) -> beam.PCollection:
    """Files of `sequences/` to one TFDS dataset of windows.

    Args:
        pipeline: The pipeline.
        paths: The files, local paths or URIs; file k becomes shard k of every split.
        writer: Writes them.
        num_items: Largest item index.
    """
    files = pipeline | "Files" >> beam.Create(list(enumerate(paths)))
    groups = {"path": files}
    if writer.join_vectors:
        items = files | beam.Reshuffle() | "Train items" >> beam.FlatMapTuple(_train_items)
        for modality, (folder, _) in writer.teachers.items():
            transform = JoinVectors(folder, num_items + 1)
            groups[modality] = items | f"Join {modality} vectors" >> transform
    return (
        groups
        | beam.CoGroupByKey()
        | "Write" >> beam.ParDo(writer)
        | beam.combiners.ToList()
        | "Describe" >> beam.Map(_describe, writer.directory, _num_codes(writer.teachers))
    )


class ShardWriter(beam.DoFn):
    """Writes one file of `sequences/` as one file per split.

    Takes `(shard, {"path": [path]})`, with `join_vectors` also the item vectors of
    every modality, and yields `(shard, {split: (records, bytes)})`.

    Args:
        directory: Existing local folder or URI.
        num_shards: Files of `sequences/`.
        max_length: Most inputs of a window.
        stride: Step between the train windows of a long sequence.
        teachers: Per modality, the folder of its teacher and its manifest's details.
        join_vectors: Join item vectors to each file instead of mapping a file of them.
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
        self.directory = directory
        self._num_shards = num_shards
        self._max_length = max_length
        self._stride = stride
        self.teachers = dict(teachers)
        self.join_vectors = join_vectors
        self._context_lost = Metrics.counter(NAMESPACE, _CONTEXT_LOST)

    def setup(self) -> None:
        if not self.join_vectors:
            self._loaded = {m: read_teacher(*teacher) for m, teacher in self.teachers.items()}
        features = tfds_records.example_features(_num_codes(self.teachers))
        self._encode = tfds_records.record_encoder(features)

    def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        shard, groups = element
        if self.join_vectors:
            self._loaded = {
                m: read_teacher(*teacher, JoinedVectors(groups[m]))
                for m, teacher in self.teachers.items()
            }
        (path,) = groups["path"]
        with contextlib.ExitStack() as stack:
            # Small matrix products gain nothing from threads; processes do the rest.
            stack.enter_context(threadpoolctl.threadpool_limits(1))
            writers = {
                split: stack.enter_context(
                    tfds_records.RecordWriter(
                        tfds_records.shard_path(self.directory, split, shard, self._num_shards)
                    )
                )
                for split in schema.SPLITS
            }
            for chunk in self._chunks(sequences.read_shard(path)):
                self._write(chunk, writers)
        yield shard, {split: (writer.count, writer.size) for split, writer in writers.items()}

    def _chunks(self, users: Iterable[User]) -> Iterator[list[tuple[str, Window]]]:
        """Windows with their user, in order, a bounded number of pairs at a time."""
        chunk, size, num_users = [], 0, 0
        for user_id, items, num_train in users:
            for window in cut_windows(items, num_train, self._max_length, self._stride):
                chunk.append((user_id, window))
                length = len(window.items)
                size += schema.num_pairs(length) if window.split != "test" else length
                if size >= _PAIRS_PER_CHUNK:
                    yield chunk
                    advance(num_users)
                    chunk, size, num_users = [], 0, 0
            self._context_lost.inc(
                splits.context_lost(splits.num_inputs(num_train), self._max_length, self._stride)
            )
            num_users += 1
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
            counts[_TARGETS[window.split]] += int(np.count_nonzero(window.target))
        for name, count in counts.items():
            Metrics.counter(NAMESPACE, name).inc(count)

    def _score(
        self, windows: Sequence[Window], counts: dict[str, int]
    ) -> list[dict[str, np.ndarray]]:
        """The modality fields of every window; equally long windows go together.

        Test windows carry no pairs.
        """
        fields: list[dict[str, np.ndarray]] = [{} for _ in windows]
        by_length = defaultdict(list)
        for index, window in enumerate(windows):
            by_length[0 if window.split == "test" else len(window.items)].append(index)
        for modality, teacher in self._loaded.items():
            for length, indices in by_length.items():
                items = np.stack([windows[index].items[:length] for index in indices])
                *arrays, num_valid = teacher.correlate(items)
                counts["pairs"] += num_valid
                for index, row in zip(indices, zip(*arrays, strict=True), strict=True):
                    fields[index].update(zip(schema.pair_keys(modality), row, strict=True))
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


def _train_items(shard: int, path: str) -> Iterator[tuple[int, int]]:
    """`(item, shard)` for items whose vectors a file's pairs need: test windows carry none."""
    train = [items[:num_train] for _, items, num_train in sequences.read_shard(path)]
    items = np.unique(np.concatenate([np.zeros(0, np.int32), *train]))
    return ((item, shard) for item in items.tolist())


def _num_codes(teachers: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, int]:
    return {m: details["num_codes"] for m, (_, details) in teachers.items()}


if __name__ == "__main__":
    main_of("distill")
