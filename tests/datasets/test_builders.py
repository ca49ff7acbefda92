"""The TFDS builders on small files in the published layouts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from beam_pipelines.prepare import prepare
from kdsr_tf.cli.main import main
from kdsr_tf.config import SourceConfig, load_config
from kdsr_tf.datasets import builders
from kdsr_tf.datasets.published import amazon, amazon_items, movielens
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source
from kdsr_tf.sources.files import read_batches
from tests.datasets import official

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Both datasets, built; only the download of MovieLens is replaced by its result."""
    raw = tmp_path_factory.mktemp("raw")
    official.write_movielens(raw / "movielens")
    by_hand = official.write_amazon(raw / "manual")
    (by_hand / "images").mkdir()
    (by_hand / "images" / "B1.jpg").write_bytes(b"1")
    target = tmp_path_factory.mktemp("tfds")
    extracted = tfds.core.Path(raw / "movielens")
    method = "download_and_extract"
    with mock.patch.object(tfds.download.DownloadManager, method, return_value=extracted):
        for name in ("movielens_1m/interactions", "movielens_1m/items"):
            tfds.builder(name, data_dir=target).download_and_prepare()
    config = tfds.download.DownloadConfig(manual_dir=by_hand)
    for name in ("amazon_reviews_2014/toys", "amazon_reviews_2014/toys_items"):
        tfds.builder(name, data_dir=target).download_and_prepare(download_config=config)
    return target


def _open(data_dir, name, **more):
    return open_source(SourceConfig(path=f"tfds:{name}", tfds={"data_dir": str(data_dir)}, **more))


@pytest.fixture(scope="module")
def images(data_dir, tmp_path_factory):
    return str(tmp_path_factory.mktemp("images"))


def test_movielens_brings_its_catalogue(data_dir):
    items = {row.item_id: row.values for row in _open(data_dir, "movielens_1m").read_items()}
    assert list(items) == ["10", "20", "30", "40"]
    assert items["10"]["genres"] == ["Animation", "Children's"]
    assert items["30"]["title"] == "Café (2000)"


def test_amazon_items_are_the_reviewed_ones_with_what_is_known_of_them(data_dir, images):
    source = _open(data_dir, "amazon_reviews_2014/toys", image_folders=[images])
    first, second, third = (row.values for row in source.read_items())
    assert first == {
        "item_id": "B1",
        "title": 'Cut & Curl: L\'Oréal "Set"',
        "description": "For\nhair.",
        "brand": "Kent",
        "categories": ["Beauty", "Hair Care", "Tools"],
        "price": 12.5,
        "image": "B1.jpg",
        "image_url": "http://ecx.images-amazon.com/images/I/51.jpg",
    }
    assert source.image_path(first["image"]) == f"{images}/B1.jpg"
    assert (second, third) == ({"item_id": "B2", "categories": ["Beauty"]}, {"item_id": "B3"})


def test_a_prepared_folder_finds_the_catalogue_beside_it(data_dir):
    folder = data_dir / "amazon_reviews_2014" / "toys" / "2.0.0"
    source = open_source(SourceConfig(path=f"tfds:{folder}"))
    assert source.items == "tfds:amazon_reviews_2014/toys_items"
    assert source.num_interactions() == len(official.REVIEWS)


@pytest.mark.parametrize("name", ["movielens_1m", "amazon_reviews_2014/toys"])
def test_prepare_gives_the_sequences_of_the_same_data_in_the_source_format(
    name, data_dir, images, tmp_path
):
    """Equal times keep the order of the published file."""
    rows = official.RATINGS if name == "movielens_1m" else official.REVIEWS
    items = [{"item_id": row.item_id} for row in _open(data_dir, name).read_items()]
    folder = official.write_same(tmp_path / "source", rows, items)
    found = []
    for path in (f"tfds:{name}", folder):
        overrides = (
            f"source.path={path}",
            f"source.tfds.data_dir={data_dir}",
            f"source.image_folders=[{images}]",
            "prepare.k_core=0",
            "prepare.num_shards=1",
        )
        work = tmp_path / str(len(found))
        manifest = prepare(load_config(overrides=overrides, workdir=str(work)))
        assert manifest.counts["rejected"] == 0
        found.append([pq.read_table(path) for path in work.rglob("sequences-*.parquet")])
    assert found[0] == found[1]


