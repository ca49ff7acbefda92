import hashlib
import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from beam_pipelines import distill as distill_module
from beam_pipelines.distill import distill
from beam_pipelines.transforms import item_vectors
from beam_pipelines.transforms.cut_windows import cut_windows
from beam_pipelines.transforms.item_vectors import read_teacher
from kdsr_tf import schema, stages
from kdsr_tf.config import load_config
from kdsr_tf.data.arrays import WindowArrays, write_arrays
from kdsr_tf.data.examples import Examples
from kdsr_tf.errors import InputError, MissingArtifactError
from kdsr_tf.teacher import pair_correlations
from tests import factories
from tests.nearness import assert_near

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def _config(workdir, *overrides):
    small = ["model.dim=16", "teach.num_codes=12", "windows.max_length=12", "windows.stride=6"]
    return load_config(overrides=[*small, *overrides], workdir=str(workdir))


def _digest(config):
    folder = stages.location(config, stages.windows_of(config))
    digest = hashlib.md5()
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(set(names) - {"manifest.json"}):
            digest.update(os.path.relpath(os.path.join(root, name), folder).encode())
            with open(os.path.join(root, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def _read(config, split):
    builder = tfds.builder_from_directory(stages.location(config, stages.windows_of(config)))
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    return list(tfds.as_numpy(builder.as_dataset(split=split, read_config=in_order)))


def _cut(length, num_train, max_length=4, stride=2):
    sequence = np.arange(1, length + 1, dtype=np.int32)
    return [
        (window.split, window.items.tolist(), window.target.tolist(), window.start)
        for window in cut_windows(sequence, num_train, max_length, stride)
    ]


def test_windows_of_a_long_user():
    assert _cut(10, 8) == [
        ("train", [1, 2, 3, 4], [2, 3, 4, 5], 0),
        ("train", [3, 4, 5, 6], [0, 0, 6, 7], 2),
        ("validation", [4, 5, 6, 7], [0, 0, 0, 8], 3),
        ("test", [5, 6, 7, 8], [0, 0, 0, 9], 4),
        ("test", [6, 7, 8, 9], [0, 0, 0, 10], 5),
    ]


@pytest.mark.parametrize(
    "length, num_train, splits",
    [
        (1, 1, []),
        (2, 2, ["train"]),
        (2, 0, ["test"]),
        (2, 1, ["test"]),
        (3, 3, ["train", "validation"]),
        (4, 2, ["train", "test", "test"]),
    ],
)
def test_windows_of_short_users(length, num_train, splits):
    assert [window[0] for window in _cut(length, num_train)] == splits


def test_without_modalities_windows_hold_items_only(tmp_path):
    config = _config(tmp_path)
    factories.write_sequences(config)
    manifest = distill(config)
    windows = _read(config, "train")
    assert len(windows) == manifest.counts["train_windows"] > 0
    assert set(windows[0]) == {"user_id", "items", "target", "window_start"}
    assert manifest.counts["pairs"] == 0


def test_a_modality_of_two_items_gives_one_kind_of_pair(tmp_path):
    config = _config(tmp_path, "encode.text={}")
    factories.write_sequences(config, num_items=8)
    factories.write_features(config, "text")
    vectors, present, codebook = factories.write_teacher(config, "text", absent=0)
    present[:] = False
    present[[2, 5]] = True
    with factories.editing(config, "teacher/text") as folder:
        np.save(os.path.join(folder, "present.npy"), present)
    manifest = distill(config)
    score = pair_correlations.correlation(vectors[2], vectors[5]).astype(np.float16)
    code = pair_correlations.nearest_codes(
        pair_correlations.correlation_vectors(vectors[2], vectors[5], 8), codebook
    )
    found = 0
    for window in _read(config, "train") + _read(config, "validation"):
        i, j = schema.pair_positions(len(window["items"]))
        ends = np.sort(np.stack([window["items"][i], window["items"][j]]), axis=0)
        valid = (ends[0] == 2) & (ends[1] == 5)
        found += valid.sum()
        assert_near(window["text_scores"], np.where(valid, score, 0), 1e-3)
        np.testing.assert_array_equal(window["text_codes"], np.where(valid, code, 0))
    assert manifest.counts["pairs"] == found > 0
    assert all(not len(window["text_scores"]) for window in _read(config, "test"))


def _divide(config, num_files):
    """The one file of `write_sequences` as several, user k in file k % num_files."""
    with factories.editing(config, "sequences") as folder:
        whole = os.path.join(folder, "sequences-00000-of-00001.parquet")
        table = pq.read_table(whole)
        os.remove(whole)
        for k in range(num_files):
            path = os.path.join(folder, f"sequences-{k:05d}-of-{num_files:05d}.parquet")
            pq.write_table(table.take(np.arange(k, len(table), num_files)), path)
    return table


@pytest.mark.parametrize("beam_args", [(), pytest.param(TWO_PROCESSES, marks=pytest.mark.slow)])
def test_every_file_of_users_becomes_one_of_windows_in_its_order(tmp_path, beam_args, monkeypatch):
    config = _config(tmp_path, "encode.text={}")
    factories.write_sequences(config)
    factories.write_features(config, "text")
    factories.write_teacher(config, "text")
    user_ids = _divide(config, 3)[schema.USER_ID].to_pylist()
    manifest = distill(config, beam_args)
    assert manifest.counts["shards"] == 3
    found = [window["user_id"].decode() for window in _read(config, "validation")]
    assert found == [user for k in range(3) for user in user_ids[k::3]]
    before = _digest(config)
    monkeypatch.setattr(distill_module, "_PAIRS_PER_CHUNK", 100)
    assert distill(config).counts == manifest.counts
    assert _digest(config) == before


def _two_modalities(workdir):
    config = _config(workdir, "encode.image={}", "encode.text={}")
    factories.write_sequences(config)
    for modality in config.modalities:
        factories.write_features(config, modality)
        factories.write_teacher(config, modality)
    return config


@pytest.mark.parametrize("beam_args", [(), pytest.param(TWO_PROCESSES, marks=pytest.mark.slow)])
def test_joined_vectors_give_the_bytes_of_mapped_ones(tmp_path, beam_args):
    config = _two_modalities(tmp_path)
    _divide(config, 3)
    distill(config)
    mapped = _digest(config)
    # The joining run must not depend on the file that a mapping run would read whole.
    config.distill.vectors_on_disk_limit_bytes = 2 * 41 * 16 * 4 + 2 * 128 - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_vectors, "map_vectors", lambda folder: pytest.fail("mapped"))
        manifest = distill(config, beam_args)
    assert _digest(config) == mapped
    assert manifest.counts["pairs"] > 0


def test_joined_vectors_are_read_in_ranges(tmp_path, monkeypatch):
    table = np.random.default_rng(0).normal(size=(23, 5)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", table)
    parts = [list(item_vectors.read_vectors(start, str(tmp_path), 10)) for start in (20, 0, 10)]
    assert [len(part) for part in parts] == [3, 10, 10]
    joined = item_vectors.JoinedVectors([vector for part in parts for vector in part])
    items = np.array([[22, 0, 7], [7, 19, 20]])
    np.testing.assert_array_equal(joined[items], table[items])


def test_a_remote_workdir_holds_the_same_examples(tmp_path):
    local = _two_modalities(tmp_path / "local")
    _divide(local, 3)
    remote = _config("memory://remote", "encode.image={}", "encode.text={}")
    filesystem = fsspec.filesystem("memory")
    filesystem.put(f"{local.workdir}/", "/remote/", recursive=True)
    distill(local)
    distill(remote)
    copied = _config(tmp_path / "copied", "encode.image={}", "encode.text={}")
    filesystem.get("/remote/examples", f"{copied.workdir}/examples", recursive=True)
    assert _digest(copied) == _digest(local)
    assert len(_read(copied, "train")) == len(_read(local, "train")) > 0


def test_a_remote_file_is_copied_once_per_version(tmp_path, monkeypatch):
    monkeypatch.setattr(item_vectors.tempfile, "gettempdir", lambda: str(tmp_path))
    fsspec.filesystem("memory").pipe("/teacher/vectors.npy", b"one")
    copy = item_vectors.local_copy("memory://teacher/vectors.npy")
    before = os.stat(copy).st_mtime_ns
    assert item_vectors.local_copy("memory://teacher/vectors.npy") == copy
    assert os.stat(copy).st_mtime_ns == before
    fsspec.filesystem("memory").pipe("/teacher/vectors.npy", b"another")
    again = item_vectors.local_copy("memory://teacher/vectors.npy")
    with open(again, "rb") as file:
        assert file.read() == b"another"
    assert not os.path.exists(copy)


def test_splits_without_windows_are_empty_to_readers(tmp_path):
    config = _config(tmp_path)
    factories.write_sequences(config)
    with factories.editing(config, "sequences") as folder:
        path = os.path.join(folder, "sequences-00000-of-00001.parquet")
        table = pq.read_table(path)
        two = pa.array([[3, 5]] * len(table), pa.list_(pa.int32()))
        table = table.set_column(1, "items", two).set_column(
            3, "num_train", pa.array([2] * len(table), pa.int32())
        )
        pq.write_table(table, path)
    manifest = distill(config)
    assert manifest.counts["validation_windows"] == manifest.counts["test_windows"] == 0
    examples = Examples(stages.location(config, stages.windows_of(config)), 12)
    assert examples.num_windows("validation") == 0
    assert list(examples.batches("validation", 4)) == []
    both = list(examples.train_batches(64, 1, seed=0, splits=("train", "validation")))
    assert sum(len(batch["items"]) for batch in both) == 60
    write_arrays(
        stages.location(config, stages.windows_of(config)), "test", str(tmp_path / "test.npz")
    )
    assert len(WindowArrays(str(tmp_path / "test.npz"))) == 0


def test_a_score_beyond_float16_is_an_error_that_names_the_pair(tmp_path):
    config = _config(tmp_path, "encode.text={}", "teach.correlation=dot", "teach.scale=none")
    factories.write_sequences(config)
    factories.write_features(config, "text")
    vectors, _, _ = factories.write_teacher(config, "text")
    with factories.editing(config, "teacher/text") as folder:
        np.save(os.path.join(folder, "vectors.npy"), vectors * 300)
    with pytest.raises(InputError, match=r"dot of items \d+ and \d+ .*teach.scale=std"):
        distill(config)
    assert not os.path.exists(stages.location(config, stages.windows_of(config)))


@pytest.mark.parametrize("kind", ["euclidean", "manhattan"])
def test_scores_and_profiles_are_divided_by_the_teachers_scales(tmp_path, kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 16)).astype(np.float32)
    codebook = rng.uniform(0, 3, size=(12, 4)).astype(np.float32)
    for stem, array in (
        ("vectors", vectors),
        ("present", np.arange(6) > 0),
        ("codebook", codebook),
    ):
        np.save(tmp_path / f"{stem}.npy", array)
    details = {
        "correlation": kind,
        "num_domains": 4,
        "score_scale": 4.0,
        "vector_scale": 0.5,
        "num_codes": 12,
    }
    window = np.array([[1, 2, 3, 1, 4]], np.int32)
    _, scores, codes, num_valid = read_teacher(str(tmp_path), details).correlate(window)
    i, j = schema.pair_positions(5)
    first, second = vectors[window[0, i]], vectors[window[0, j]]
    same = window[0, i] == window[0, j]
    assert num_valid == 9
    np.testing.assert_allclose(
        scores[0], pair_correlations.correlation(first, second, kind) / 4, rtol=1e-3
    )
    expected = pair_correlations.nearest_codes(
        pair_correlations.correlation_vectors(first, second, 4, kind) / 0.5, codebook
    )
    np.testing.assert_array_equal(codes[0], np.where(same, 0, expected))


def test_missing_teachers_name_the_stage(tmp_path):
    config = _config(tmp_path, "encode.text={}")
    factories.write_sequences(config)
    with pytest.raises(MissingArtifactError, match="kdsr teach"):
        distill(config)
