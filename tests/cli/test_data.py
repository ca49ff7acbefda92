"""`kdsr data import`: own files in, a folder in the source format out."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.prepare import prepare
from kdsr_tf import artifacts
from kdsr_tf.cli.main import main
from kdsr_tf.config import load_config
from kdsr_tf.console import output
from tests.datasets import official

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
CLICKS = """customer,sku,when
u,a,978300760
u,b,978300760
u,b,978300760
v,a,978300900
v,zzz,978300901
w,,978300902
"""
GOODS = "sku\tname\tphoto\na\tCafé\tpics/a.png\nb\tB\tpics/gone.png\na\tAgain\t\nc\tC\t\n"
OWN = ("user_id=customer", "item_id=sku", "timestamp=when", "title=name", "image=photo")
COLUMNS = [part for own in OWN for part in ("--column", own)]
SHOP = "clicks.csv", "goods.tsv.gz"
LATIN_1 = "--encoding", "latin-1"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", *map(str, arguments)])
    return ended.value.code


@pytest.fixture
def shop(tmp_path):
    """Interactions as CSV, goods as packed TSV in Latin-1, one picture by path, one by id."""
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(b"picture of a")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.jpg").write_bytes(b"picture of c")
    (tmp_path / "clicks.csv").write_text(CLICKS)
    (tmp_path / "goods.tsv.gz").write_bytes(gzip.compress(GOODS.encode("latin-1")))
    return tmp_path


def import_shop(shop, *options):
    files = shop / "clicks.csv", shop / "goods.tsv.gz"
    common = ("--encoding", "latin-1", "--images", shop / "more", "--max-rejected-fraction", "0.5")
    return run(*files, *common, *COLUMNS, *options)


def read(folder):
    interactions = pq.read_table(folder / "interactions.parquet").to_pylist()
    lines = (folder / "items.jsonl").read_text().splitlines()
    return [tuple(row.values()) for row in interactions], [json.loads(line) for line in lines]


def test_own_files_become_a_source_folder(shop, capsys):
    assert import_shop(shop, "--output", shop / "out", "--drop-repeats") == 0
    interactions, items = read(shop / "out")
    assert interactions == [
        ("u", "a", 978300760_000_000),
        ("u", "b", 978300760_000_000),
        ("v", "a", 978300900_000_000),
    ]
    assert items == [
        {"item_id": "a", "title": "Café", "image": "images/pics/a.png"},
        {"item_id": "b", "title": "B"},
        {"item_id": "c", "title": "C", "image": "images/c.jpg"},
    ]
    assert (shop / "out" / "images" / "pics" / "a.png").read_bytes() == b"picture of a"
    assert (shop / "out" / "images" / "c.jpg").read_bytes() == b"picture of c"
    rejected = (shop / "out" / "rejected.jsonl").read_text().splitlines()
    assert [(row["reason"], row["where"]) for row in map(json.loads, rejected)] == [
        ("image file does not exist", "goods.tsv.gz row 2"),
        ("item_id occurs twice", "goods.tsv.gz row 3"),
        ("item_id is missing", "clicks.csv row 6"),
        ("item_id is not in the catalogue", "clicks.csv row 5"),
    ]
    manifest = artifacts.find_manifest(str(shop / "out"))
    assert manifest.counts == {"interactions": 3, "items": 3, "users": 2}
    said = capsys.readouterr()
    for part in ("items with pictures missing", "item_id occurs twice", "Café"):
        assert part in said.out
    assert "seconds (guessed from their size" in " ".join(said.err.split())
    # What was imported can be prepared: what has interactions, and nothing is rejected.
    overrides = (f"source.path={shop / 'out'}", "prepare.k_core=0")
    counts = prepare(load_config(overrides=overrides, workdir=str(shop / "work"))).counts
    assert (counts["interactions"], counts["items"], counts["rejected"]) == (3, 2, 0)


def test_an_ending_may_be_in_capitals(shop):
    (shop / "CLICKS.CSV").write_text(CLICKS)
    (shop / "GOODS.TSV.GZ").write_bytes(gzip.compress(GOODS.encode()))
    files = shop / "CLICKS.CSV", shop / "GOODS.TSV.GZ"
    assert run(*files, "--max-rejected-fraction", "0.5", *COLUMNS, "--output", shop / "out") == 0
    assert [len(rows) for rows in read(shop / "out")] == [4, 3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_texts_with_a_byte_order_mark_are_read_as_what_they_are(encoding, ending, tmp_path):
    clicks, goods = "user_id,item_id,timestamp\nu,ä,7\n", 'item_id,title\nä,"Café, 5 €"\n'
    if ending == "jsonl":
        clicks = '{"user_id": "u", "item_id": "ä", "timestamp": 7}\n'
        goods = '{"item_id": "ä", "title": "Café, 5 €"}\n'
    files = [tmp_path / f"{name}.{ending}" for name in ("clicks", "goods")]
    for path, text in zip(files, (clicks, goods), strict=True):
        path.write_bytes(text.encode(encoding))
    assert run(*files, "--output", tmp_path / "out") == 0
    rows, items = read(tmp_path / "out")
    assert (rows, items) == ([("u", "ä", 7)], [{"item_id": "ä", "title": "Café, 5 €"}])


def test_a_folder_in_another_encoding_is_refused_with_the_remedy(tmp_path, capsys):
    folder = Path(official.write_same(tmp_path / "in", [("u", "a", 7)], [{"item_id": "a"}]))
    (folder / "items.jsonl").unlink()
    rows = "".join(f"{k},x\n" for k in range(1_000))
    (folder / "items.csv").write_bytes(f"item_id,title\na,Café\n{rows}".encode("latin-1"))
    assert run(folder, "--check") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "items.csv is not in UTF-8 (line 2: b'a,Caf\\xe9')" in said
    options = ("--encoding", "latin-1", "--output", tmp_path / "out")
    assert run(folder / "interactions.jsonl", folder / "items.csv", *options) == 0
    assert read(tmp_path / "out")[1][0] == {"item_id": "a", "title": "Café"}


def test_check_writes_nothing_and_counts_what_prepare_would_reject(shop, capsys):
    before = sorted(shop.rglob("*"))
    assert import_shop(shop, "--check") == 0
    assert sorted(shop.rglob("*")) == before
    assert "1 repeated rows stay" in capsys.readouterr().err


def test_an_earlier_import_is_replaced_by_force_only_and_nothing_else_is(shop, capsys):
    assert import_shop(shop, "--output", shop / "out") == 0
    assert import_shop(shop, "--output", shop / "out") == 2
    assert "--force" in capsys.readouterr().err
    assert import_shop(shop, "--output", shop / "out", "--force", "--drop-repeats") == 0
    assert len(read(shop / "out")[0]) == 3
    capsys.readouterr()
    (shop / "more" / ".hidden").touch()
    (shop / "mine").mkdir()
    (shop / "mine" / ".hidden").touch()
    for folder, reason in (
        (shop / "mine", "no import wrote"),
        (shop / "clicks.csv" / "..", "holds the input"),
        (shop / "more", "holds the input"),
        (shop / "work.txt", "no import wrote"),
    ):
        if folder.suffix == ".txt":
            folder.touch()
        assert import_shop(shop, "--output", folder, "--force") == 2
        assert reason in " ".join(capsys.readouterr().err.split())
    assert (shop / "mine" / ".hidden").exists() and (shop / "clicks.csv").exists()


def test_a_failed_import_leaves_nothing(shop, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdsr_tf.datasets.importing.to_microseconds", full)
    assert import_shop(shop, "--output", shop / "out") == 2
    assert not (shop / "out").exists() and not list(shop.glob(".out.*"))


@pytest.mark.parametrize(
    ("times", "options", "expected"),
    [
        ([978300760, 978300761], [], [978300760_000_000, 978300761_000_000]),
        ([978300760_123, 978300761_000], [], [978300760_123_000, 978300761_000_000]),
        ([978300760_123_456_789], [], [978300760_123_456]),
        (["2001-01-01", "2001-01-01T00:00:01Z"], [], [978307200_000_000, 978307201_000_000]),
        ([0, 7], [], [0, 7]),
        ([0, 978300760], [], "positions and seconds"),
        ([978300760, 978300760_123], [], "seconds and milliseconds"),
        ([0, 978300760], ["--timestamp-unit", "seconds"], [0, 978300760_000_000]),
        ([978300760_123], ["--timestamp-unit", "seconds"], "after the year 2262"),
        ([978300760], ["--timestamp-unit", "position"], [978300760]),
        (
            [978300760],
            ["--timestamp-unit", "nanoseconds"],
            "978,300,760 (interactions.jsonl row 1)",
        ),
        ([7], ["--timestamp-unit", "seconds"], [7_000_000]),
        (["2019-10-01 00:00:00 UTC"], [], [1569888000_000_000]),
        (["1971-01-01", "1970-01-02"], [], [31536000_000_000, 86400_000_000]),
        (["1971-01-01", 978300760], [], "Some timestamps are numbers, such as 978,300,760"),
        (["1971-01-01", 7], ["--timestamp-unit", "seconds"], [31536000_000_000, 7_000_000]),
        ([20200131235959, 20200201000000], [], [1580515199_000_000, 1580515200_000_000]),
        ([20200131], ["--timestamp-unit", "calendar"], [1580428800_000_000]),
        ([20200131235960], [], "20,200,131,235,960 (interactions.jsonl row 1)"),
        ([1.6e9 + 0.25, 1_600_000_001], [], [1600000000_250_000, 1600000001_000_000]),
        (["1600000000.123456"], ["--timestamp-unit", "seconds"], [1600000000_123_456]),
        ([1.6e9 + 0.25], ["--timestamp-unit", "position"], "position has no fraction"),
    ],
)
def test_times_of_one_unit_become_microseconds(times, options, expected, tmp_path, capsys):
    rows = [("u", "a", time) for time in times]
    folder = official.write_same(tmp_path / "in", rows, [{"item_id": "a"}])
    status = run(folder, "--output", tmp_path / "out", *options)
    if isinstance(expected, list):
        assert status == 0
        assert [time for _, _, time in read(tmp_path / "out")[0]] == expected
    else:
        assert status == 2 and expected in " ".join(capsys.readouterr().err.split())


def test_times_that_differ_by_a_fraction_are_no_repeats(tmp_path):
    rows = [("u", "a", 1600000000 + fraction) for fraction in (0.25, 0.5, 0.5)]
    folder = official.write_same(tmp_path / "in", rows, [{"item_id": "a"}])
    assert run(folder, "--output", tmp_path / "out", "--drop-repeats") == 0
    times = [time for _, _, time in read(tmp_path / "out")[0]]
    assert times == [1600000000_250_000, 1600000000_500_000]


def test_html_entities_are_noticed_and_decoded_on_demand(tmp_path, capsys):
    goods = [
        {"item_id": "a&amp;b", "title": "Salt &amp;amp; Pepper", "tags": ["5&quot;", "R&D"]},
        {"item_id": "b", "title": "R&D; 1 & 2 <3", "vector": [0.5, 1]},
        {"item_id": "c", "title": "Plain", "about": {"size": "5&#39; &le; 6&prime;"}},
    ]
    folder = official.write_same(tmp_path / "in", [("u", "b", 3)], goods)
    assert run(folder, "--output", tmp_path / "out") == 0
    assert read(tmp_path / "out")[1] == goods
    said = capsys.readouterr().err
    assert "2 of 3 (66.7%), such as title 'Salt &amp;amp; Pepper'" in said
    assert "Decode them with --unescape-html." in said
    assert run(folder, "--output", tmp_path / "new", "--unescape-html") == 0
    assert read(tmp_path / "new")[1] == [
        {"item_id": "a&amp;b", "title": "Salt & Pepper", "tags": ['5"', "R&D"]},
        goods[1],
        {"item_id": "c", "title": "Plain", "about": {"size": "5' ≤ 6′"}},
    ]
    assert "HTML" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("times", "options", "says"),
    [
        ([20200131], [], "Timestamps are dates written as digits (guessed from their size"),
        (["2020-01-31"], [], "Timestamps are dates and times: 2020-01-31 00:00:00 to"),
        ([7], ["--timestamp-unit", "seconds"], "Warning: that puts every interaction before 1973"),
    ],
)
def test_what_times_are_and_which_are_none_is_said(times, options, says, tmp_path, capsys):
    rows = [("u", "a", time) for time in times]
    folder = official.write_same(tmp_path / "in", rows, [{"item_id": "a"}])
    assert run(folder, "--check", *options) == 0
    assert says in " ".join(capsys.readouterr().err.split())


def test_the_table_of_rejected_rows_shows_the_first_value(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output, "width", 200)
    rows = [("u", "a", 5), ("u", "a", "soon")]
    folder = official.write_same(tmp_path / "in", rows, [{"item_id": "a"}])
    assert run(folder, "--check", "--max-rejected-fraction", "0.5") == 0
    assert 'interactions.jsonl row 2: "soon"' in capsys.readouterr().out


def test_whole_numbers_of_a_warehouse(tmp_path):
    def decimals(values):
        return pa.array([Decimal(value) for value in values], pa.decimal128(38, 0))

    clicks = {
        "user_id": decimals([1, 2]),
        "item_id": decimals([1, 2]),
        "timestamp": decimals([1_600_000_001, 1_600_000_002]),
    }
    goods = {
        "item_id": decimals([1, 2]),
        "price": pa.array([Decimal("12.00"), Decimal("12.50")], pa.decimal128(10, 2)),
    }
    pq.write_table(pa.table(clicks), tmp_path / "clicks.parquet")
    pq.write_table(pa.table(goods), tmp_path / "goods.parquet")
    files = tmp_path / "clicks.parquet", tmp_path / "goods.parquet"
    assert run(*files, "--output", tmp_path / "out") == 0
    interactions, items = read(tmp_path / "out")
    assert interactions == [("1", "1", 1_600_000_001_000_000), ("2", "2", 1_600_000_002_000_000)]
    assert items == [{"item_id": "1", "price": 12}, {"item_id": "2", "price": 12.5}]


def test_published_files(tmp_path):
    movielens = official.write_movielens(tmp_path / "movielens") / "ml-1m"
    files = movielens / "ratings.dat", movielens / "movies.dat"
    assert run(*files, "--format", "movielens", "--output", tmp_path / "ml") == 0
    interactions, items = read(tmp_path / "ml")
    assert interactions == [(str(u), str(i), t * 1_000_000) for u, i, t in official.RATINGS]
    assert items[2] == {"item_id": "30", "title": "Café (2000)", "genres": ["Drama"]}
    amazon = official.write_amazon(tmp_path / "amazon", "Beauty")
    files = amazon / "reviews_Beauty_5.json.gz", amazon / "meta_Beauty.json.gz"
    assert run(*files, "--format", "amazon", "--output", tmp_path / "beauty") == 0
    interactions, items = read(tmp_path / "beauty")
    assert interactions == [(u, i, t * 1_000_000) for u, i, t in official.REVIEWS]
    assert [item["item_id"] for item in items] == ["B1", "B2", "B3"]


def test_parquet_with_vectors_and_several_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("one.png", "two.png"):
        (tmp_path / "in" / name).write_bytes(name.encode())
    clicks = pa.table({"user_id": [7], "item_id": [1], "timestamp": pa.array([3], pa.int32())})
    pq.write_table(clicks, tmp_path / "in" / "interactions.parquet")
    pictures = [["one.png", "two.png", "https://cdn.example/shop/3.png"]]
    goods = {"item_id": [1], "text_vector": [[0.5, 1.0]], "image": pictures}
    pq.write_table(pa.table(goods), tmp_path / "in" / "items.parquet")
    options = ("--images", "https://cdn.example/shop")
    assert run(tmp_path / "in", "--output", tmp_path / "out", *options) == 0
    interactions, items = read(tmp_path / "out")
    assert interactions == [("7", "1", 3)]
    remote = "https://cdn.example/shop/3.png"
    paths = [remote, "images/one.png", "images/two.png"]
    assert items == [{"item_id": "1", "text_vector": [0.5, 1.0], "image": paths}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clicks.csv"], "Give the catalogue's file after it"),
        (["clicks.csv", "none.tsv"], "There is no file"),
        (["clicks.csv", "pics/a.png"], "its ending does not say how to read it"),
        ([*SHOP, *LATIN_1], "lacks the columns user_id, item_id, timestamp"),
        ([*SHOP, *LATIN_1], "or --column user_id=NAME to `kdsr data import`"),
        ([*SHOP, *LATIN_1, *COLUMNS], "rows of goods.tsv.gz would be rejected"),
        ([*SHOP, *COLUMNS], "goods.tsv.gz is not in UTF-8 (line 2: b'a\\tCaf"),
        ([*SHOP, *COLUMNS], "--encoding latin-1, if that is it"),
        (["clicks.csv", "goods.tsv.gz", "--encoding", "klingon"], "--encoding=klingon"),
        (["clicks.csv", "goods.tsv.gz", "--encoding", "utf-8"], "is not in utf-8 throughout"),
        (["clicks.csv", "goods.tsv.gz", "--encoding", "cp1252", *COLUMNS], "would be rejected"),
        ([*SHOP, *LATIN_1, "--images", "gone", *COLUMNS], "there is no folder"),
        (["clicks.csv", "goods.tsv.gz", "--format", "amazon"], "does not have the metadata"),
        (["clicks.csv", "more/../clicks.csv"], "Both files are called clicks.csv"),
        ([".", "--format", "amazon"], "--format describes two files"),
    ],
)
def test_every_mistake_is_one_message(arguments, message, shop, monkeypatch, capsys):
    monkeypatch.chdir(shop)
    assert run(*arguments, "--check") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert run(*arguments) == 2
    assert "--output is not given" in capsys.readouterr().err


def test_an_option_that_cannot_be_understood_is_told_first(shop, capsys):
    assert run("clicks.csv", "goods.tsv.gz", "--column", "user_id") == 2
    assert "--column takes NAME=OWN, such as user_id=customer. Received: user_id" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_a_folder_that_cannot_be_made_is_told_before_files_are_read(shop, capsys):
    assert run(shop / "none.csv", shop / "gone.csv", "--output", shop / "clicks.csv" / "new") == 2
    assert "clicks.csv is not a folder. Choose another folder." in capsys.readouterr().err


def test_a_folder_takes_its_place_from_beside_it(shop, tmp_path, monkeypatch, capsys):
    held = tmp_path / "held"
    (held / "empty").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(held))
    assert run(shop / "none.csv", shop / "gone.csv", "--output", held / "empty") == 2
    assert f"{held} may not be written. Choose another folder." in capsys.readouterr().err


def test_a_file_that_changes_between_the_readings_is_refused(shop, monkeypatch, capsys):
    from kdsr_tf.datasets.importing import Import

    check = Import.check_interactions

    def check_and_change(job, found, advance):
        check(job, found, advance)
        (shop / "clicks.csv").write_text(CLICKS + "u,a,978300999\n" * 3)

    monkeypatch.setattr(Import, "check_interactions", check_and_change)
    assert import_shop(shop, "--output", shop / "out") == 2
    assert not (shop / "out").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "had 10 rows when they were checked, but" in said


def test_marks_in_unquoted_titles_and_parts_of_parquet(tmp_path):
    """Rows in are items, rejected rows and interactions."""
    parts = tmp_path / "clicks.parquet"
    parts.mkdir()
    titles = {"a": '"Heroes" live', "b": '"Unclosed title', "c": "Plain", "d": 'Also "plain'}
    for number, item in enumerate(titles):
        columns = {"user_id": ["u"], "item_id": [item], "timestamp": [1_600_000_000 + number]}
        pq.write_table(pa.table(columns), parts / f"part-{number}.parquet")
    (parts / "_SUCCESS").write_text("")
    lines = ["item_id\ttitle", *map("\t".join, titles.items()), "e"]
    (tmp_path / "goods.tsv").write_text("\n".join(lines))
    options = ("--max-rejected-fraction", "0.5", "--output", tmp_path / "out")
    assert run(f"{parts}/", tmp_path / "goods.tsv", *options) == 0
    interactions, items = read(tmp_path / "out")
    assert [row[1] for row in interactions] == list(titles)
    assert {item["item_id"]: item["title"] for item in items} == titles
    (rejected,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    assert (rejected["where"], rejected["reason"]) == (
        "goods.tsv row 5",
        "wrong number of CSV fields",
    )


def test_two_folders_of_parts_named_with_a_slash(tmp_path):
    tables = {
        "clicks": {"user_id": ["u", "v"], "item_id": ["a", None], "timestamp": [5, 6]},
        "goods": {"item_id": ["a", "b"], "image": ["a.png", None]},
    }
    for name, columns in tables.items():
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "part-0.parquet")
    (tmp_path / "a.png").write_bytes(b"picture of a")
    options = ("--max-rejected-fraction", "0.5", "--output", tmp_path / "out")
    assert run(f"{tmp_path}/clicks/", f"{tmp_path}/goods//", *options) == 0
    assert read(tmp_path / "out")[1] == [
        {"item_id": "a", "image": "images/a.png"},
        {"item_id": "b"},
    ]
    (rejected,) = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    assert rejected["where"] == "clicks row 2"


def test_a_mark_that_makes_a_quoted_file_unquoted_is_said(tmp_path, capsys):
    (tmp_path / "clicks.csv").write_text("user_id, item_id , timestamp\nu,a,5\nu,b,6\n")
    goods = tmp_path / "goods.tsv"
    goods.write_text(' item_id\ttitle \na\t"A ""x"""\nb\t"B\n')
    files = tmp_path / "clicks.csv", goods
    assert run(*files, "--output", tmp_path / "out") == 0
    items = [{"item_id": "a", "title": '"A ""x"""'}, {"item_id": "b", "title": '"B'}]
    assert read(tmp_path / "out")[1] == items
    said = capsys.readouterr().err
    assert "goods.tsv has fields in quotation marks, and in row 2 a mark that does not fit" in said
    goods.write_text('item_id\ttitle\na\t"A ""x"""\nb\t"B"\n')
    assert run(*files, "--output", tmp_path / "new") == 0
    assert [item["title"] for item in read(tmp_path / "new")[1]] == ['A "x"', "B"]
    assert "does not fit" not in capsys.readouterr().err


