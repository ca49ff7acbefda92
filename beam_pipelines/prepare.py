"""The `prepare` job: a user's files to sequences, vocabulary and pair sample.

    python -m beam_pipelines.prepare --config FILE -- --runner=DataflowRunner ...

Rows that cannot be used become dead letters, among them interactions with items
that the catalogue does not have; the rest is filtered to the k-core, split and
written as one row per user. See `transforms.kept_interactions` for the memory the job
needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import fsspec
from apache_beam.pvalue import AsDict, AsIter, AsSingleton

from beam_pipelines import prepared
from beam_pipelines.running import main_of, run_pipeline
from beam_pipelines.transforms import item_vocabulary, kept_interactions, user_sequences
from beam_pipelines.transforms.pair_sample import SmallestPairs, write_pairs
from beam_pipelines.transforms.rejected import (
    DEAD_LETTERS,
    TallyReasons,
    dead_letter,
    rejected_files,
)
from beam_pipelines.transforms.shards import GroupShards, WriteShards, default_num_shards
from kdsr_tf import stages
from kdsr_tf.artifacts import Manifest, join
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from kdsr_tf.sources import Source, open_source
from kdsr_tf.sources.batches import label
from kdsr_tf.stage_frame import StageFrame

STATISTICS_FILE = "statistics.json"
_DETAILS = ("times_are_positions", "vocabulary", "rejected", "columns", "modalities")

_INTERACTIONS_PER_SHARD = 50_000
_REJECTED_ROWS_PER_SHARD = 5_000_000


def prepare(config: Config, beam_args: Sequence[str] = ()) -> Manifest:
    """Read, check, filter and split the interactions.

    The vocabulary is append-only: where `sequences/` of the same configuration
    exists, its items keep their indices and new ones follow. A changed
    configuration, or a catalogue that lacks more than half of the old items,
    starts a new vocabulary.

    Args:
        config: The configuration.
        beam_args: Beam options, such as `("--runner=DataflowRunner",)`.

    Returns:
        The manifest of `sequences/`.

    Raises:
        InputError: if the source cannot be read, too many rows are rejected or
            nothing is left after filtering.
    """
    source = open_source(config.source)
    external = {stages.SOURCE: source.fingerprint()}
    with StageFrame(config, "sequences", external) as frame:
        before, manifest = frame.committed, frame.manifest
        same = before is not None and before.config == manifest.config
        previous = frame.location if same else None
        num_rows = source.num_interactions()
        if not num_rows:
            raise InputError(prepared.NO_INTERACTIONS.format(source.interactions))
        target = frame.new_folder()
        job = _Prepare(config, source, num_rows, target, previous)
        run_pipeline(job.build, beam_args, title="prepare", total=2 * num_rows)
        with fsspec.open(join(target, STATISTICS_FILE), "r") as file:
            statistics = json.load(file)
        prepared.check(config, source, statistics)
        manifest.counts = statistics["counts"]
        manifest.details = {key: statistics[key] for key in _DETAILS}
    return manifest


class _Prepare:
    """The pipeline of one run."""

    def __init__(
        self, config: Config, source: Source, num_rows: int, target: str, previous: str | None
    ):
        self._config = config
        self._source = source
        self._target = target
        self._previous = previous
        self._rejected_shards = default_num_shards(num_rows, _REJECTED_ROWS_PER_SHARD)
        self._num_shards = config.prepare.num_shards or default_num_shards(
            num_rows, _INTERACTIONS_PER_SHARD
        )

    def build(self, pipeline: beam.Pipeline) -> None:
        config, once = self._config, pipeline | "Once" >> beam.Create([None])
        read = item_vocabulary.read_catalogue(pipeline, self._source)
        unique = item_vocabulary.unique_items(read.rows, self._source)
        hashes = item_vocabulary.sorted_hashes(unique.rows)
        rows = kept_interactions.read_rows(
            pipeline, self._source.interaction_pieces(), AsSingleton(hashes)
        )
        fraction = config.prepare.test_fraction if config.prepare.split == "global_time" else None
        positions = AsSingleton(kept_interactions.find_positions(rows.rows))
        core = AsSingleton(
            kept_interactions.find_core(rows.rows, config.prepare.k_core, positions, fraction)
        )
        entries = AsIter(unique.rows)
        vocabulary = once | "Number items" >> beam.Map(
            item_vocabulary.number_items, entries, core, self._previous
        )
        index = vocabulary | "Index items" >> beam.Map(item_vocabulary.index_items)
        written = self._write_sequences(rows.rows, core, AsSingleton(index))
        counts = vocabulary | "Train counts" >> beam.Map(
            user_sequences.train_counts, AsIter(written[user_sequences.TRAIN_ITEMS])
        )
        shares = once | "Write items" >> beam.Map(
            item_vocabulary.write_items,
            AsSingleton(vocabulary),
            entries,
            AsSingleton(counts),
            self._target,
            self._previous,
        )
        smallest = SmallestPairs(
            config.prepare.pair_sample_size, config.windows.max_length, config.seed
        )
        pairs = (
            written[user_sequences.TRAIN_SEQUENCES]
            | "Smallest pairs" >> beam.CombineGlobally(smallest)
            | "Write pairs" >> beam.Map(write_pairs, self._target)
        )
        rejected = (read.rejected, unique.rejected, rows.rejected) | "Rejected" >> beam.Flatten()
        _ = (
            rejected
            | "Dead letters" >> beam.Map(dead_letter)
            | "Write rejected"
            >> WriteShards(self._target, {DEAD_LETTERS: rejected_files(self._rejected_shards)})
        )
        reasons = rejected | "Reasons" >> TallyReasons()
        _ = vocabulary | "Write statistics" >> beam.Map(
            _write_statistics,
            AsIter(written[user_sequences.STATISTICS]),
            core,
            AsIter(reasons),
            AsSingleton(shares),
            AsDict(_numbers(read, rows, pairs)),
            positions,
            label(self._source.interactions),
            self._target,
        )

    def _write_sequences(self, rows: beam.PCollection, core: Any, index: Any) -> Any:
        return (
            rows
            | "To blocks" >> beam.ParDo(kept_interactions.ToBlocks(self._num_shards), core, index)
            | "By shard" >> GroupShards(self._num_shards)
            | "Write sequences"
            >> beam.ParDo(
                user_sequences.WriteSequences(self._target, self._num_shards, self._config.prepare),
                core,
            ).with_outputs(
                user_sequences.STATISTICS,
                user_sequences.TRAIN_ITEMS,
                user_sequences.TRAIN_SEQUENCES,
            )
        )


def _numbers(read: Any, rows: Any, pairs: beam.PCollection) -> beam.PCollection:
    """Rows of the catalogue, rejected ones included, valid interactions and pairs, by name."""
    catalogue_rows = (
        (read.rows, read.rejected)
        | "Catalogue rows" >> beam.Flatten()
        | "Count catalogue" >> beam.combiners.Count.Globally()
    )
    valid_rows = (
        rows.rows
        | "Valid rows" >> beam.Map(lambda batch: len(batch.rows))
        | "Count valid" >> beam.CombineGlobally(sum)
    )
    numbers = {"catalogue_rows": catalogue_rows, "valid_rows": valid_rows, "pairs": pairs}
    return [
        number | f"Name {name}" >> beam.Map(lambda value, name: (name, value), name)
        for name, number in numbers.items()
    ] | "Numbers" >> beam.Flatten()


def _write_statistics(
    vocabulary: item_vocabulary.Vocabulary,
    parts: Any,
    core: kept_interactions.Core,
    reasons: Any,
    shares: dict[str, dict[str, float]],
    numbers: dict[str, int],
    times_are_positions: bool,
    interactions_label: str,
    directory: str,
) -> None:
    total = user_sequences.merge_statistics(parts)
    num_items = len(vocabulary.item_ids)
    cells = total.counts["users"] * num_items
    rejected: dict[str, dict[str, Any]] = {}
    for (file_name, reason), (count, first) in sorted(reasons):
        rejected.setdefault(file_name, {})[reason] = {"rows": count, "first": first}
    num_rejected = sum(row["rows"] for found in rejected.values() for row in found.values())
    statistics = {
        "counts": {
            **total.counts,
            "items": num_items,
            "pairs": numbers["pairs"],
            "catalogue_rows": numbers["catalogue_rows"],
            "interaction_rows": numbers["valid_rows"]
            + sum(row["rows"] for row in rejected.get(interactions_label, {}).values()),
            "rejected": num_rejected,
        },
        "sparsity": 1 - total.counts["interactions"] / cells if cells else None,
        "lengths": {str(length): total.lengths[length] for length in sorted(total.lengths)},
        "times": total.times,
        "cores": core.sizes,
        "times_are_positions": times_are_positions,
        **shares,
        "vocabulary": {
            "previous": vocabulary.num_previous,
            "new": num_items - vocabulary.num_previous,
        },
        "rejected": rejected,
    }
    with fsspec.open(join(directory, STATISTICS_FILE), "w") as file:
        file.write(json.dumps(statistics, indent=2) + "\n")


if __name__ == "__main__":
    main_of("prepare")
