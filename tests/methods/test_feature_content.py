"""Rows of vectors and states, and their reading as content of computed items."""

import errno
import os

import fsspec
import numpy as np
import pytest

from kdsr_tf import artifacts, stages
from kdsr_tf.config import load_config, methods
from kdsr_tf.errors import MissingArtifactError, StaleArtifactError
from kdsr_tf.methods.feature_content import map_array, read_content, read_statistics
from kdsr_tf.teacher.feature_files import Features, States
from kdsr_tf.teacher.teach import teach
from tests import factories


@pytest.fixture
def encoded(tmp_path, monkeypatch):
    """A configuration of a method that reads texts, whose vectors are there."""
    monkeypatch.setitem(methods.NEEDS, "own", lambda config: methods.Needs(content=("text",)))
    overrides = ["model.method=own", "encode.text.encoder=embedded"]
    config = load_config(overrides=overrides, workdir=str(tmp_path / "work"))
    factories.write_sequences(config)
    factories.write_features(config, "text", absent=0.2)
    return config


@pytest.fixture
def with_states(tmp_path):
    overrides = ["model.method=iisan", "encode.text.states.groups=2"]
    config = load_config(overrides=overrides, workdir=str(tmp_path / "work"))
    factories.write_sequences(config)
    factories.write_features(config, "text", absent=0.2)
    return config


def test_items_without_the_modality_are_zeros_and_absent(encoded):
    (manifest,) = teach(encoded)
    assert manifest.artifact == "content/text"
    content = read_content(encoded)
    expected = np.zeros((41, 24), "float32")
    for items, vectors in Features(stages.location(encoded, "features/text"), 24).batches():
        expected[items] = vectors
    found = content.rows(np.arange(41))
    assert np.array_equal(found["text"], expected)
    assert np.array_equal(found["text_present"], expected.any(axis=1))
    assert not content.any_present()[0] and 0 < content.any_present().sum() < 40
    there = int(found["text_present"].sum())
    assert manifest.counts == {"items": there, "absent": 40 - there}
    assert read_statistics(encoded) == {}


def test_states_keep_their_bits_and_their_statistics_are_those_of_the_items_that_have_them(
    with_states,
):
    (manifest,) = teach(with_states)
    sizes = factories.STATE_SIZES["text"]
    assert manifest.details == {"sizes": list(sizes), "dtype": "float16"}
    expected = np.zeros((41, sum(sizes)), "float16")
    present = np.zeros(41, bool)
    folder = stages.location(with_states, "features/text")
    for items, states in States(folder, sizes).batches():
        expected[items], present[items] = states, True
    content = read_content(with_states)
    found = content.rows(np.arange(41))
    assert found["text_states"].dtype == np.float16
    assert np.array_equal(found["text_states"], expected)
    assert np.array_equal(found["text_present"], present)
    statistics = read_statistics(with_states)["text"]
    rows = expected[present].astype("float64")
    assert statistics.sizes == sizes
    np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-12)
    squares = np.square(rows - rows.mean(0)).reshape(len(rows), len(sizes), -1)
    np.testing.assert_allclose(statistics.deviation, np.sqrt(squares.mean((0, 2))), rtol=1e-10)


def test_rows_are_written_once_and_not_read_when_they_are_of_other_features(with_states):
    with pytest.raises(MissingArtifactError, match="Run `kdsr teach` first"):
        read_content(with_states)
    (first,), (second,) = teach(with_states), teach(with_states)
    assert first == second
    path = os.path.join(stages.location(with_states, "states/text"), "rows.npy")
    assert isinstance(map_array(path), np.memmap)
    other = load_config(
        overrides=["model.method=iisan", "encode.text.states.groups=3"],
        workdir=with_states.workdir,
    )
    with pytest.raises(StaleArtifactError, match=r"encode\.text\.states\.groups"):
        teach(other)


def test_a_remote_working_directory_has_the_same_rows(with_states):
    store = fsspec.filesystem("memory")
    for name in ("sequences", "features"):
        store.put(os.path.join(with_states.workdir, name), f"/side-shop/{name}", recursive=True)
    remote = with_states.model_copy(update={"workdir": "memory://side-shop"})
    teach(with_states)
    teach(remote)
    here, there = (read_content(config).rows(np.arange(41)) for config in (with_states, remote))
    for name, values in here.items():
        assert np.array_equal(there[name], values) and values.any()
    statistics = [read_statistics(config)["text"] for config in (with_states, remote)]
    assert np.array_equal(statistics[0].mean, statistics[1].mean)


def test_a_remote_array_is_mapped_from_a_local_copy():
    rows = np.arange(12, dtype="float16").reshape(4, 3)
    with fsspec.open("memory://shop/rows.npy", "wb") as file:
        np.save(file, rows)
    found = map_array("memory://shop/rows.npy")
    assert isinstance(found, np.memmap) and np.array_equal(found, rows)
    assert found.dtype == np.float16


def test_a_full_disk_is_an_error_before_anything_is_written_to_memory(encoded, monkeypatch):
    def full(descriptor, start, size):
        assert start == 0 and size >= 41 * 24 * 4
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        teach(encoded)
    assert artifacts.find_manifest(stages.location(encoded, "content/text")) is None
