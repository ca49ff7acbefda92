"""Every edition of MovieLens and of the Amazon reviews: whole, or refused by name."""

from __future__ import annotations

import gzip
import json

import pyarrow.parquet as pq
import pytest

from kdsr_tf.cli.main import main
from kdsr_tf.datasets.published import amazon_items, movielens

CITY = "City of Lost Children, The (Cité des enfants perdus, La) (1995)"
RATINGS = [("1", "1", 838985046), ("1", "2", 838983525), ("2", "1", 838983392)]
MICROSECONDS = [(user, item, time * 1_000_000) for user, item, time in RATINGS]
HEADER_100K = "|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/Toy|"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", *map(str, arguments)])
    return ended.value.code


def imported(folder, ratings, items, form, *options):
    """Rows of the interactions and of the catalogue after an import of two files."""
    out = folder / "out"
    files = [folder / name for name in (ratings, items)]
    assert run(*files, "--format", form, "--output", out, *options) == 0
    rows = pq.read_table(out / "interactions.parquet").to_pylist()
    lines = (out / "items.jsonl").read_text().splitlines()
    return [tuple(row.values()) for row in rows], [json.loads(line) for line in lines]


def refused(folder, capsys, form, ratings, items, *options):
    """The message of an import that ends with status 2."""
    assert run(folder / ratings, folder / items, "--format", form, "--check", *options) == 2
    return " ".join(capsys.readouterr().err.split())


def write_dat(folder, encoding):
    lines = [f"{user}::{item}::3.5::{time}\n" for user, item, time in RATINGS]
    (folder / "ratings.dat").write_text("".join(lines))
    if encoding == "utf-16":
        path = folder / "ratings.dat"
        path.write_bytes(path.read_text().encode(encoding))
    movies = f"1::{CITY}::Adventure|Drama\n2::Amélie (2001)::(no genres listed)\n"
    (folder / "movies.dat").write_bytes(movies.encode(encoding))


def write_csv(folder, pack=lambda content: content, ending=""):
    lines = [f"{user},{item},4.5,{time}\r\n" for user, item, time in RATINGS]
    ratings = "userId,movieId,rating,timestamp\r\n" + "".join(lines)
    movies = f'movieId,title,genres\r\n1,"{CITY}",Adventure|Drama\r\n'
    movies += '2,"""Amélie"" (2001)",(no genres listed)\r\n'
    (folder / f"ratings.csv{ending}").write_bytes(pack(ratings.encode()))
    (folder / f"movies.csv{ending}").write_bytes(pack(movies.encode()))


def write_100k(folder):
    lines = [f"{user}\t{item}\t3\t{time}\n" for user, item, time in RATINGS]
    (folder / "u.data").write_text("".join(lines))
    flags = ["0|0|0|1|1|1" + "|0" * 13, "1" + "|0" * 18]
    movies = f"1{HEADER_100K}{flags[0]}\n2|Misérables, Les (1995)||||{flags[1]}\n"
    (folder / "u.item").write_bytes(movies.encode("latin-1"))


# 1M is in Latin-1, 10M in UTF-8; the others are what editors make of it.
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
def test_dat_files_are_read_in_the_encoding_that_they_have(encoding, tmp_path, capsys):
    write_dat(tmp_path, encoding)
    rows, items = imported(tmp_path, "ratings.dat", "movies.dat", "movielens")
    assert rows == MICROSECONDS
    assert items == [
        {"item_id": "1", "title": CITY, "genres": ["Adventure", "Drama"]},
        {"item_id": "2", "title": "Amélie (2001)"},
    ]
    assert "Left out of ratings.dat: rating (3)." in capsys.readouterr().err


def test_windows_quotation_marks_are_not_taken_for_latin_1(tmp_path, capsys):
    write_dat(tmp_path, "utf-8")
    path = tmp_path / "movies.dat"
    path.write_bytes(path.read_bytes() + "3::“Crocodile” (1986)::Comedy\n".encode("cp1252"))
    movies = path.read_bytes().replace("é".encode(), b"\xe9")
    path.write_bytes(movies)
    assert "neither UTF-8 nor Latin-1" in refused(
        tmp_path, capsys, "movielens", "ratings.dat", "movies.dat"
    )
    _, items = imported(tmp_path, "ratings.dat", "movies.dat", "movielens", "--encoding", "cp1252")
    assert [item["title"] for item in items] == [CITY, "Amélie (2001)", "“Crocodile” (1986)"]


