"""The teacher's knowledge as a table, for other tools: `(item_i, item_j, score, code)`.

Every pair of items that occurs in a train or validation window is one row, with
the score and the code that `distill` writes for it, in
`triplets/<modality>/triplets-*.parquet` of the working directory.

    python -m beam_pipelines.triplets --config FILE -- --runner=DataflowRunner ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_pipelines.running import NAMESPACE, advance, main_of, run_pipeline
from beam_pipelines.transforms.cut_windows import cut_windows
from beam_pipelines.transforms.item_vectors import read_teacher
from beam_pipelines.transforms.shards import GroupShards, default_num_shards, shard_path
from kdsr_tf import schema, sequences, stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.stage_frame import StageFrame
from kdsr_tf.teacher.teacher import Teacher

_PAIRS_PER_SHARD = 5_000_000
_PAIRS_PER_CHUNK = 1_000_000
_ROWS_PER_GROUP = 100_000

_COLUMNS = pa.schema(
    {"item_i": pa.string(), "item_j": pa.string(), "score": pa.float32(), "code": pa.int32()}
)


def triplets(config: Config, beam_args: Sequence[str] = ()) -> Manifest:
    """Write every scored pair of items once, with the items' own ids.

    Rows are sorted by the index of `item_i`, then of `item_j`, inside a file.

    Args:
        config: The configuration `distill` ran with.
        beam_args: Beam options, such as `("--runner=DataflowRunner",)`.

    Returns:
        The manifest of `triplets/`; its counts are the rows per modality.

    Raises:
        MissingArtifactError: naming the stage to run first.
        StaleArtifactError: if windows and teachers do not belong together.
        ConfigError: if nothing is distilled.
    """
    if not config.needs.pairs:
        raise ConfigError(
            "Triplets are the pairs that a student distils, and this one distils none. Set "
            "`distillation.enabled` to true and give it modality tables."
        )
    windows, folder = config.windows, stages.location(config, "sequences")
    with StageFrame(config, stages.TRIPLETS) as frame:
        inputs, target = frame.inputs, frame.new_folder()
        teachers = {
            m: (stages.location(config, f"teacher/{m}"), inputs[f"teacher/{m}"].details)
            for m in config.needs.pairs
        }
        num_shards = default_num_shards(inputs["examples"].counts["pairs"], _PAIRS_PER_SHARD)
        filesystem, local = fsspec.core.url_to_fs(target)
        for modality in teachers:
            filesystem.makedirs(f"{local}/{modality}")

        def build(pipeline: beam.Pipeline) -> None:
            _ = (
                pipeline
                | "Files" >> beam.Create(sequences.shards(folder))
                | beam.Reshuffle()
                | "Pairs"
                >> beam.FlatMap(read_pairs, windows.max_length, windows.stride, num_shards)
                | "By shard" >> GroupShards(num_shards)
                | "Write" >> beam.ParDo(_WriteTriplets(target, num_shards, folder, teachers))
            )

        found = run_pipeline(
            build, beam_args, title="triplets", total=inputs["sequences"].counts["users"]
        )
        frame.manifest.counts = {m: found.get(f"{m}_triplets", 0) for m in teachers}
    return frame.manifest


def read_pairs(
    path: str, max_length: int, stride: int, num_shards: int
) -> Iterator[tuple[int, bytes]]:
    """Distinct pairs in the train and validation windows of one sequences file.

    Yields:
        `(shard, pairs)` with pairs int32 `(count, 2)` as bytes, smaller index
        first; a pair may come again in another part.
    """
    parts: list[np.ndarray] = []
    num_pairs = num_users = 0
    for _, items, num_train in sequences.read_shard(path):
        for window in cut_windows(items, num_train, max_length, stride):
            if window.split != "test":
                i, j = schema.pair_positions(len(window.items))
                parts.append(np.stack([window.items[i], window.items[j]], axis=1))
                num_pairs += len(i)
        num_users += 1
        if num_pairs >= _PAIRS_PER_CHUNK:
            yield from _by_shard(parts, num_shards)
            advance(num_users)
            parts, num_pairs, num_users = [], 0, 0
    yield from _by_shard(parts, num_shards)
    advance(num_users)


def _by_shard(parts: list[np.ndarray], num_shards: int) -> Iterator[tuple[int, bytes]]:
    if not parts:
        return
    pairs = np.sort(np.concatenate(parts), axis=1)
    pairs = _distinct(pairs[pairs[:, 0] != pairs[:, 1]])
    for shard in range(num_shards):
        own = pairs[pairs[:, 0] % num_shards == shard]
        if len(own):
            yield shard, own.tobytes()


def _distinct(pairs: np.ndarray) -> np.ndarray:
    """Rows once each, sorted; by one 64-bit key, which sorts faster than rows."""
    keys = np.unique(pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1])
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1).astype(np.int32)


class _WriteTriplets(beam.DoFn):
    """`(shard, parts)` to one file per modality."""

    def __init__(
        self,
        directory: str,
        num_shards: int,
        folder: str,
        teachers: Mapping[str, tuple[str, dict[str, Any]]],
    ):
        self._directory = directory
        self._num_shards = num_shards
        self._folder = folder
        self._teachers = dict(teachers)

    def setup(self) -> None:
        self._loaded = {m: read_teacher(*teacher) for m, teacher in self._teachers.items()}
        table = sequences.read_items(self._folder, schema.ITEM_ID)
        self._item_ids = table.column(schema.ITEM_ID).combine_chunks()

    def process(self, element: tuple[int, list[bytes]]) -> None:
        shard, parts = element
        arrays = [np.frombuffer(part, np.int32).reshape(-1, 2) for part in parts]
        pairs = _distinct(np.concatenate([np.zeros((0, 2), np.int32), *arrays]))
        for modality, teacher in self._loaded.items():
            path = shard_path(
                join(self._directory, modality), "triplets", shard, self._num_shards, ".parquet"
            )
            with (
                fsspec.open(path, "wb") as file,
                pq.ParquetWriter(file, _COLUMNS, compression="zstd") as writer,
            ):
                for start in range(0, len(pairs), _ROWS_PER_GROUP):
                    table = self._score(pairs[start : start + _ROWS_PER_GROUP], teacher)
                    writer.write_table(table)
                    Metrics.counter(NAMESPACE, f"{modality}_triplets").inc(len(table))

    def _score(self, pairs: np.ndarray, teacher: Teacher) -> pa.Table:
        present, scores, codes, _ = teacher.correlate(pairs)  # a pair is a window of two items
        both = present.all(1)
        first, second = (self._item_ids.take(pa.array(side - 1)) for side in pairs[both].T)
        columns = (first, second, scores[both, 0].astype(np.float32), codes[both, 0])
        return pa.table(columns, names=_COLUMNS.names).cast(_COLUMNS)


if __name__ == "__main__":
    main_of("triplets")