def test_lines_of_users_become_positions(tmp_path, capsys):
    (tmp_path / "users.txt").write_text("u\tb a\nv\ta\n")
    (tmp_path / "goods.csv").write_text("item_id\na\nb\n")
    files = tmp_path / "users.txt", tmp_path / "goods.csv"
    assert run(*files, "--output", tmp_path / "out") == 0
    assert read(tmp_path / "out")[0] == [("u", "b", 0), ("u", "a", 1), ("v", "a", 2)]
    assert "Timestamps are positions" in capsys.readouterr().err


@pytest.mark.parametrize("delimiter", ["::", "é", ""])
def test_a_delimiter_is_one_character(delimiter, capsys):
    assert run("a.csv", "b.csv", "--delimiter", delimiter) == 2
    assert "--delimiter takes one ASCII character, `tab` or `space`" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_commands_in_the_documentation(tmp_path, monkeypatch, capsys):
    """Those on files; datasets are built and imported in tests/datasets."""
    monkeypatch.chdir(tmp_path)
    Path("clicks.csv").write_text("customer,sku,timestamp\nu,a,978300760\n")
    Path("goods.tsv.gz").write_bytes(gzip.compress(b"sku\ttitle\na\tA\n"))
    Path("clicks.dat").write_text("u\ta\t5\t978300760\n")
    Path("goods.txt").write_text("a|A\n")
    official.write_movielens(tmp_path)
    official.write_amazon(tmp_path, "Beauty")
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    on_files = [c for c in commands if c.startswith("kdsr data import") and "tfds:" not in c]
    assert len(on_files) == 6
    for command in on_files:
        assert run(*shlex.split(command)[3:]) == 0, capsys.readouterr().err
    folders = {path.name for path in Path("data").iterdir()}
    assert folders == {"shop", "ml-1m", "beauty", "plain"}
