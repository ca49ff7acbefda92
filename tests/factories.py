"""Small artifacts with true contents, written without Beam or training.

Each `write_*` function fills one artifact of a working directory and commits it
with the fingerprints a real run would give, so that stages accept it as input.
TensorFlow is imported by none of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kdsr_tf import artifacts, schema, stage_frame, stages
from kdsr_tf.artifacts import Manifest
from kdsr_tf.config import Config
from kdsr_tf.teacher import pair_correlations
from kdsr_tf.teacher.item_rows import write_item_rows


def write_sequences(
    config: Config, num_items: int = 40, num_users: int = 60, longest: int = 12, seed: int = 0
) -> Manifest:
    """`sequences/`: users with 4 to `longest` items, split by ratio 0.2."""
    rng = np.random.default_rng([seed, 1])
    rows = []
    for user in range(num_users):
        length = int(rng.integers(4, longest + 1))
        items = rng.integers(1, num_items + 1, length).tolist()
        times = np.sort(rng.integers(1_600_000_000, 1_700_000_000, length)).tolist()
        rows.append((f"user{user:05d}", items, times, length - length // 5))
    rows.sort()
    users, items, times, num_train = (list(column) for column in zip(*rows, strict=True))
    train = [item for row, n in zip(items, num_train, strict=True) for item in row[:n]]
    pairs = {
        (min(a, b), max(a, b))
        for row, n in zip(items, num_train, strict=True)
        for a in row[:n]
        for b in row[:n]
        if a != b
    }
    first, second = (list(column) for column in zip(*sorted(pairs), strict=True))
    indices = range(1, num_items + 1)
    manifest = stage_frame.new_manifest(config, "sequences", {}, _external(config))
    manifest.counts = {"users": num_users, "items": num_items, "interactions": sum(map(len, items))}
    with artifacts.committing(stages.location(config, "sequences"), manifest) as target:
        table = {
            schema.USER_ID: users,
            schema.ITEMS: pa.array(items, pa.list_(pa.int32())),
            schema.TIMESTAMPS: pa.array(times, pa.list_(pa.int64())),
            schema.NUM_TRAIN: pa.array(num_train, pa.int32()),
        }
        pq.write_table(pa.table(table), os.path.join(target, "sequences-00000-of-00001.parquet"))
        table = {
            schema.ITEM: pa.array(indices, pa.int32()),
            schema.ITEM_ID: [f"item{k:04d}" for k in indices],
            schema.TITLE: [f"Item {k}" for k in indices],
            "image": pa.array([None] * num_items, pa.string()),
            schema.TRAIN_COUNT: pa.array([train.count(k) for k in indices], pa.int64()),
        }
        pq.write_table(pa.table(table), os.path.join(target, "items.parquet"))
        table = {"first": pa.array(first, pa.int32()), "second": pa.array(second, pa.int32())}
        pq.write_table(pa.table(table), os.path.join(target, "pairs.parquet"))
    return manifest


@contextlib.contextmanager
def editing(config: Config, name: str) -> Iterator[str]:
    """The files of a committed artifact, to be changed; its manifest describes them after."""
    manifest = _manifest(config, name)
    location = stages.location(config, name)
    with artifacts.committing(location, manifest) as target:
        no_manifest = shutil.ignore_patterns(artifacts.MANIFEST)
        shutil.copytree(location, target, ignore=no_manifest, dirs_exist_ok=True)
        yield target


def _external(config: Config) -> dict[str, str]:
    return dict.fromkeys(stages.external_inputs(config), "0" * 16)


STATE_SIZES = {"image": (3, 5), "text": (8, 8, 8)}
"""Widths of the levels of made-up states."""


def write_features(
    config: Config, modality: str, size: int = 24, absent: float = 0.1, seed: int = 0
) -> Manifest:
    """`features/<modality>/`: random vectors in 5 groups, a share of items absent.

    If the configuration keeps states, their levels (`STATE_SIZES`) are numbers of the vector.
    """
    sequences = _manifest(config, "sequences")
    num_items = sequences.counts["items"]
    rng = np.random.default_rng([seed, 2, schema.MODALITIES.index(modality)])
    centres = rng.normal(size=(5, size))
    vectors = centres[np.arange(num_items) % 5] + 0.5 * rng.normal(size=(num_items, size))
    items = 1 + np.flatnonzero(rng.random(num_items) >= absent)
    vectors = vectors[items - 1].astype(np.float32)
    name = f"features/{modality}"
    manifest = stage_frame.new_manifest(config, name, {"sequences": sequences}, _external(config))
    manifest.counts = {"items": len(items)}
    manifest.details = {"encoder": {"name": "random", "digest": str(seed)}, "size": size}
    with artifacts.committing(stages.location(config, name), manifest) as target:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size)
        contents = [row.tobytes() for row in vectors]
        table = pa.table(
            {schema.ITEM: pa.array(items, pa.int32()), schema.VECTOR: column, "content": contents}
        )
        pq.write_table(table, os.path.join(target, "vectors-00000-of-00001.parquet"))
        if getattr(config.encode, modality).states is not None:
            sizes = STATE_SIZES[modality]
            manifest.details["states"] = {"sizes": list(sizes), "dtype": "float16"}
            _write_states(target, items, vectors[:, : sum(sizes)])
    return manifest


def _write_states(folder: str, items: np.ndarray, states: np.ndarray) -> None:
    flat = pa.array(states.astype(np.float16).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, states.shape[1])
    table = pa.table({schema.ITEM: pa.array(items, pa.int32()), schema.STATES: column})
    pq.write_table(table, os.path.join(folder, "states-00000-of-00001.parquet"))


def write_teacher(
    config: Config, modality: str, absent: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`teacher/<modality>/`: random condensed vectors and a random codebook.

    Needs `sequences/` and `features/<modality>/`. Returns the arrays written:
    vectors, present and codebook.
    """
    inputs = stage_frame.read_inputs(config, f"teacher/{modality}")
    num_items = inputs["sequences"].counts["items"]
    rng = np.random.default_rng([seed, 3, schema.MODALITIES.index(modality)])
    vectors = rng.normal(size=(num_items + 1, config.model.dim)).astype(np.float32)
    present = rng.random(num_items + 1) >= absent
    present[0] = False
    vectors[~present] = 0
    teach = config.teach
    codebook = rng.uniform(-1, 1, (teach.num_codes, teach.num_domains)).astype(np.float32)
    manifest = stage_frame.new_manifest(config, f"teacher/{modality}", inputs)
    manifest.counts = {"items": int(present.sum())}
    manifest.details = {
        "correlation": teach.correlation,
        "score_scale": 1.0,
        "vector_scale": 1.0,
        "num_codes": teach.num_codes,
        "num_domains": teach.num_domains,
    }
    with artifacts.committing(stages.location(config, f"teacher/{modality}"), manifest) as target:
        for stem, array in (("vectors", vectors), ("present", present), ("codebook", codebook)):
            np.save(os.path.join(target, f"{stem}.npy"), array)
    return vectors, present, codebook


