import numpy as np
import pytest

from kdsr_tf import schema, stages
from kdsr_tf.config import Config
from kdsr_tf.data.arrays import ArrayBatches, WindowArrays, write_arrays
from kdsr_tf.data.examples import Examples
from kdsr_tf.items.content import Content
from tests import factories
from tests.data.rows import prefix_rows


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    config = Config(
        workdir=str(tmp_path_factory.mktemp("arrays")),
        encode={"text": {}},
        windows={"max_length": 9, "stride": 4},
        model={"dim": 8},
    )
    factories.write_workdir(config, num_users=30)
    return stages.location(config, "examples")


def test_batches_equal_those_of_tf_data(examples, tmp_path):
    path = str(tmp_path / "validation.npz")
    write_arrays(examples, "validation", path)
    ours = ArrayBatches(WindowArrays(path), batch_size=8, length=9)
    reader = Examples(examples, 9, ("text",), few_shapes=True)
    theirs = list(reader.batches("validation", 8).as_numpy_iterator())
    assert len(ours) == len(theirs) == 4
    for k, batch in enumerate(theirs):
        (made,) = ours[k]
        del batch["target_index"]
        assert made.keys() == batch.keys()
        for name, values in batch.items():
            assert made[name].dtype == values.dtype
            np.testing.assert_array_equal(made[name], values)


def test_content_comes_with_the_batch_as_from_tf_data(examples, tmp_path):
    path = str(tmp_path / "validation.npz")
    write_arrays(examples, "validation", path)
    content = Content({"text": np.random.default_rng(0).normal(size=(41, 3))})
    ours = ArrayBatches(WindowArrays(path), batch_size=8, length=9, content=content)
    reader = Examples(examples, 9, few_shapes=True, content=content)
    for k, batch in enumerate(reader.batches("validation", 8).as_numpy_iterator()):
        (made,) = ours[k]
        for name in ("batch_items", "content_text"):
            np.testing.assert_array_equal(made[name], batch[name])
        assert set(made["items"].ravel()) <= set(made["batch_items"])


def test_each_epoch_has_its_own_order(examples, tmp_path):
    path = str(tmp_path / "train.npz")
    write_arrays(examples, "train", path)
    windows = WindowArrays(path)
    batches, twin = (ArrayBatches(windows, 8, 9, seed=1) for _ in range(2))

    def epoch():
        return [tuple(w[w > 0]) for (batch,) in batches for w in batch["items"] if w.any()]

    first = epoch()
    np.testing.assert_array_equal(twin[0][0]["items"], batches[0][0]["items"])
    shapes = {batch["items"].shape for (batch,) in batches}
    assert len(shapes) == len({length for _, length in shapes}) > 1
    batches.on_epoch_end()
    second = epoch()
    assert first != second and sorted(first) == sorted(second)
    assert len(first) == len(windows)


def test_prefixes_equal_those_of_tf_data(examples, tmp_path):
    path = str(tmp_path / "train.npz")
    write_arrays(examples, "train", path)
    ours = ArrayBatches(WindowArrays(path), batch_size=8, length=9, seed=2, prefixes=True)
    reader = Examples(examples, 9, ("text",), prefixes=True)
    theirs = reader.train_batches(8, 1, seed=0).as_numpy_iterator()
    rows = [prefix_rows(batches) for batches in ((batch for (batch,) in ours), theirs)]
    assert rows[0] == rows[1]
    assert len(ours) == reader.steps_per_epoch(8)
    for (batch,) in ours:
        index = batch["target_index"]
        assert len(index) == len(batch["items"])
        np.testing.assert_array_equal(np.flatnonzero(batch["target"]), index[index >= 0])
    twin = ArrayBatches(WindowArrays(path), batch_size=8, length=9, seed=2, prefixes=True)
    np.testing.assert_array_equal(ours[0][0]["items"], twin[0][0]["items"])


def test_windows_without_pairs_have_zero_pairs(examples, tmp_path):
    path = str(tmp_path / "test.npz")
    write_arrays(examples, "test", path)
    (batch,) = ArrayBatches(WindowArrays(path), batch_size=4, length=9)[0]
    assert batch["items"].any() and not batch["text_scores"].any()
    assert batch["text_scores"].shape == (4, schema.num_pairs(batch["items"].shape[1]))
