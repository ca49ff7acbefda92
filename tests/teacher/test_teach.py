import json
import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf import stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.teacher import pair_correlations
from kdsr_tf.teacher.autoencoder import Autoencoder
from kdsr_tf.teacher.teach import teach
from tests import factories


def _config(workdir, *overrides):
    small = ["encode.text={}", "model.dim=16", "teach.num_codes=12", "windows.max_length=12"]
    return load_config(overrides=[*small, "windows.stride=6", *overrides], workdir=str(workdir))


def _load(config, modality="text"):
    folder = stages.location(config, f"teacher/{modality}")
    return tuple(
        np.load(os.path.join(folder, f"{s}.npy")) for s in ("vectors", "present", "codebook")
    )


@pytest.fixture
def config(tmp_path):
    config = _config(tmp_path)
    factories.write_sequences(config)
    factories.write_features(config, "text")
    return config


def test_the_artifact_follows_the_contract(config):
    (manifest,) = teach(config)
    vectors, present, codebook = _load(config)
    assert vectors.shape == (41, 16) and vectors.dtype == np.float32
    assert codebook.shape == (12, 8) and codebook.dtype == np.float32
    folder = stages.location(config, "features/text")
    items = pq.read_table(os.path.join(folder, "vectors-00000-of-00001.parquet")).column("item")
    assert np.flatnonzero(present).tolist() == items.to_pylist()
    assert not present[0] and 0 < present.sum() < 40
    assert not vectors[~present].any() and np.abs(vectors[present]).sum(1).all()
    assert manifest.counts["items"] == present.sum()
    assert manifest.details["score_scale"] == manifest.details["vector_scale"] == 1.0


def test_the_report_describes_the_codes_of_pairs_with_the_modality(config):
    (manifest,) = teach(config)
    vectors, present, codebook = _load(config)
    with open(os.path.join(stages.location(config, "teacher/text"), "report.json")) as file:
        report = json.load(file)
    pairs = pq.read_table(os.path.join(stages.location(config, "sequences"), "pairs.parquet"))
    first, second = (pairs.column(name).to_numpy() for name in ("first", "second"))
    both = present[first] & present[second]
    assert manifest.counts["pairs"] == both.sum() < len(first)
    profiles = pair_correlations.correlation_vectors(vectors[first[both]], vectors[second[both]], 8)
    codes = pair_correlations.nearest_codes(profiles, codebook)
    described = report["codebook"]["codes"]
    assert [code["count"] for code in described] == np.bincount(codes, minlength=12).tolist()
    assert sum(report["scores"]["histogram"]["counts"]) == both.sum()
    nearest = np.array(described[3]["pairs"][0])
    profile = pair_correlations.correlation_vectors(vectors[nearest[0]], vectors[nearest[1]], 8)
    assert pair_correlations.nearest_codes(profile, codebook) == 3
    errors = np.square(profiles - codebook[codes]).sum(1)
    assert report["codebook"]["quantisation_error"] == pytest.approx(errors.mean(), rel=1e-4)
    assert np.square(profile - codebook[3]).sum() == pytest.approx(
        errors[codes == 3].min(), abs=1e-5
    )


@pytest.mark.parametrize("kind", ["linear", "sigmoid"])
def test_the_report_says_what_the_condensed_vectors_keep(config, kind):
    config.teach.autoencoder, config.teach.epochs = kind, 2
    (manifest,) = teach(config)
    folder = stages.location(config, "teacher/text")
    with open(os.path.join(folder, "report.json")) as file:
        report = json.load(file)
    features = stages.location(config, "features/text")
    table = pq.read_table(os.path.join(features, "vectors-00000-of-00001.parquet"))
    vectors = np.array(table.column("vector").to_pylist(), np.float32)
    autoencoder = Autoencoder.load(os.path.join(folder, "autoencoder.npz"))
    codes = autoencoder.encode(vectors)
    errors = np.square(vectors - autoencoder.decode(codes))
    kept = report["reconstruction"]
    assert kept["mean_squared_error"] == pytest.approx(errors.mean(), rel=1e-4)
    share = errors.sum() / np.square(vectors - vectors.mean(0)).sum()
    assert kept["unexplained_share"] == pytest.approx(share, rel=1e-4) and 0 < share < 1.5
    assert manifest.details["unexplained_variance"] == kept["unexplained_share"]
    variance = codes.var(0).reshape(8, 2).sum(1)
    assert report["sub_vector_variance"] == pytest.approx(variance, rel=1e-4)


