"""TFDS datasets: the real `movielens` builders on files of this test, and a dataset of its own."""

from __future__ import annotations

import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds

from beam_pipelines.prepare import prepare
from kdsr_tf.config import SourceConfig, load_config
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source, tfds_source
from kdsr_tf.sources.batches import label
from kdsr_tf.sources.interaction_rows import read_interactions

RATINGS = [
    (1, 10, 978300760),
    (1, 20, 978300761),
    (1, 30, 978300700),
    (2, 10, 978300800),
    (2, 30, 978300900),
]
MOVIES = "10::Toy Story (1995)::Animation|Children's\n20::Heat (1995)::Action|Crime\n"
MOVIES += "30::Café (2000)::Drama\n40::Never rated (1999)::Drama\n"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """`movielens/1m-ratings` and `1m-movies`, prepared by their builders without the download."""
    raw = tmp_path_factory.mktemp("raw")
    folder = raw / "ml-1m"
    folder.mkdir()
    (folder / "movies.dat").write_bytes(MOVIES.encode("latin-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    lines = [f"{user}::{item}::5::{time}\n" for user, item, time in RATINGS]
    (folder / "ratings.dat").write_text("".join(lines))
    data_dir = tmp_path_factory.mktemp("tfds")
    download = "download_and_extract"
    with mock.patch.object(tfds.download.DownloadManager, download, return_value=str(raw)):
        for name in ("movielens/1m-ratings", "movielens/1m-movies"):
            tfds.builder(name, data_dir=data_dir).download_and_prepare()
    # TFDS itself would take the brackets and the star for a pattern.
    return str(shutil.copytree(data_dir, tmp_path_factory.mktemp("moved") / "data [1] *?#, é"))


def _open(data_dir, path="tfds:movielens/1m-ratings", **tfds_options):
    return open_source(SourceConfig(path=path, tfds={"data_dir": data_dir, **tfds_options}))


def _interactions(source):
    rows = []
    for piece in source.interaction_pieces():
        for batch in read_interactions(piece):
            assert not batch.rejected
            columns = batch.user_ids.to_pylist(), batch.item_ids.to_pylist()
            rows += zip(*columns, batch.timestamps.tolist(), batch.rows.tolist(), strict=True)
    return rows


def test_movielens_ratings_are_interactions_and_catalogue(data_dir):
    source = _open(data_dir)
    rows = _interactions(source)
    assert sorted(row[:3] for row in rows) == [(str(u), str(i), t) for u, i, t in RATINGS]
    assert [row[3] for row in rows] == list(range(5))
    assert source.num_interactions() == 5
    assert set(source.item_columns) == {"item_id", "title", "genres"}
    items = {row.item_id: row.values for row in source.read_items()}
    assert items == {
        "10": {
            "item_id": "10",
            "title": "Toy Story (1995)",
            "genres": ["Animation", "Children"],
        },
        "20": {"item_id": "20", "title": "Heat (1995)", "genres": ["Action", "Crime"]},
        "30": {"item_id": "30", "title": "Café (2000)", "genres": ["Drama"]},
    }


def test_the_catalogue_may_be_a_dataset_of_its_own(data_dir):
    source = _open(data_dir, items="movielens/1m-movies")
    items = list(source.read_items())
    assert sorted(row.item_id for row in items) == ["10", "20", "30", "40"]
    assert items[0].where == "tfds:movielens/1m-movies row 1"


def test_small_pieces_hold_the_same_rows(data_dir, monkeypatch):
    whole = _interactions(_open(data_dir))
    monkeypatch.setattr(tfds_source, "ROWS_PER_PIECE", 2)
    monkeypatch.setattr(tfds_source, "BATCH_ROWS", 1)
    source = _open(data_dir)
    assert len(source.interaction_pieces()) == 3
    assert _interactions(source) == whole
    assert sorted(row.item_id for row in source.read_items()) == ["10", "20", "30"]


def test_prepare_from_tfds(data_dir, tmp_path):
    config = load_config(
        overrides=(
            "source.path=tfds:movielens/1m-ratings",
            f"source.tfds.data_dir={data_dir}",
            "prepare.k_core=2",
        ),
        workdir=str(tmp_path),
    )
    manifest = prepare(config)
    # Movie 20 has one rating.
    assert manifest.counts["interactions"] == 4
    assert manifest.counts["items"] == 2
    assert manifest.counts["catalogue_rows"] == 3
    assert manifest.details["columns"] == {"genres": 1.0, "title": 1.0}


@pytest.fixture(scope="module")
def own_dataset(tmp_path_factory):
    """A dataset of other names, with a bad record and a feature that is no column."""
    features = tfds.features.FeaturesDict(
        {
            "buyer": tfds.features.Text(),
            "item_id": np.int64,
            "when": np.int64,
            "tags": tfds.features.Sequence(np.int64),
            "picture": tfds.features.Tensor(shape=(2, 2), dtype=np.uint8),
        }
    )

    picture = np.zeros((2, 2), np.uint8)
    records = [
        (k, {"buyer": buyer, "item_id": item, "when": when, "picture": picture, "tags": [k] * k})
        for k, (buyer, item, when) in enumerate([(b"u", 7, 3), (b"\xff", 7, 4), (b"v", 8, -1)])
    ]
    folder = tmp_path_factory.mktemp("own")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="shop",
        version="1.0.0",
        features=features,
        split_datasets={"train": records},
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


def test_any_dataset_by_its_folder_and_columns(own_dataset):
    folder = str(next(own_dataset.rglob("dataset_info.json")).parent)
    columns = {"user_id": "buyer", "timestamp": "when"}
    source = open_source(SourceConfig(path=f"tfds:{folder}", columns=columns))
    assert source.item_columns == ("item_id",)
    (batch,) = (
        batch for piece in source.interaction_pieces() for batch in read_interactions(piece)
    )
    assert batch.user_ids.to_pylist() == ["u"]
    assert [(row.where, row.reason) for row in batch.rejected] == [
        (f"tfds:{folder} row 2", "user_id is not UTF-8"),
        (f"tfds:{folder} row 3", "timestamp is negative"),
    ]
    assert [row.item_id for row in source.read_items()] == ["7", "8"]
    with pytest.raises(InputError, match=r"takes timestamp from the column 'time'"):
        open_source(SourceConfig(path=f"tfds:{folder}", columns={**columns, "timestamp": "time"}))
    with pytest.raises(InputError, match=r"lacks the columns user_id, timestamp.*buyer"):
        open_source(SourceConfig(path=f"tfds:{folder}"))
    with pytest.raises(InputError, match="every folder"):
        source.image_path("a.png")


def test_lists_are_no_ids(own_dataset):
    folder = str(next(own_dataset.rglob("dataset_info.json")).parent)
    columns = {"user_id": "buyer", "timestamp": "when", "item_id": "tags"}
    source = open_source(SourceConfig(path=f"tfds:{folder}", columns=columns))
    assert [row.reason for row in source.read_items()] == [
        "item_id is missing",
        "item_id is neither text nor an integer",
        "item_id is neither text nor an integer",
    ]


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_dataset_is_one_clear_error(own_dataset, tmp_path, damage):
    folder = tmp_path / "shop"
    shutil.copytree(next(own_dataset.rglob("dataset_info.json")).parent, folder)
    (path,) = folder.glob("*.tfrecord*")
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\xff" + data[21:] if damage == "changed" else data[:-20])
    if damage == "gone":
        path.unlink()
    columns = "{user_id: buyer, timestamp: when}"
    overrides = (f"source.path=tfds:{folder}", f"source.columns={columns}")
    config = load_config(overrides=overrides, workdir=str(tmp_path / "work"))
    with pytest.raises(InputError, match=r"shop.* is damaged after row 0: .*Build the dataset ag"):
        prepare(config)


def test_what_is_not_there_is_one_clear_error(data_dir, tmp_path):
    with pytest.raises(InputError, match=r"knows no dataset 'movielens_of_nobody'"):
        _open(data_dir, path="tfds:movielens_of_nobody")
    with pytest.raises(InputError, match=r"not prepared in .*tfds build movielens"):
        _open(str(tmp_path))
    with pytest.raises(InputError, match=r"no split 'test'.*Splits found: train"):
        _open(data_dir, split="test")


def test_fingerprint_follows_what_is_read(data_dir, tmp_path):
    def with_pictures(*folders):
        return SourceConfig(
            path="tfds:movielens/1m-ratings",
            tfds={"data_dir": data_dir},
            columns={"image": "movie_title"},
            image_folders=list(folders),
        )

    prints = {
        open_source(with_pictures()).fingerprint(),
        open_source(with_pictures(str(tmp_path))).fingerprint(),
        _open(data_dir).fingerprint(),
        _open(data_dir, items="movielens/1m-movies").fingerprint(),
        open_source(
            SourceConfig(
                path="tfds:movielens/1m-ratings",
                tfds={"data_dir": data_dir},
                columns={"genres": "movie_title"},
            )
        ).fingerprint(),
    }
    (tmp_path / "a.png").write_bytes(b"1")
    prints.add(open_source(with_pictures(str(tmp_path))).fingerprint())
    assert len(prints) == 6
    assert _open(data_dir).fingerprint() in prints
    assert label("tfds:a/b") == "tfds:a/b"