def test_one_damaged_line_does_not_garble_a_file_in_utf_8(tmp_path):
    write_dat(tmp_path, "utf-8")
    path = tmp_path / "movies.dat"
    path.write_bytes(path.read_bytes() + b"3::Caf\xe9 (2000)::Drama\n")
    options = ("--max-rejected-fraction", "0.5")
    _, items = imported(tmp_path, "ratings.dat", "movies.dat", "movielens", *options)
    assert [item["title"] for item in items] == [CITY, "Amélie (2001)"]
    (rejected,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["reason"] == "not UTF-8"


def test_a_csv_edition_in_latin_1_is_refused_with_the_remedy(tmp_path, capsys):
    write_csv(tmp_path, lambda text: text.decode().encode("latin-1"), "")
    names = "ratings.csv", "movies.csv"
    said = refused(tmp_path, capsys, "movielens", *names)
    assert "movies.csv is not in UTF-8 (line 2:" in said and "--encoding latin-1" in said
    _, items = imported(tmp_path, *names, "movielens", "--encoding", "latin-1")
    assert [item["title"] for item in items] == [CITY, '"Amélie" (2001)']


@pytest.mark.parametrize(("pack", "ending"), [(bytes, ""), (gzip.compress, ".gz")])
def test_csv_editions_have_quoted_titles(pack, ending, tmp_path, capsys):
    write_csv(tmp_path, pack, ending)
    names = (f"ratings.csv{ending}", f"movies.csv{ending}")
    rows, items = imported(tmp_path, *names, "movielens")
    assert rows == MICROSECONDS
    assert items == [
        {"item_id": "1", "title": CITY, "genres": ["Adventure", "Drama"]},
        {"item_id": "2", "title": '"Amélie" (2001)'},
    ]
    assert f"Left out of {names[0]}: rating (3)." in capsys.readouterr().err


def test_100k_has_its_own_layout(tmp_path):
    write_100k(tmp_path)
    rows, items = imported(tmp_path, "u.data", "u.item", "movielens")
    assert rows == MICROSECONDS
    first = {"item_id": "1", "title": "Toy Story (1995)", "release_date": "01-Jan-1995"}
    first |= {"imdb_url": "http://us.imdb.com/M/Toy"}
    first["genres"] = ["Animation", "Children's", "Comedy"]
    second = {"item_id": "2", "title": "Misérables, Les (1995)", "genres": ["unknown"]}
    assert items == [first, second]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("movies.dat", "ratings.dat"), "movies.dat does not have the ratings of an edition"),
        (("ratings.dat", "users.dat"), "users.dat does not have the movies of an edition"),
        (("u.data", "movies.dat"), "Give both files of one edition."),
        (("tags.csv", "movies.csv"), "Its first line: 'userId,movieId,tag,timestamp'"),
        (("ratings.csv", "empty.csv"), "Its first line: none, for it is empty."),
    ],
)
def test_other_files_are_not_taken_for_movielens(files, message, tmp_path, capsys):
    write_dat(tmp_path, "utf-8")
    write_csv(tmp_path)
    write_100k(tmp_path)
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n")
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,2,funny,838985046\n")
    (tmp_path / "empty.csv").write_text("")
    assert message in refused(tmp_path, capsys, "movielens", *files)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1|Title|0|1", "not movie id|movie title"),
        (b"|Title|||" + b"|0" * 19, "movie id is empty"),
        (b"1|Title|||" + b"|0" * 18 + b"|2", "a genre is neither 0 nor 1"),
    ],
)
def test_malformed_lines_of_100k_have_a_reason(line, reason):
    values, found = movielens.parse_movie_100k(line)
    assert values is None and found.startswith(reason)