def write_examples(config: Config, num_shards: int = 2) -> Manifest:
    """`examples/` or `windows/`: what `distill` writes, for users no longer than `max_length`.

    Needs `sequences/` and the teachers whose pairs are distilled.
    """
    from beam_pipelines.transforms import tfds_records

    name, pairs = stages.windows_of(config), config.needs.pairs
    inputs = stage_frame.read_inputs(config, name)
    features = tfds_records.example_features(dict.fromkeys(pairs, config.teach.num_codes))
    encode = tfds_records.record_encoder(features)
    teachers = {m: _load_teacher(config, m) for m in pairs}
    location = stages.location(config, "sequences")
    rows = pq.read_table(os.path.join(location, "sequences-00000-of-00001.parquet")).to_pylist()
    records = {split: [[] for _ in range(num_shards)] for split in schema.SPLITS}
    for number, row in enumerate(rows):
        for split, items, target in _windows(row, config.windows.max_length):
            window = {
                schema.USER_ID: row[schema.USER_ID],
                schema.ITEMS: items,
                schema.TARGET: target,
                schema.WINDOW_START: 0,
            }
            for modality, teacher in teachers.items():
                window |= _pairs(items if split != "test" else items[:0], modality, teacher)
            records[split][number % num_shards].append(encode(window))
    manifest = stage_frame.new_manifest(config, name, inputs)
    for split in schema.SPLITS:
        manifest.counts[f"{split}_windows"] = sum(map(len, records[split]))
    with artifacts.committing(stages.location(config, name), manifest) as target:
        shards = {
            split: [
                write_records(tfds_records.shard_path(target, split, k, num_shards), shard)
                for k, shard in enumerate(records[split])
            ]
            for split in schema.SPLITS
        }
        tfds_records.write_dataset_info(target, features, shards)
    return manifest