def test_import_copies_the_pictures_of_a_dataset(data_dir, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "B1.jpg").write_bytes(b"picture")
    arguments = ["data", "import", "tfds:amazon_reviews_2014/toys", "--data-dir", str(data_dir)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--images", str(images), "--output", str(tmp_path / "toys")])
    assert ended.value.code == 0
    assert (tmp_path / "toys" / "images" / "B1.jpg").read_bytes() == b"picture"
    source = open_source(SourceConfig(path=str(tmp_path / "toys")))
    first = next(iter(source.read_items()))
    assert source.image_path(first.values["image"]) == str(tmp_path / "toys" / "images" / "B1.jpg")
    assert source.num_interactions() == len(official.REVIEWS)


def test_what_is_not_built_names_the_command(tmp_path):
    with pytest.raises(
        InputError, match=r"tfds build --imports=kdsr_tf\.datasets\.builders movielens_1m"
    ):
        _open(tmp_path, "movielens_1m")


@pytest.mark.parametrize(
    ("parse", "line", "reason"),
    [
        (movielens.parse_rating, b"1::2::3\n", "not UserID::MovieID::Rating::Timestamp"),
        (movielens.parse_rating, b"1::2::3::now\n", "Rating or Timestamp is not a number"),
        (movielens.parse_rating, b"::2::3::4\n", "UserID is empty"),
        (movielens.parse_movie, None, "not MovieID::Title::Genres"),
        (amazon.parse_review, b'{"asin": "B1"}', "reviewerID is missing"),
        (amazon.parse_review, b'{"asin": "B1"', "not valid JSON"),
        (amazon_items.parse_item, b"{'title': 'T'}", "asin is missing"),
        (amazon_items.parse_item, b"{'asin': ''}", "asin is missing"),
        (amazon_items.parse_item, b"{'asin': 1.5}", "asin is not text"),
        (amazon_items.parse_item, b'{"asin": "B1", "reviewerID": "A1"}', "a review, not an item"),
        (amazon_items.parse_item, b"{'asin': 'B1'", "neither a Python dictionary nor JSON"),
        (
            amazon_items.parse_item,
            b"__import__('os').getcwd()",
            "neither a Python dictionary nor JSON",
        ),
        (amazon_items.parse_item, b"{[]: 1}", "neither a Python dictionary nor JSON"),
        (amazon_items.parse_item, b"[" * 100_000, "neither a Python dictionary nor JSON"),
        (amazon_items.parse_item, b"{'asin': 'B1', 'a': " + b"[" * 40 + b"]" * 40 + b"}", "nested"),
        (amazon_items.parse_item, b"{'asin': '\xff'}", "not UTF-8"),
    ],
)
def test_malformed_lines_have_a_reason(parse, line, reason):
    values, found = parse(line)
    assert values is None and reason in found


def test_a_damaged_file_stops_the_build_at_its_line(tmp_path):
    from kdsr_tf.datasets import building

    path = tmp_path / "ratings.dat"
    path.write_bytes(b"1::2::3::4\nhalf a li")
    piece = movielens.ratings_of(str(path))
    with pytest.raises(InputError, match=r"ratings\.dat row 2 .*download it again"):
        list(building.examples(piece, building.interaction_features()))
    (batch,) = read_batches(piece)
    assert len(batch.rows) == len(batch.rejected) == 1


def test_movielens_has_its_checksum():
    builder = tfds.builder_cls("movielens_1m")
    (url,) = builder.url_infos
    assert url.endswith("/ml-1m.zip") and builder.url_infos[url].size == 5_917_549
    assert set(builders.CATALOGUES) == {"movielens_1m", "amazon_reviews_2014"}


@pytest.mark.slow
def test_the_tfds_command_builds_by_name_and_by_folder(tmp_path):
    by_hand = official.write_amazon(tmp_path / "manual", "Beauty")
    official.write_movielens(by_hand)
    common = (f"--data_dir={tmp_path / 'tfds'}", f"--manual_dir={by_hand}")
    tool = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def build(*arguments):
        return subprocess.run(
            [*tool, *arguments, *common], env=environment, capture_output=True, text=True
        )

    names = [f"amazon_reviews_2014/{config}" for config in ("beauty", "beauty_items")]
    done = build("--imports=kdsr_tf.datasets.builders", names[0])
    assert done.returncode == 0, done.stderr
    folder = str(ROOT / "kdsr_tf" / "datasets" / "amazon_reviews_2014")
    done = build(folder, "--config=beauty_items")
    assert done.returncode == 0, done.stderr
    source = _open(tmp_path / "tfds", names[0])
    assert source.num_interactions() == len(official.REVIEWS)
    assert len(list(source.read_items())) == 3
    # An archive that is not the published one is refused by its checksum.
    done = build(str(ROOT / "kdsr_tf" / "datasets" / "movielens_1m"))
    assert done.returncode != 0 and "wrong checksum" in done.stderr
