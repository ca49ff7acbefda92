import hashlib
import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdsr_tf.datasets.demo import generate
from kdsr_tf.datasets.demo.behaviour import YEAR_SECONDS, YEAR_START, make_histories
from kdsr_tf.datasets.demo.painting import SIZE
from kdsr_tf.datasets.demo.products import COLOURS, PATTERNS, SHAPES, make_catalogue
from kdsr_tf.errors import ConfigError


def _digests(folder):
    digests = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                key = os.path.relpath(path, folder)
                digests[key] = hashlib.md5(file.read()).hexdigest()
    return digests


@pytest.fixture(scope="module")
def boutique(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("boutique"))
    generate(folder, num_items=60, num_users=80, seed=3)
    return folder


@pytest.fixture(scope="module")
def full():
    products = make_catalogue(600, seed=0)
    return products, make_histories(products, 2000, seed=0)


def test_same_arguments_give_the_same_bytes(boutique, tmp_path):
    generate(str(tmp_path / "again"), num_items=60, num_users=80, seed=3)
    generate(str(tmp_path / "other"), num_items=60, num_users=80, seed=4)
    again, other = _digests(tmp_path / "again"), _digests(tmp_path / "other")
    assert _digests(boutique) == again
    assert other["interactions.parquet"] != again["interactions.parquet"]
    assert other["items.jsonl"] != again["items.jsonl"]


def test_folder_is_in_the_source_format(boutique):
    with open(os.path.join(boutique, "items.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len({row["item_id"] for row in rows}) == len(rows) == 60
    pictures = [row["image"] for row in rows if row["image"]]
    assert 0 < len(pictures) < 60, "some product must lack its picture"
    assert sum(row["description"] is None for row in rows) > 0
    assert sorted(os.listdir(os.path.join(boutique, "images"))) == sorted(
        os.path.basename(path) for path in pictures
    )
    with Image.open(os.path.join(boutique, pictures[0])) as picture:
        assert picture.size == (SIZE, SIZE)
    log = pq.read_table(os.path.join(boutique, "interactions.parquet"))
    assert log.column_names == ["user_id", "item_id", "timestamp"]
    assert set(log["item_id"].to_pylist()) <= {row["item_id"] for row in rows}
    assert np.all(np.diff(log["timestamp"].to_numpy()) >= 0)


def test_a_picture_shows_its_colour(boutique):
    with open(os.path.join(boutique, "items.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    right = 0
    plain = [row for row in rows if row["image"] and row["pattern"] == "plain"]
    for row in plain:
        with Image.open(os.path.join(boutique, row["image"])) as picture:
            middle = np.asarray(picture, float)[24:104, 24:104].reshape(-1, 3)
        near = {
            name: np.sum(np.linalg.norm(middle - rgb, axis=1) < 30)
            for name, (_, rgb) in COLOURS.items()
        }
        right += max(near, key=near.get) == row["colour"]
    assert right >= 0.9 * len(plain)


def test_six_hundred_products_are_every_combination(full):
    products, _ = full
    combinations = {(p.shape, p.colour, p.pattern) for p in products}
    assert len(combinations) == len(SHAPES) * len(COLOURS) * len(PATTERNS) == 600


def test_times_are_a_plausible_year(full):
    _, histories = full
    for items, seconds in histories:
        assert len(items) == len(seconds) >= 5
        assert np.all(np.diff(seconds) > 0)
        assert seconds[0] >= YEAR_START and seconds[-1] < YEAR_START + YEAR_SECONDS


def test_popularity_has_a_long_tail_that_five_core_keeps(full):
    _, histories = full
    counts = np.bincount(np.concatenate([items for items, _ in histories]), minlength=600)
    assert np.mean(counts >= 5) >= 0.99
    assert np.mean((counts >= 5) & (counts <= 20)) >= 0.5
    # A tenth of the products takes more than twice its share.
    assert np.sort(counts)[-60:].sum() >= 0.2 * counts.sum()


def test_customers_keep_the_colour_and_follow_the_habit(full):
    products, histories = full
    colour = np.array([p.colour for p in products])
    shape = np.array([SHAPES.index(p.shape) for p in products])
    first = np.concatenate([items[:-1] for items, _ in histories])
    second = np.concatenate([items[1:] for items, _ in histories])
    assert np.mean(colour[first] == colour[second]) > 0.5
    assert np.mean(shape[second] == (shape[first] + 1) % len(SHAPES)) > 0.5


@pytest.mark.parametrize("name", ["num_items", "num_users"])
def test_nothing_to_generate_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=f"`{name}` must be at least 1"):
        generate(str(tmp_path), **{name: 0})