def write_records(path: str, records) -> tuple[int, int]:
    """Write one file of a split; returns the number of records and of their bytes."""
    from beam_pipelines.transforms import tfds_records

    with tfds_records.RecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return writer.count, writer.size


def write_student(config: Config, std: float = 0.3):
    """`student/`: an untrained student and a made-up history; returns the student.

    Needs everything that training reads. Weights are normal with deviation
    `std`, so that scores differ from item to item.
    """
    import keras

    from kdsr_tf.methods.student import Student

    inputs = stage_frame.read_inputs(config, "student")
    model = config.model
    student = Student(
        num_items=inputs["sequences"].counts["items"],
        dim=model.dim,
        max_length=config.windows.max_length,
        backbone=model.backbone,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        modalities=config.modalities,
        pooling=model.pooling,
        short_term=model.short_term,
        seed=config.seed,
    )
    rng = np.random.default_rng([config.seed, 4])
    for variable in student.trainable_variables:
        variable.assign(rng.normal(scale=std, size=variable.shape))
    columns = [f"retention_{m}" for m in config.modalities]
    manifest = stage_frame.new_manifest(config, "student", inputs)
    manifest.counts = {"epochs": 2}
    manifest.details = {"selection": "validation", "best_epoch": 2}
    with artifacts.committing(stages.location(config, "student"), manifest) as target:
        keras.saving.save_model(student, os.path.join(target, "student.keras"))
        with open(os.path.join(target, "history.csv"), "w", encoding="utf-8") as file:
            file.write(",".join(["epoch", "loss", "next_item", "val_hr_20", *columns]) + "\n")
            for epoch in (1, 2):
                values = [str(x) for x in (epoch, 4 / epoch, 3 / epoch, 0.1 * epoch)]
                file.write(",".join([*values, *[f"{0.9**epoch}"] * len(columns)]) + "\n")
    return student


def write_new_items(config: Config, item_ids: list[str], without: int = 0, size: int = 24) -> None:
    """`new_items/` and the file that `export.add_items` names, with random text vectors.

    The last `without` items have no vector. The teacher gets an autoencoder; it needs
    everything that training reads.
    """
    from kdsr_tf.sources.export_files import fingerprints

    rng = np.random.default_rng([config.seed, 5])
    with open(config.export.add_items, "w", encoding="utf-8") as file:
        file.writelines(f'{{"item_id": "{item_id}"}}\n' for item_id in item_ids)
    if stages.taught_modalities(config):
        _write_autoencoder(config, size, rng)
    inputs = stage_frame.read_inputs(config, stages.NEW_ITEMS)
    first = inputs["sequences"].counts["items"] + 1
    items = pa.array(range(first, first + len(item_ids)), pa.int32())
    encoded = len(item_ids) - without
    manifest = stage_frame.new_manifest(config, stages.NEW_ITEMS, inputs, fingerprints(config))
    manifest.counts = {"items": len(item_ids), "known": 0, "text_vectors": encoded}
    with artifacts.committing(stages.location(config, stages.NEW_ITEMS), manifest) as target:
        table = pa.table({schema.ITEM: items, schema.ITEM_ID: item_ids, schema.TITLE: item_ids})
        pq.write_table(table, os.path.join(target, "items.parquet"))
        os.makedirs(os.path.join(target, "text"))
        vectors = rng.normal(size=(encoded, size)).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size)
        table = pa.table({schema.ITEM: items[:encoded], schema.VECTOR: column})
        pq.write_table(table, os.path.join(target, "text", "vectors-00000-of-00001.parquet"))
        if "states" in inputs["features/text"].details:
            states = vectors[:, : sum(STATE_SIZES["text"])]
            _write_states(os.path.join(target, "text"), items[:encoded].to_numpy(), states)