META_2018 = {
    "category": ["All Beauty", "Hair &amp; Skin"],
    "tech1": "",
    "description": ["A <b>gentle</b> soap &amp; shampoo.", "Two in one."],
    "fit": "",
    "title": "Soap &amp;amp; Co, 5&quot;",
    "also_buy": ["B0002"],
    "brand": "Acme",
    "feature": ["Mild", "250&nbsp;ml<br>"],
    "rank": "1,000 in Beauty",
    "details": {"\n  Weight: \n ": "5 ounces", "ASIN: ": "B0001"},
    "main_cat": "All Beauty",
    "price": "$12.49 - $1,020.99",
    "asin": "B0001",
    "imageURL": ["https://images.example/I/1._SS40_.jpg"],
    "imageURLHighRes": ["https://images.example/I/1.jpg", "https://images.example/I/2.jpg"],
}
SOAP = {
    "item_id": "B0001",
    "title": 'Soap & Co, 5"',
    "description": "A gentle soap & shampoo.\nTwo in one.",
    "brand": "Acme",
    "main_category": "All Beauty",
    "categories": ["All Beauty", "Hair & Skin"],
    "features": ["Mild", "250\xa0ml"],
    "price": 12.49,
    "highest_price": 1020.99,
    "details": ["Weight: 5 ounces", "ASIN: B0001"],
    "image_url": ["https://images.example/I/1.jpg", "https://images.example/I/2.jpg"],
}
META_2023 = {
    "main_category": "All Beauty",
    "title": "Brush",
    "average_rating": 4.8,
    "rating_number": 10,
    "features": [],
    "description": ["Soft."],
    "price": 9.99,
    "images": [
        {"thumb": "https://m.example/t.jpg", "large": "https://m.example/l.jpg", "hi_res": None},
        {"thumb": "https://m.example/t2.jpg", "large": "https://m.example/l2.jpg",
         "variant": "PT01", "hi_res": "https://m.example/h2.jpg"},
    ],
    "videos": [],
    "store": "Howard Products",
    "categories": ["Beauty", "Brushes"],
    "details": {"Color": "Red", "Rank": {"Beauty": 7}},
    "parent_asin": "B01CUPMQZE",
    "bought_together": None,
}  # fmt: skip
BRUSH = {
    "item_id": "B01CUPMQZE",
    "title": "Brush",
    "description": "Soft.",
    "brand": "Howard Products",
    "main_category": "All Beauty",
    "categories": ["Beauty", "Brushes"],
    "price": 9.99,
    "details": ["Color: Red", "Rank: Beauty 7"],
    "image_url": ["https://m.example/l.jpg", "https://m.example/h2.jpg"],
}
USER_2023 = "AGKHLEW2SOWHNMFQIJGBECAF7INQ"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_2018(folder):
    reviews = [
        {"overall": 5.0, "reviewerID": user, "asin": item, "unixReviewTime": time, "vote": "3"}
        for user, item, time in (("U1", "B0001", 1472688000), ("U2", "B0003", 1472688001))
    ]
    write_lines(folder / "All_Beauty_5.json", reviews)
    others = [{"asin": "B0009", "title": "Nobody's", "rank": "1"}, META_2018]
    write_lines(folder / "meta_All_Beauty.json", [META_2018, *others])


def write_2023(folder):
    review = {"rating": 5.0, "title": "Such a lovely scent", "text": "!", "images": []}
    review |= {"asin": "B00YQ6X8EO", "parent_asin": "B01CUPMQZE", "user_id": USER_2023}
    write_lines(folder / "All_Beauty.jsonl", [review | {"timestamp": 1588687728923}])
    write_lines(folder / "meta_All_Beauty.jsonl", [META_2023])
    header = "user_id,parent_asin,rating,timestamp\n"
    line = f"{USER_2023},B01CUPMQZE,5.0,1588687728923\n"
    (folder / "All_Beauty.csv").write_text(header + line)


def test_amazon_2018_comes_through_whole(tmp_path, capsys):
    write_2018(tmp_path)
    rows, items = imported(tmp_path, "All_Beauty_5.json", "meta_All_Beauty.json", "amazon")
    assert rows == [("U1", "B0001", 1472688000_000_000), ("U2", "B0003", 1472688001_000_000)]
    assert items == [SOAP, {"item_id": "B0003"}]
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""
    said = capsys.readouterr().err
    assert "Left out of All_Beauty_5.json: rating (2), vote (2)." in said
    counts = "also_buy (2), rank (2), items without a review (1), further rows of an item (1)."
    assert f"Left out of meta_All_Beauty.json: {counts}" in said
    assert "addresses of pictures (column image_url): 1, none" in said
    assert "--column" not in said
    assert "--images https://images.example." in said


def test_declared_addresses_become_pictures(tmp_path, capsys):
    write_2018(tmp_path)
    names = "All_Beauty_5.json", "meta_All_Beauty.json"
    _, items = imported(tmp_path, *names, "amazon", "--images", "https://images.example/I")
    assert items[0] == SOAP | {"image": SOAP["image_url"]}
    assert "none of them declared" not in capsys.readouterr().err


@pytest.mark.parametrize("ratings", ["All_Beauty.jsonl", "All_Beauty.csv"])
def test_amazon_2023_comes_through_whole(ratings, tmp_path, capsys):
    write_2023(tmp_path)
    rows, items = imported(tmp_path, ratings, "meta_All_Beauty.jsonl", "amazon")
    assert rows == [(USER_2023, "B01CUPMQZE", 1588687728923_000)]
    assert items == [BRUSH]
    said = capsys.readouterr().err
    left_out = ("rating (1), title (1), text (1), asin (1)", "rating (1)")
    assert f"Left out of {ratings}: {left_out[ratings.endswith('csv')]}." in said
    assert "meta_All_Beauty.jsonl: average_rating (1), rating_number (1)." in said


