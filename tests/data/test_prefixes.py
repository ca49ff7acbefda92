import numpy as np
import pytest
import tensorflow as tf

from kdsr_tf import schema, stages
from kdsr_tf.config import Config
from kdsr_tf.data.block_rows import count_rows
from kdsr_tf.data.examples import Examples
from kdsr_tf.errors import ConfigError
from tests import factories
from tests.data.rows import prefix_rows

MAX_LENGTH = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    config = Config(
        workdir=str(tmp_path_factory.mktemp("prefixes")),
        encode={"text": {}},
        windows={"max_length": MAX_LENGTH, "stride": 1},
        model={"dim": 8},
        teach={"num_codes": 300},
    )
    factories.write_workdir(config, num_users=40)
    return stages.location(config, "examples")


@pytest.fixture(scope="module")
def examples(directory):
    return Examples(directory, MAX_LENGTH, ("text",), prefixes=True, few_shapes=True)


def collected(dataset):
    return list(dataset.as_numpy_iterator())


def expanded(batches):
    """Every target of some windows as a window that ends there, one by one."""
    for batch in batches:
        for window, position in zip(*np.nonzero(batch["target"]), strict=True):
            size, pairs = position + 1, schema.num_pairs(position + 1)
            row = {"items": batch["items"][window, :size]}
            row["target"] = np.where(np.arange(size) == position, batch["target"][window, :size], 0)
            row["text_present"] = batch["text_present"][window, :size]
            for name in ("text_scores", "text_codes"):
                row[name] = batch[name][window, :pairs]
            yield {name: values[None] for name, values in row.items()}


def test_an_epoch_holds_every_target_once_after_its_own_history(directory, examples):
    windows = collected(Examples(directory, MAX_LENGTH, ("text",)).batches("train", 7))
    batches = collected(examples.train_batches(16, 2, seed=3))
    steps = examples.steps_per_epoch(16)
    assert len(batches) == 2 * steps
    expected = prefix_rows(expanded(windows))
    assert prefix_rows(batches[:steps]) == prefix_rows(batches[steps:]) == expected
    assert max(max(row[2], default=0) for row in expected) > 255  # codes of two bytes
    orders = [
        np.concatenate([b["items"][:, 0] for b in part])
        for part in (batches[:steps], batches[steps:])
    ]
    assert not np.array_equal(*orders)


def test_compiled_steps_see_one_shape_per_length(examples):
    batches = collected(examples.train_batches(16, 1, seed=0))
    assert {batch["items"].shape for batch in batches} == {(16, n) for n in (2, 3, 5, 8)}
    mixed = 0
    for batch in batches:
        sizes = (batch["items"] > 0).sum(axis=1)
        mixed += len(set(np.searchsorted([2, 3, 5, 8, 12], sizes[sizes > 0]))) > 1
        # One logit per prefix.
        index = batch["target_index"]
        assert len(index) == 16
        np.testing.assert_array_equal(np.flatnonzero(batch["target"]), index[index >= 0])
    assert mixed <= 3  # only where one length ends and the next begins


def test_prefixes_of_uncompiled_steps_are_padded_at_seams_only(directory):
    batches = Examples(directory, MAX_LENGTH, ("text",), prefixes=True).train_batches(16, 1, seed=0)
    padded, rows = 0, []
    for batch in collected(batches):
        sizes = np.maximum((batch["items"] > 0).sum(axis=1), 2)
        assert batch["items"].shape[1] == sizes.max()
        padded += sizes.min() < sizes.max()
        rows.append(len(sizes))
    assert padded < MAX_LENGTH - 1
    assert sorted(rows)[1:] == [16] * (len(rows) - 1)


def test_a_stream_can_start_anywhere_and_ignores_the_global_seed(examples):
    tf.random.set_seed(0)
    whole = collected(examples.train_batches(16, 2, seed=0))
    for epoch, step in ((0, 3), (1, 5)):
        tf.random.set_seed(1 + epoch)
        tail = collected(examples.train_batches(16, 2, seed=0, first_epoch=epoch, first_step=step))
        rest = whole[epoch * examples.steps_per_epoch(16) + step :]
        for batch, other in zip(rest, tail, strict=True):
            for name in batch:
                np.testing.assert_array_equal(batch[name], other[name])


def test_blocks_hold_their_own_prefixes(directory, examples, monkeypatch):
    whole = collected(examples.train_batches(16, 1, seed=0))
    monkeypatch.setattr("kdsr_tf.data.window_files.BLOCK_BYTES", 1)
    monkeypatch.setattr("kdsr_tf.data.window_files.MIN_BLOCK_WINDOWS", 16)
    blocks = Examples(directory, MAX_LENGTH, ("text",), prefixes=True)
    batches = collected(blocks.train_batches(16, 1, seed=0))
    assert len(batches) == blocks.steps_per_epoch(16)
    assert prefix_rows(batches) == prefix_rows(whole)


def test_windows_that_start_late_are_refused():
    def block(start, target):
        target = np.array(target, np.int32).tobytes()
        return {"target": tf.constant([target]), "window_start": tf.constant([start], tf.int64)}

    def counted(block):
        return count_rows(block, 3, True, [2, 3]).rows.tolist()

    assert counted(block(0, [7, 8, 9])) == [2, 1]
    assert counted(block(4, [0, 0, 9])) == [0, 1]
    with pytest.raises(ConfigError, match=r"Set windows.stride=1 and run `kdsr distill` again"):
        counted(block(4, [0, 8, 9]))