def write_workdir(
    config: Config, num_items: int = 40, num_users: int = 60, seed: int = 0
) -> Manifest:
    """Everything that training reads; returns the manifest of its windows."""
    longest = config.windows.max_length
    write_sequences(config, num_items, num_users, longest=longest, seed=seed)
    for modality in config.modalities:
        write_features(config, modality, seed=seed)
        if modality in stages.taught_modalities(config):
            write_teacher(config, modality, seed=seed)
    for name in stages.content_of(config):
        write_item_rows(config, name)
    return write_examples(config)


def _write_autoencoder(config: Config, size: int, rng: np.random.Generator) -> None:
    from kdsr_tf.teacher.autoencoder import Autoencoder

    dim = config.model.dim
    with editing(config, "teacher/text") as target:
        Autoencoder(
            mean=np.zeros(size, np.float32),
            spread=1.0,
            encoder_kernel=rng.normal(size=(size, dim)).astype(np.float32),
            encoder_bias=np.zeros(dim, np.float32),
            decoder_kernel=np.zeros((dim, size), np.float32),
            decoder_bias=np.zeros(size, np.float32),
            activation="linear",
        ).save(os.path.join(target, "autoencoder.npz"))


def _manifest(config: Config, name: str) -> Manifest:
    stage = stages.artifact_of(config, name).stage
    return artifacts.read_manifest(stages.location(config, name), written_by=stage)


def _load_teacher(config: Config, modality: str) -> dict[str, np.ndarray | str | int]:
    folder = stages.location(config, f"teacher/{modality}")
    stems = ("vectors", "present", "codebook")
    return {stem: np.load(os.path.join(folder, f"{stem}.npy")) for stem in stems} | {
        "kind": config.teach.correlation,
        "num_domains": config.teach.num_domains,
    }


def _windows(row: dict, max_length: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    sequence, num_train = np.array(row[schema.ITEMS], np.int32), row[schema.NUM_TRAIN]
    if len(sequence) > max_length + 1:
        raise ValueError(f"Users must be short: {len(sequence)} items, max_length={max_length}.")
    has_validation = num_train >= 3
    last = num_train - 1 if has_validation else num_train
    windows = [("train", sequence[: last - 1], sequence[1:last])]
    points = [("validation", num_train - 1)] if has_validation else []
    points += [("test", point) for point in range(num_train, len(sequence))]
    for split, point in points:
        target = np.zeros(point, np.int32)
        target[-1] = sequence[point]
        windows.append((split, sequence[:point], target))
    return windows


def _pairs(items: np.ndarray, modality: str, teacher: dict) -> dict[str, np.ndarray]:
    vectors, present = teacher["vectors"], teacher["present"]
    i, j = schema.pair_positions(len(items))
    first, second = items[i], items[j]
    valid = present[first] & present[second] & (first != second)
    scores = pair_correlations.correlation(vectors[first], vectors[second], teacher["kind"])
    profiles = pair_correlations.correlation_vectors(
        vectors[first], vectors[second], teacher["num_domains"], teacher["kind"]
    )
    codes = pair_correlations.nearest_codes(profiles, teacher["codebook"])
    dtype = schema.code_dtype(len(teacher["codebook"]))
    return {
        schema.present_key(modality): present[items].astype(np.uint8),
        schema.scores_key(modality): np.where(valid, scores, 0).astype(schema.SCORE_DTYPE),
        schema.codes_key(modality): np.where(valid, codes, 0).astype(dtype),
    }