def test_reviews_saved_again_have_other_notations(tmp_path, capsys):
    """What pandas makes of them; unusable ones are rejected by the rule of every import."""
    reviews = [
        {"reviewerID": "U1", "asin": 123, "unixReviewTime": 1472688000.0, "overall": "*"},
        {"reviewerID": 7, "asin": "123", "unixReviewTime": "1472688001"},
        {"reviewerID": "U1", "asin": "123", "unixReviewTime": "soon"},
        {"reviewerID": "U1", "asin": None, "unixReviewTime": 1472688000},
    ]
    write_lines(tmp_path / "reviews.json", reviews)
    write_lines(tmp_path / "meta.json", [{"asin": 123, "title": "T"}])
    options = ("--max-rejected-fraction", "0.5")
    rows, items = imported(tmp_path, "reviews.json", "meta.json", "amazon", *options)
    assert rows == [("U1", "123", 1472688000_000_000), ("7", "123", 1472688001_000_000)]
    assert items == [{"item_id": "123", "title": "T"}]
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(row)["where"] for row in rejected] == [
        "reviews.json row 3",
        "reviews.json row 4",
    ]


# 2014 begins with the user, 2018 with the item; ids of ten characters are items. The third
# has no such ids: the catalogue tells.
@pytest.mark.parametrize(
    ("lines", "item"),
    [
        (["A2CX7LUOHB2NDG,B01CUPMQZE,5.0,1365811200"], "B01CUPMQZE"),
        (["B01CUPMQZE,A2CX7LUOHB2NDG,5.0,1365811200"], "B01CUPMQZE"),
        (["9,U1,5.0,1365811200", "7,A2CX7LUOHB2NDG,5.0,1365811200"], "7"),
        (["U1,9,5.0,1365811200", "A2CX7LUOHB2NDG,7,5.0,1365811200"], "7"),
    ],
)
def test_ratings_without_a_header_in_either_order(lines, item, tmp_path):
    (tmp_path / "ratings_Beauty.csv").write_text("\n".join(lines))
    write_lines(tmp_path / "meta_Beauty.json", [{"asin": item, "title": "T"}])
    rows, items = imported(tmp_path, "ratings_Beauty.csv", "meta_Beauty.json", "amazon")
    assert rows[-1] == ("A2CX7LUOHB2NDG", item, 1365811200_000_000)
    assert len(rows) == len(lines)
    assert items[0] == {"item_id": item, "title": "T"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("meta_All_Beauty.json", "All_Beauty_5.json"), "All_Beauty_5.json holds reviews"),
        (("meta_All_Beauty.json", "meta.json"), "meta_All_Beauty.json holds metadata"),
        (("other.jsonl", "meta.json"), "other.jsonl does not have the reviews or ratings"),
        (("All_Beauty_5.json", "other.jsonl"), "other.jsonl does not have the metadata"),
    ],
)
def test_other_files_are_not_taken_for_amazon(files, message, tmp_path, capsys):
    write_2018(tmp_path)
    write_lines(tmp_path / "meta.json", [META_2018])
    write_lines(tmp_path / "other.jsonl", [{"user": "u", "item": "i"}])
    assert message in refused(tmp_path, capsys, "amazon", *files)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (3, {"price": 3.0}),
        ("$3", {"price": 3.0}),
        ("3.50", {"price": 3.5}),
        ("from 14.99", {"price": 14.99}),
        ("$5.00-$7.25", {"price": 5.0, "highest_price": 7.25}),
        ("", {}),
        (None, {}),
        ("—", {}),
        (".a-box-inner{color:red}", {"price that is not a number": ".a-box-inner{color:red}"}),
        (True, {"price that is not a number": True}),
    ],
)
def test_prices_of_every_edition(price, expected):
    values, _ = amazon_items.parse_item(json.dumps({"asin": "B1", "price": price}).encode())
    assert values == {"item_id": "B1"} | expected


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("http://e.example/1.jpg", "http://e.example/1.jpg"),
        (["http://e.example/1.jpg", None], ["http://e.example/1.jpg"]),
        ({"hi_res": [None, "h2"], "large": ["l1", "l2"], "variant": ["A", "B"]}, ["l1", "h2"]),
        ([{"variant": "MAIN"}], None),
        ([], None),
    ],
)
def test_addresses_of_pictures_in_every_form(images, expected):
    values, _ = amazon_items.parse_item(json.dumps({"asin": "B1", "images": images}).encode())
    assert values.get("image_url") == expected


def test_a_field_of_another_form_is_left_out_by_name():
    item = {"asin": "B1", "title": ["Soap"], "brand": {"name": "A"}, "feature": 7}
    item |= {"description": [""], "details": {}, "images": [None], "main_cat": "<br>"}
    values, _ = amazon_items.parse_item(json.dumps(item).encode())
    assert values == {
        "item_id": "B1",
        "title": "Soap",
        "brand of another form": {"name": "A"},
        "feature of another form": 7,
    }


def test_half_of_a_surrogate_pair_in_a_literal_is_rejected():
    values, reason = amazon_items.parse_item(b"{'asin': 'B1', 'title': '\\ud83d'}")
    assert (values, reason) == (None, "neither a Python dictionary nor JSON")
