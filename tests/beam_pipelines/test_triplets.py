import itertools
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines import triplets
from beam_pipelines.distill import distill
from beam_pipelines.transforms.cut_windows import cut_windows
from kdsr_tf import sequences, stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import MissingArtifactError
from kdsr_tf.teacher import pair_correlations
from tests import factories
from tests.nearness import assert_near


@pytest.fixture
def config(tmp_path):
    config = load_config(
        overrides=["encode.text={}", "model.dim=16", "windows.max_length=6", "windows.stride=3"],
        workdir=str(tmp_path),
    )
    factories.write_sequences(config)
    factories.write_features(config, "text")
    return config


def _read(config):
    folder = os.path.join(stages.location(config, "triplets"), "text")
    tables = [pq.read_table(os.path.join(folder, name)) for name in sorted(os.listdir(folder))]
    return pa.concat_tables(tables), len(tables)


def test_every_pair_of_a_train_or_validation_window_is_one_row(config, monkeypatch):
    vectors, present, codebook = factories.write_teacher(config, "text")
    distill(config)
    monkeypatch.setattr(triplets, "_PAIRS_PER_SHARD", 500)
    monkeypatch.setattr(triplets, "_PAIRS_PER_CHUNK", 200)
    manifest = triplets.triplets(config)
    table, num_files = _read(config)
    expected = set()
    for _, items, num_train in sequences.read_users(stages.location(config, "sequences")):
        for window in cut_windows(items, num_train, 6, 3):
            if window.split != "test":
                expected |= set(itertools.combinations(sorted(set(window.items.tolist())), 2))
    expected = {(i, j) for i, j in expected if present[i] and present[j]}
    ends = zip(*(table.column(name).to_pylist() for name in ("item_i", "item_j")), strict=True)
    ids = [(int(i[4:]), int(j[4:])) for i, j in ends]
    assert len(ids) == len(set(ids)) == manifest.counts["text"] and set(ids) == expected
    assert num_files > 1
    first, second = np.array(ids).T
    scores = pair_correlations.correlation(vectors[first], vectors[second])
    assert_near(table.column("score"), scores, 1e-3)
    profiles = pair_correlations.correlation_vectors(vectors[first], vectors[second], 8)
    np.testing.assert_array_equal(
        table.column("code"), pair_correlations.nearest_codes(profiles, codebook)
    )


@pytest.mark.slow
def test_same_bytes_with_two_processes(config):
    factories.write_teacher(config, "text")
    distill(config)
    found = []
    for beam_args in ((), ("--direct_running_mode=multi_processing", "--direct_num_workers=2")):
        triplets.triplets(config, beam_args)
        folder = pathlib.Path(stages.location(config, "triplets"), "text")
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1] and len(found[0]) == 1


def test_without_windows_it_names_the_stage(config):
    factories.write_teacher(config, "text")
    with pytest.raises(MissingArtifactError, match="kdsr distill"):
        triplets.triplets(config)
