"""`kdsr data import`: every picture is taken, or named with its row and the reason."""

from __future__ import annotations

import base64
import io
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipelines.encode import encode
from beam_pipelines.prepare import prepare
from kdsr_tf.cli.main import main
from kdsr_tf.config import load_config
from kdsr_tf.console import output


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


RED, BLUE, GREEN = map(picture, ("red", "blue", "green"))


def write_clicks(folder, ids):
    rows = "".join(f"u,{item},{1_600_000_000 + k}\n" for k, item in enumerate(ids))
    (folder / "clicks.csv").write_text("user_id,item_id,timestamp\n" + rows)


def imported(folder, goods, *options):
    """Status, items by id, and lines of `rejected.jsonl`."""
    arguments = [folder / "clicks.csv", folder / goods, "--output", folder / "out", *options]
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", *map(str, arguments)])
    assert ended.value.code == 0
    items, rejected = (
        [json.loads(line) for line in (folder / "out" / name).read_text().splitlines()]
        for name in ("items.jsonl", "rejected.jsonl")
    )
    return {item["item_id"]: item for item in items}, rejected


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables that break no line."""
    monkeypatch.setattr(output, "width", 300)


def said(capsys):
    read = capsys.readouterr()
    return " ".join((read.out + read.err).split())


def test_pictures_by_id_in_sub_folders(tmp_path, capsys):
    ids = ["0108775015", "0110065001"]
    write_clicks(tmp_path, ids)
    (tmp_path / "goods.csv").write_text("item_id,title\n0108775015,A\n0110065001,B\n")
    for item, data in zip(ids, (RED, BLUE), strict=True):
        (tmp_path / "images" / item[:3]).mkdir(parents=True)
        (tmp_path / "images" / item[:3] / f"{item}.jpg").write_bytes(data)
    (tmp_path / "images" / "other.jpg").write_bytes(GREEN)
    items, rejected = imported(tmp_path, "goods.csv", "--images", tmp_path / "images")
    assert {key: item["image"] for key, item in items.items()} == {
        "0108775015": "images/010/0108775015.jpg",
        "0110065001": "images/011/0110065001.jpg",
    }
    assert (tmp_path / "out/images/010/0108775015.jpg").read_bytes() == RED
    assert not rejected
    text = said(capsys)
    assert "items with pictures found 2" in text and "of no item 1" in text


def test_an_image_column_of_every_form(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    for name, data in (("a", RED), ("b", BLUE), ("c", GREEN)):
        (tmp_path / "p" / f"{name}.png").write_bytes(data)
    inline = base64.b64encode(GREEN).decode()
    values = {
        "list": "['p/a.png', 'p/b.png']",
        "pipes": "p/b.png|p/c.png",
        "windows": "p\\c.png",
        "uri": (tmp_path / "p" / "a.png").as_uri(),
        "data": f"data:image/png;base64,{inline}",
        "gone": "['p/a.png', 'p/gone.png']",
        "outside": "../secret.png",
        "web": "https://cdn.example/a.png",
    }
    write_clicks(tmp_path, values)
    lines = [json.dumps({"item_id": key, "image": value}) for key, value in values.items()]
    (tmp_path / "goods.jsonl").write_text("\n".join(lines))
    items, rejected = imported(tmp_path, "goods.jsonl")
    assert {key: item.get("image") for key, item in items.items()} == {
        "list": ["images/p/a.png", "images/p/b.png"],
        "pipes": ["images/p/b.png", "images/p/c.png"],
        "windows": "images/p/c.png",
        "uri": "images/p/a.png",
        "data": "images/data.png",
        "gone": "images/p/a.png",
        "outside": None,
        "web": None,
    }
    assert (tmp_path / "out" / "images" / "data.png").read_bytes() == GREEN
    outside = "image path leads outside the source folder"
    assert [(r["reason"], r["where"], json.loads(r["row"])["image"]) for r in rejected] == [
        ("image file does not exist", "goods.jsonl row 6", "p/gone.png"),
        (outside, "goods.jsonl row 7", "../secret.png"),
        (outside, "goods.jsonl row 8", "https://cdn.example/a.png"),
    ]
    text = said(capsys)
    assert "Pictures that are not taken" in text
    assert 'not exist 1 goods.jsonl row 6 {"item_id": "gone", "image": "p/gone.png"}' in text
    # A lost picture is no lost row.
    assert "Rows that cannot be used" not in text and "usable items 8" in text


def test_parquet_with_pictures_inside(tmp_path):
    """As Hugging Face `datasets` writes them, and as plain bytes."""
    write_clicks(tmp_path, ["a", "b/../c", "d"])
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": RED, "path": "x.png"}, {"bytes": BLUE, "path": None}, None]
    table = {"item_id": ["a", "b/../c", "d"], "image": pa.array(images, struct)}
    pq.write_table(pa.table(table), tmp_path / "goods.parquet")
    items, rejected = imported(tmp_path, "goods.parquet")
    names = [item.get("image") for item in items.values()]
    assert names == ["images/a.png", "images/b%2F..%2Fc.png", None] and not rejected
    assert [(tmp_path / "out" / name).read_bytes() for name in names[:2]] == [RED, BLUE]
    raw = pa.array([GREEN, b"caf\xe9.jpg", None], pa.binary())
    pq.write_table(pa.table({**table, "image": raw}), tmp_path / "goods.parquet")
    items, rejected = imported(tmp_path, "goods.parquet", "--force")
    assert [item.get("image") for item in items.values()] == ["images/a.png", None, None]
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == GREEN
    assert [(r["reason"], r["where"]) for r in rejected] == [
        ("not an image", "goods.parquet row 2")
    ]


def test_nothing_found_is_a_warning_with_examples(tmp_path, capsys):
    write_clicks(tmp_path, "abcd")
    (tmp_path / "goods.csv").write_text(
        "item_id,image\n" + "".join(f"{item},photos/{item}.jpg\n" for item in "abcd")
    )
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "one.png").write_bytes(RED)
    imported(tmp_path, "goods.csv")
    text = said(capsys)
    assert "None of the pictures that column image names was found (4 items)." in text
    assert "Looked for photos/a.jpg, photos/b.jpg, photos/c.jpg in" in text
    assert f"Pictures there: {tmp_path / 'pics' / 'one.png'}." in text


def test_a_name_of_the_column_is_found_in_any_sub_folder(tmp_path):
    write_clicks(tmp_path, "ab")
    (tmp_path / "goods.csv").write_text("item_id,image\na,0108.jpg\nb,0109\n")
    for name in ("010/0108.jpg", "010/0109.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(RED)
    items, _ = imported(tmp_path, "goods.csv", "--images", tmp_path / "images")
    assert items["a"]["image"] == "images/010/0108.jpg"
    assert items["b"]["image"] == "images/010/0109.jpg"


def test_encode_reads_what_import_takes(tmp_path):
    """The same catalogue, encoded as it is and after its import, gives the same vectors."""
    (tmp_path / "in").mkdir()
    for name, data in (("a", RED), ("b", BLUE)):
        (tmp_path / "in" / f"{name}.png").write_bytes(data)
    inline = base64.b64encode(GREEN).decode()
    values = {
        "a": {"bytes": RED, "path": None},
        "b": {"bytes": None, "path": "['a.png' 'b.png']"},
        "c": {"bytes": None, "path": ".\\b.png"},
        "d": {"bytes": None, "path": f"data:;base64,{inline}"},
        "e": {"bytes": None, "path": "a.png; b.png"},
        "f": {"bytes": None, "path": "gone.png"},
    }
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    goods = {"item_id": list(values), "image": pa.array(list(values.values()), struct)}
    pq.write_table(pa.table(goods), tmp_path / "in" / "items.parquet")
    clicks = {"user_id": ["u"] * 6, "item_id": list(values), "timestamp": list(range(6))}
    pq.write_table(pa.table(clicks), tmp_path / "in" / "interactions.parquet")
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert ended.value.code == 0
    direct, after = (_vectors(tmp_path / name, tmp_path / f"work-{name}") for name in ("in", "out"))
    assert sorted(direct) == [1, 2, 3, 4, 5] and direct == after
    assert len({direct[1], direct[2], direct[3], direct[4]}) == 4 and direct[2] == direct[5]


def _vectors(source: pathlib.Path, work: pathlib.Path) -> dict[int, bytes]:
    overrides = [
        f"source.path={source}",
        "encode.text=null",
        "encode.image.image_size=32",
        "prepare.k_core=0",
        "encode.max_rejected_fraction=0.5",
    ]
    config = load_config(overrides=overrides, workdir=str(work))
    prepare(config)
    encode(config)
    found = {}
    for path in work.glob("**/features/image/vectors-*.parquet"):
        for row in pq.read_table(path).to_pylist():
            found[row["item"]] = str(row["vector"])
    return found


def test_a_name_that_looks_like_several_stays_one(tmp_path):
    """A picture of an item may have any name; the new column is read as the old one was."""
    names = {"a": "x.jpg, y.jpg", "b": "x.jpg y.jpg", "c": "p\\q.jpg"}
    write_clicks(tmp_path, names)
    (tmp_path / "goods.csv").write_text("item_id\na\nb\nc\n")
    for item, name in names.items():
        (tmp_path / "images" / item).mkdir(parents=True)
        (tmp_path / "images" / item / name).write_bytes(item.encode())
    options = ("--images", tmp_path / "images")
    items, rejected = imported(tmp_path, "goods.csv", *options)
    assert {key: item["image"] for key, item in items.items()} == {
        "a": "images/a/x.jpg__y.jpg",
        "b": "images/b/x.jpg_y.jpg",
        "c": "images/c/p_q.jpg",
    }
    assert (tmp_path / "out" / "images" / "c" / "p_q.jpg").read_bytes() == b"c" and not rejected


def test_a_picture_by_id_takes_the_place_of_one_that_is_gone(tmp_path):
    write_clicks(tmp_path, "a")
    (tmp_path / "goods.csv").write_text("item_id,image\na,gone/a.png\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(RED)
    items, rejected = imported(tmp_path, "goods.csv", "--images", tmp_path / "images")
    assert items["a"]["image"] == "images/a.png"
    assert [row["reason"] for row in rejected] == ["image file does not exist"]


def test_pictures_of_another_column_are_told(tmp_path, capsys):
    write_clicks(tmp_path, "ab")
    (tmp_path / "goods.csv").write_text("item_id,title,photo\na,A,p/a.JPG\nb,B.,\n")
    imported(tmp_path, "goods.csv")
    text = said(capsys)
    assert "column photo seems to name some (1 items, such as p/a.JPG)" in text
    assert "--column image=photo" in text and "column title" not in text
    imported(tmp_path, "goods.csv", "--force", "--column", "image=photo")
    assert "seems to name" not in said(capsys)


def test_addresses_without_a_column_are_told(tmp_path, capsys):
    write_clicks(tmp_path, "a")
    (tmp_path / "goods.csv").write_text("item_id,title\na,A\n")
    imported(tmp_path, "goods.csv", "--images", "https://cdn.example/shop")
    assert "Pictures of https://cdn.example/shop (--images) are those that the column names." in (
        said(capsys)
    )
