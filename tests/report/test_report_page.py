"""What the pages hold, read without a browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kdsr_tf import artifacts, stages
from kdsr_tf.cli.main import main
from kdsr_tf.errors import InputError, MissingArtifactError
from kdsr_tf.evaluation.evaluation_inputs import ItemCatalogue
from kdsr_tf.report import metrics_section
from kdsr_tf.report.finished_run import read_finished_run
from kdsr_tf.report.page_items import PageItems
from tests.report.conftest import CODES, REASON, TITLE


class _Page(HTMLParser):
    """Collects what a test looks at."""

    def __init__(self, path):
        super().__init__()
        self.sources, self.text, self.scripts, self._inside = [], [], [], None
        with open(path, encoding="utf-8") as file:
            self.html = file.read()
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        attributes = dict(attributes)
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                self.sources.append(attributes[name])

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        (self.scripts if self._inside == "script" else self.text).append(data)

    def items(self):
        return json.loads(self.scripts[-2])


@pytest.fixture(scope="module")
def read(page):
    return _Page(page)


def test_an_unfinished_run_is_refused(finished):
    from kdsr_tf.report.report_page import report

    with pytest.raises(MissingArtifactError, match="kdsr train"):
        report(finished.model_copy(update={"run": "never"}))


def test_page_names_no_other_file_and_titles_are_no_markup(read):
    assert all(source.startswith("#") for source in read.sources)
    assert not re.search(r"url\((?!#)|https?://(?!www\.w3\.org)", read.html)
    assert TITLE in read.text
    assert "<script>alert" not in read.html


def test_an_item_is_there_once_with_a_small_picture(read):
    shown = read.items()
    assert {item["title"] for item in shown.values()} == {TITLE}
    with_picture = [item["picture"] for item in shown.values() if item["picture"]]
    assert len(with_picture) >= len(shown) - 1
    assert read.html.count(with_picture[0]) == len(with_picture)
    with Image.open(io.BytesIO(base64.b64decode(with_picture[0]))) as picture:
        assert picture.format == "WEBP" and max(picture.size) <= 120
        red, green, blue = picture.convert("RGB").getpixel((picture.width // 2, 50))
    assert red > 180 and green < 70 and blue < 80


def test_a_title_that_is_a_whole_text_is_cut():
    counts = np.zeros(2, int)
    catalogue = ItemCatalogue(
        item_ids=["", "a"], titles=["", "x " * 60_000], images=[None, None], train_counts=counts
    )
    pictures = PageItems(catalogue)
    pictures.show(1)
    assert 100 < len(pictures.items[1]["title"]) <= 400


def test_page_shows_metrics_slices_curves_codes_rejects_and_users(read, finished):
    details = artifacts.find_manifest(stages.location(finished, "evaluation")).details
    low, high = details["intervals"]["hr_20"]
    for value in (f"{details['metrics']['hr_20']:.2f}", f"{low:.2f}–{high:.2f}"):
        assert value in read.html
    for words in ("Next-item loss", "Modality retention", "target popularity", "history length"):
        assert words in read.text
    assert read.html.count("<svg role") >= 6
    codes = json.loads(read.scripts[-3])["codes"]
    assert sorted(code["code"] for code in codes) == list(range(CODES))
    assert {str(item) for code in codes for pair in code["pairs"] for item in pair} <= set(
        read.items()
    )
    assert len(re.findall(r'aria-label="User user\d{5}"', read.html)) == 6
    assert REASON in " ".join(read.text) and "0.9925" in read.html
    assert 'a.csv: {"item_id": "<i>"}' in read.text


def test_page_says_what_the_core_keeps_and_warns_under_half(read):
    words = " ".join(" ".join(read.text).split())
    assert "5, chosen 60 15.0% 40 44.4% 500 16.7%" in words
    assert "prepare.k_core=5 keeps only 15.0% of the users, 44.4% of the items, 16.7%" in words
    assert "prepare.k_core=3 would keep 60.0%" in words


def test_lists_are_rows_where_most_items_lack_a_picture(read, tmp_path):
    assert "<body>" in read.html
    path = tmp_path / "red.png"
    Image.new("RGB", (20, 20), "red").save(path)
    catalogue = ItemCatalogue(
        item_ids=["", *"abcd"],
        titles=["", *"ABCD"],
        images=[None, str(path), str(path), None, None],
        train_counts=np.zeros(5, int),
    )
    pictures = PageItems(catalogue)
    few = []
    for item in (3, 1, 2, 4):
        pictures.show(item)
        few.append(pictures.are_few)
    assert few == [True, False, False, False]
    pictures.items[5] = pictures.items[4]
    assert pictures.are_few


def test_two_runs_stand_beside_each_other(page_of_two):
    read = _Page(page_of_two)
    said = " ".join(" ".join(read.text).split())
    assert "plain sasrec, without distillation, epoch 2" in said
    assert "Differences" in read.text and "plain minus distilled" in said
    offers = re.findall(r'aria-label="Offers of (\S+) for (user\d{5})"', read.html)
    assert len(offers) == 12
    assert {name for name, _ in offers} == {"distilled", "plain"}
    manifest = artifacts.find_manifest(os.path.dirname(page_of_two))
    assert manifest.inputs["plain: student"] != manifest.inputs["distilled: student"]


def test_the_warning_says_whose_epoch_was_chosen_on_the_test_points(finished, plain):
    first, second = read_finished_run(finished, "first"), read_finished_run(plain, "second")
    assert metrics_section.describe([first, second])["oracle"] == ""
    summary = second.evaluation.summary | {"selection": "test_oracle"}
    evaluation = dataclasses.replace(second.evaluation, summary=summary)
    second = dataclasses.replace(second, evaluation=evaluation)
    assert metrics_section.describe([first, second])["oracle"].startswith(
        "second: The epoch was selected"
    )
    assert metrics_section.describe([second])["oracle"].startswith("The epoch was selected")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{work}/nowhere"], "is no run"),
        (["{work}", "{work}", "{work}"], "At most two runs"),
        (["{work}", "{work}"], "same name"),
    ],
)
def test_mistakes_in_runs_are_told(finished, capfd, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(["report", *(a.format(work=finished.workdir) for a in arguments)])
    assert ended.value.code == 2
    assert words in capfd.readouterr().err


def test_runs_on_different_data_are_refused(finished, plain):
    from kdsr_tf.report.report_page import report_two_runs

    one, other = read_finished_run(finished), read_finished_run(plain)
    other.inputs["sequences"].fingerprint = "0" * 16
    with pytest.raises(InputError, match="different data"):
        report_two_runs(one, other)


def test_index_curve_is_measured_on_the_vectors_given():
    from kdsr_tf.report.index_section import measure

    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(n, 16)).astype(np.float32) for n in (600, 20))
    index = {"num_leaves": 12, "num_leaves_to_search": 3, "num_reordering_candidates": 600}
    curve = measure(vectors, queries, 10, index)
    assert [point["effort"] for point in curve] == [1, 2, 3, 4, 8, 12, 0]
    assert [point["effort"] for point in curve if point["published"]] == [3]
    assert curve[0]["recall"] < 0.9 and curve[-2]["recall"] > 0.99 and curve[-1]["recall"] == 1
    assert all(point["microseconds"] > 0 for point in curve)
    flat = {"num_leaves": 0, "num_leaves_to_search": 0, "num_reordering_candidates": 30}
    curve = measure(vectors, queries, 10, flat)
    assert [point["effort"] for point in curve] == [10, 20, 30, 40, 80, 120, 0]
    assert [point["effort"] for point in curve if point["published"]] == [30]
    assert curve[0]["recall"] < curve[-2]["recall"] > 0.99
    flat["num_reordering_candidates"] = 600
    curve = measure(vectors, queries, 10, flat)
    assert [point["effort"] for point in curve] == [10, 20, 40, 80, 160, 320, 0]
    assert curve[-1]["published"] and sum(point["published"] for point in curve) == 1


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (4e-4, 4e-3, ["0.0005", "0.001", "0.002"]),
        (3e-6, 0.08, [r"$10^{-5}$", "0.0001", "0.001", "0.01"]),
        (5.0, 60_000, ["10", "100", "1000", r"$10^{4}$"]),
    ],
)
def test_a_logarithmic_ordinate_is_labelled_at_round_values(low, high, labels):
    from kdsr_tf.report.plots import Curve, lines

    svg = lines([Curve(name="a", x=[1, 2], y=[low, high])], "A", "epoch", logarithmic=["y"])
    ordinate = svg[svg.index('id="matplotlib.axis_2"') :]
    texts = re.findall(r"<!-- (.*?) -->|<text[^>]*>([^<]*)</text>", ordinate)
    shown = [formula or plain for formula, plain in texts]
    assert [label for label in shown if label in labels] == labels
    assert len(shown) <= len(labels) + 2
