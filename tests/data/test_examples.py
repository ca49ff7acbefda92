import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from beam_pipelines.transforms import tfds_records
from kdsr_tf import schema, stages
from kdsr_tf.config import Config
from kdsr_tf.data.examples import Examples
from tests import factories

MAX_LENGTH = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    config = Config(
        workdir=str(tmp_path_factory.mktemp("examples")),
        encode={"text": {}, "image": {}},
        windows={"max_length": MAX_LENGTH, "stride": 6},
        model={"dim": 8},
        teach={"num_codes": 300},
    )
    factories.write_workdir(config, num_users=40)
    return stages.location(config, "examples")


@pytest.fixture(scope="module")
def examples(directory):
    return Examples(directory, MAX_LENGTH, ("image", "text"))


def collected(dataset):
    return list(dataset.as_numpy_iterator())


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def windows_of(batches):
    """Items and targets of every window as one hashable tuple."""
    return [
        tuple(items[items > 0].tolist() + target[items > 0].tolist())
        for batch in batches
        for items, target in zip(batch["items"], batch["target"], strict=True)
    ]


def test_batches_hold_what_tfds_reads(directory, examples):
    windows = tfds.builder_from_directory(directory).as_dataset("validation", shuffle_files=False)
    windows = sorted(collected(windows), key=lambda window: len(window["items"]))
    rows = [
        {name: values[k] for name, values in batch.items() if not schema.is_of_whole_batch(name)}
        for batch in collected(examples.batches("validation", 7))
        for k in range(len(batch["items"]))
    ]
    assert len(rows) == len(windows) == examples.num_windows("validation") == 40
    assert examples.num_batches("validation", 7) == 6
    for row, window in zip(rows, windows, strict=True):
        for name, values in row.items():
            size = len(window[name])
            np.testing.assert_array_equal(values[:size], window[name])
            assert not values[size:].any()
    assert rows[0]["text_scores"].dtype == np.float16
    assert rows[0]["text_codes"].dtype == np.int32
    assert max(row["text_codes"].max() for row in rows) > 255


def test_windows_of_a_batch_are_of_like_length_and_padded_to_the_longest(examples):
    batches = collected(examples.train_batches(8, 1, seed=0))
    mixed = 0
    for batch in batches:
        sizes = np.maximum((batch["items"] > 0).sum(axis=1), 2)
        assert batch["items"].shape[1] == sizes.max()
        assert batch["text_scores"].shape[1] == schema.num_pairs(sizes.max())
        mixed += sizes.min() < sizes.max()
    assert mixed <= MAX_LENGTH - 2  # at most once per length, where the next one begins
    lengths = [batch["items"].shape[1] for batch in batches]
    assert lengths != sorted(lengths)


def test_compiled_steps_see_few_shapes(directory, examples):
    compiled = Examples(directory, MAX_LENGTH, ("text",), few_shapes=True)
    batches = collected(compiled.train_batches(8, 3, seed=0))
    assert len(batches) == 3 * compiled.steps_per_epoch(8)
    shapes = {batch["items"].shape for batch in batches}
    assert len(shapes) == len({length for _, length in shapes})
    assert {length for _, length in shapes} <= {2, 3, 5, 8, 12}
    found = [window for window in windows_of(batches) if window]
    assert sorted(found) == sorted(3 * windows_of(collected(examples.batches("train", 8))))
    for batch in batches:
        index = batch["target_index"]
        np.testing.assert_array_equal(np.flatnonzero(batch["target"]), index[index >= 0])
        assert len(index) % len(batch["items"]) == 0
        empty = batch["items"][:, 0] == 0
        rows = [values for name, values in batch.items() if name[0] not in "tw"]
        assert not any(values[empty].any() for values in rows)


def test_a_sample_mixes_lengths(examples):
    (batch,) = collected(examples.sample(16, seed=0))
    sizes = (batch["items"] > 0).sum(axis=1)
    assert len(sizes) == 16 and sizes.min() < sizes.max() == batch["items"].shape[1]
    assert_same(collected(examples.sample(16, seed=0)), [batch])
    (other,) = collected(examples.sample(16, seed=1))
    assert not np.array_equal(other["items"], batch["items"])