def test_a_second_run_skips_and_another_directory_gives_equal_bytes(config, tmp_path):
    (manifest,) = teach(config)
    path = os.path.join(stages.location(config, "teacher/text"), "vectors.npy")
    written = os.stat(path).st_mtime_ns
    assert teach(config) == [manifest]
    assert os.stat(path).st_mtime_ns == written
    other = _config(tmp_path / "other")
    factories.write_sequences(other)
    factories.write_features(other, "text")
    teach(other)
    for mine, theirs in zip(_load(config), _load(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_remote_workdir_holds_the_same_teacher(config):
    filesystem = fsspec.filesystem("memory")
    filesystem.put(f"{config.workdir}/", "/taught/", recursive=True)
    teach(config)
    remote = _config("memory://taught")
    (manifest,) = teach(remote)
    assert teach(remote) == [manifest]
    local = stages.location(config, "teacher/text")
    for name in sorted(set(os.listdir(local)) - {"manifest.json", "autoencoder.npz"}):
        with open(os.path.join(local, name), "rb") as file:
            assert filesystem.cat(f"/taught/teacher/text/{name}") == file.read(), name


@pytest.mark.parametrize("kind", ["dot", "euclidean", "manhattan"])
def test_unbounded_correlations_are_scaled_to_unit_deviation(config, kind):
    config.teach.correlation = kind
    (manifest,) = teach(config)
    with open(os.path.join(stages.location(config, "teacher/text"), "report.json")) as file:
        assert json.load(file)["scores"]["std"] == pytest.approx(1, rel=1e-4)
    assert manifest.details["score_scale"] > 0 and manifest.details["score_scale"] != 1
    config.teach.scale = "none"
    assert teach(config)[0].details["score_scale"] == 1


def test_the_sigmoid_variant_writes_positive_vectors(config):
    config.teach.autoencoder = "sigmoid"
    config.teach.epochs = 2
    teach(config)
    vectors, present, _ = _load(config)
    assert (vectors[present] > 0).all() and not vectors[~present].any()


def test_vq_reports_its_error_over_that_of_kmeans(config):
    config.teach.codebook = "vq"
    (manifest,) = teach(config)
    error = manifest.details["quantisation_error"]
    ratio = manifest.details["error_over_kmeans"]
    assert manifest.details["used_share"] >= 0.9 and 0.8 < ratio <= 1.1
    config.teach.codebook = "kmeans"
    (manifest,) = teach(config)
    assert error / manifest.details["quantisation_error"] == pytest.approx(ratio, rel=1e-4)
    assert manifest.details["error_over_kmeans"] == 1


@pytest.mark.parametrize("num_domains, num_codes", [(1, 1), (16, 300)])
def test_the_numbers_of_domains_and_codes_are_free(tmp_path, num_domains, num_codes):
    config = _config(tmp_path, f"teach.num_domains={num_domains}", f"teach.num_codes={num_codes}")
    factories.write_sequences(config, num_users=200)
    factories.write_features(config, "text")
    (manifest,) = teach(config)
    assert _load(config)[2].shape == (num_codes, num_domains)
    assert manifest.details["num_codes"] == num_codes


def test_collapsed_codes_are_a_warning_in_the_manifest_and_on_the_console(config, capsys):
    with factories.editing(config, "features/text") as folder:
        path = os.path.join(folder, "vectors-00000-of-00001.parquet")
        table = pq.read_table(path)
        vectors = np.array(table.column("vector").to_pylist(), np.float32)
        vectors[6:] = vectors[6]  # most items look alike, few pairs differ
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        pq.write_table(table.set_column(1, "vector", column), path)
    (manifest,) = teach(config)
    assert any("the codes collapse" in warning for warning in manifest.details["warnings"])
    assert "the codes collapse" in " ".join(capsys.readouterr().err.split())


def test_too_few_vectors_reduce_the_codes_and_say_so(config):
    config.teach.num_codes = 2000
    (manifest,) = teach(config)
    assert manifest.details["num_codes"] == len(_load(config)[2]) < 2000
    assert "distinct correlation vectors" in manifest.details["warnings"][0]


def test_a_modality_no_item_has_leaves_finite_empty_vectors(config):
    factories.write_features(config, "text", absent=1.0)
    (manifest,) = teach(config)
    vectors, present, codebook = _load(config)
    assert not vectors.any() and not present.any() and codebook.shape == (1, 8)
    assert manifest.counts == {"items": 0, "absent": 40, "pairs": 0}


def test_missing_features_name_the_stage(tmp_path):
    config = _config(tmp_path)
    factories.write_sequences(config)
    with pytest.raises(MissingArtifactError, match="kdsr encode"):
        teach(config)
