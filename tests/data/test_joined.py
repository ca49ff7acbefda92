from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.transforms import tfds_records
from kdsr_tf import schema, splits
from kdsr_tf.data.examples import Examples
from kdsr_tf.data.window_files import WindowFiles
from tests import factories

MAX_LENGTH, STRIDE = 6, 4
LENGTHS = [*range(1, 20)] * 2
BOTH = ("train", "validation")


def windows_of(user, items):
    """What `distill` makes of a user whose every interaction is train."""
    found = {split: [] for split in schema.SPLITS}
    for start, stop, first_loss in splits.training_windows(
        splits.num_inputs(len(items)), MAX_LENGTH, STRIDE
    ):
        target = items[start + 1 : stop + 1].copy()
        target[:first_loss] = 0
        found["train"].append((start, items[start:stop], target))
    if splits.has_validation(len(items)):
        start, stop = splits.evaluation_span(len(items) - 1, MAX_LENGTH)
        target = np.zeros(stop - start, np.int32)
        target[-1] = items[stop]
        found["validation"].append((start, items[start:stop], target))
    return {
        split: [
            {
                schema.USER_ID: f"user{user}",
                schema.ITEMS: inputs,
                schema.TARGET: target,
                schema.WINDOW_START: start,
            }
            for start, inputs, target in windows
        ]
        for split, windows in found.items()
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("examples"))
    features = tfds_records.example_features({})
    encode = tfds_records.record_encoder(features)
    rng = np.random.default_rng(0)
    users = [
        windows_of(number, rng.integers(1, 500, length).astype(np.int32))
        for number, length in enumerate(LENGTHS)
    ]
    shards = {}
    for split in schema.SPLITS:
        records = [encode(window) for user in users for window in user[split]]
        path = tfds_records.shard_path(folder, split, 0, 1)
        shards[split] = [factories.write_records(path, records)]
    tfds_records.write_dataset_info(folder, features, shards)
    return folder


def points(batches):
    """Every target with the items before it, and how many windows there were."""
    found, windows = Counter(), 0
    for batch in batches:
        windows += len(batch["items"])
        for items, targets in zip(batch["items"], batch["target"], strict=True):
            for place in np.flatnonzero(targets):
                found[tuple(items[: place + 1].tolist()), int(targets[place])] += 1
    return found, windows


def test_joined_windows_have_every_target_of_both_splits_after_its_own_history(directory):
    examples = Examples(directory, MAX_LENGTH)
    apart = [points(examples.batches(split, 7).as_numpy_iterator()) for split in BOTH]
    batches = list(examples.train_batches(7, 1, seed=1, splits=BOTH).as_numpy_iterator())
    joined, windows = points(batches)
    assert joined == apart[0][0] + apart[1][0]
    once = sum(2 < length - 1 <= MAX_LENGTH for length in LENGTHS)
    assert windows == apart[0][1] + apart[1][1] - once
    assert examples.steps_per_epoch(7, BOTH) == len(batches)
    assert windows / 7 <= len(batches) < windows / 7 + MAX_LENGTH


def test_the_mixture_is_even_and_the_same_whatever_the_global_seed(directory):
    def batches(seed):
        tf.random.set_seed(seed)
        stream = Examples(directory, MAX_LENGTH).train_batches(7, 2, seed=1, splits=BOTH)
        return [batch["items"].tolist() for batch in stream.as_numpy_iterator()]

    assert batches(1) == batches(2)
    windows = WindowFiles(directory, MAX_LENGTH).windows([schema.WINDOW_START], BOTH)
    late = np.array([window["window_start"] > 0 for window in windows.as_numpy_iterator()])
    places = np.flatnonzero(late) / len(late)
    assert places.min() < 0.3 and places.max() > 0.9