def test_windows_of_one_item_are_padded_to_a_pair(tmp_path):
    features = tfds_records.example_features({"text": 5})
    window = {
        schema.USER_ID: "user",
        schema.ITEMS: np.array([3], np.int32),
        schema.TARGET: np.array([4], np.int32),
        schema.WINDOW_START: 0,
        "text_present": np.ones(1, np.uint8),
        "text_scores": np.zeros(0, np.float16),
        "text_codes": np.zeros(0, np.uint8),
    }
    records = [tfds_records.record_encoder(features)(window)] * 3
    shards = {
        split: [
            factories.write_records(tfds_records.shard_path(str(tmp_path), split, 0, 1), records)
        ]
        for split in schema.SPLITS
    }
    tfds_records.write_dataset_info(str(tmp_path), features, shards)
    (batch,) = collected(Examples(str(tmp_path), 4, ("text",)).batches("train", 3))
    assert batch["items"].tolist() == [[3, 0]] * 3
    assert batch["text_present"].tolist() == [[True, False]] * 3
    assert batch["text_scores"].tolist() == batch["text_codes"].tolist() == [[0]] * 3
    (batch,) = collected(Examples(str(tmp_path), 1, ("text",)).batches("train", 3))
    assert batch["items"].tolist() == [[3]] * 3
    assert batch["text_scores"].shape == batch["text_codes"].shape == (3, 0)


def test_an_epoch_holds_every_window_once_in_its_own_order(examples):
    batches = collected(examples.train_batches(8, 2, seed=3))
    steps = examples.steps_per_epoch(8)
    assert len(batches) == 2 * steps
    first, second = windows_of(batches[:steps]), windows_of(batches[steps:])
    in_order = windows_of(collected(examples.batches("train", 8)))
    assert sorted(first) == sorted(second) == sorted(in_order)
    assert len({tuple(first), tuple(second), tuple(in_order)}) == 3


def test_a_stream_can_start_anywhere_and_ignores_the_global_seed(examples):
    tf.random.set_seed(0)
    whole = collected(examples.train_batches(8, 3, seed=0))
    for epoch, step in ((0, 2), (1, 0), (2, 4)):
        tf.random.set_seed(1 + epoch)
        tail = collected(examples.train_batches(8, 3, seed=0, first_epoch=epoch, first_step=step))
        assert_same(whole[epoch * examples.steps_per_epoch(8) + step :], tail)


def test_small_blocks_are_shuffled_within(directory, monkeypatch):
    monkeypatch.setattr("kdsr_tf.data.window_files.BLOCK_BYTES", 1)
    monkeypatch.setattr("kdsr_tf.data.window_files.MIN_BLOCK_WINDOWS", 16)
    examples = Examples(directory, MAX_LENGTH)
    batches = collected(examples.train_batches(8, 1, seed=0))
    assert len(batches) == examples.steps_per_epoch(8)
    in_order = windows_of(collected(examples.batches("train", 16)))
    block_of = {window: place // 16 for place, window in enumerate(in_order)}
    blocks = [{block_of[window] for window in windows_of([batch])} for batch in batches]
    assert all(len(found) == 1 for found in blocks)
    assert blocks == sorted(blocks, key=min) and len({min(found) for found in blocks}) > 2
    shuffled = windows_of(batches)
    assert shuffled != in_order and sorted(shuffled) == sorted(in_order)


def test_every_window_of_an_epoch_has_the_same_share(examples):
    """Windows over targets of the epoch, so that means over windows are those of random batches."""
    batches = collected(examples.train_batches(8, 1, seed=0))
    shares = {tuple(batch["windows_per_target"].tolist()) for batch in batches}
    windows = sum(len(batch["items"]) for batch in batches)
    targets = sum(int((batch["target"] > 0).sum()) for batch in batches)
    assert shares == {(windows, targets)}
