"""Every form of file gives the same rows: told by an option, or by what it looks like."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf.datasets.import_options import Reading
from kdsr_tf.errors import InputError
from kdsr_tf.sources import files, forms
from kdsr_tf.sources.catalogue_rows import read_items
from kdsr_tf.sources.forms import Told, find_form
from kdsr_tf.sources.interaction_rows import read_interactions

ROWS = [("u", "a", 5), ("u", "b", 6), ("v", "a", 7)]
NAMES = ("user_id", "item_id", "timestamp")
OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def zipped(content: bytes, *names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


def table(delimiter: str, header=NAMES) -> bytes:
    return "\n".join(delimiter.join(map(str, row)) for row in (header, *ROWS) if row).encode()


def interactions(path, told=None):
    form = find_form(str(path), told or Told(), of_interactions=True)
    batches = [b for p in files.pieces_of(str(path), form) for b in read_interactions(p)]
    assert not any(batch.rejected for batch in batches)
    return [
        row
        for batch in batches
        for row in zip(
            batch.user_ids.to_pylist(),
            batch.item_ids.to_pylist(),
            batch.timestamps.tolist(),
            strict=True,
        )
    ]


LINES = "\n".join(map(json.dumps, OBJECTS)).encode()
ZSTD = pa.compress(LINES, "zstd", asbytes=True)
FOUND = {
    "a.csv": table(","),
    "semicolons.csv": table(";"),
    "tabs.csv": table("\t"),
    "bars.txt": table("|"),
    "spaces.dat": table(" "),
    "CAPITALS.TSV": table("\t"),
    "recbole.inter": table("\t", ("user_id:token", "item_id:token", "timestamp:float")),
    "lines.jsonl": LINES,
    "lines.ndjson": LINES,
    "lines.json": LINES,
    "list.json": json.dumps(OBJECTS).encode(),
    "list over lines.json": json.dumps(OBJECTS, indent=2).encode(),
    "list.jsonl": json.dumps(OBJECTS).encode(),
    "objects over lines.json": "\n".join(json.dumps(o, indent=1) for o in OBJECTS).encode(),
    "byte order mark.csv": b"\xef\xbb\xbf" + table(","),
    "byte order mark.json": b"\xef\xbb\xbf" + json.dumps(OBJECTS).encode(),
    "a.csv.gz": gzip.compress(table(",")),
    "two members.csv.gz": gzip.compress(table(",")[:30]) + gzip.compress(table(",")[30:]),
    "a.csv.bz2": bz2.compress(table(",")),
    "a.CSV.XZ": lzma.compress(table(",")),
    "a.jsonl.zst": ZSTD,
    "two frames.jsonl.zst": ZSTD + pa.compress(b"\n", "zstd", asbytes=True),
    "a.csv.zip": zipped(table(","), "clicks.csv", "__MACOSX/._clicks.csv"),
    "a.zip": zipped(LINES, "shop/clicks.jsonl"),
    "packed without saying so.csv": gzip.compress(table(",")),
    "unpacked by a browser.csv.gz": table(","),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_form_is_found(tmp_path, name):
    (tmp_path / name).write_bytes(FOUND[name])
    assert interactions(tmp_path / name) == ROWS


def test_columns_by_position(tmp_path):
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    (tmp_path / "u.item").write_text('242|Kolya|24-Jan-1997\n302|L.A. "5"|\n')
    columns = {"user_id": "1", "item_id": "2", "timestamp": "4", "items.title": "2"}
    reading = Reading(columns=columns, has_header=False)
    assert reading.own_names() == {}
    of_interactions, of_items = reading.of_files()
    assert interactions(tmp_path / "u.data", of_interactions) == [
        ("196", "242", 881250949),
        ("186", "302", 891717742),
    ]
    form = find_form(str(tmp_path / "u.item"), of_items)
    (piece,) = files.pieces_of(str(tmp_path / "u.item"), form)
    assert [row.values for row in read_items(piece, "image")] == [
        {"item_id": "242", "title": "Kolya", "column_3": "24-Jan-1997"},
        {"item_id": "302", "title": 'L.A. "5"'},
    ]
    # A first line with an expected name is a header whatever was said.
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    assert find_form(str(tmp_path / "items.csv"), of_items).columns == ("item_id", "title")


USERS = {
    "tab and spaces": "u\ta b\nv\ta\n",
    "tab and commas": "u\ta,b\nv\ta\n",
    "spaces": "u a b\nv a\n",
    "spaces, blank lines": "u a b\r\n\r\nv a",
}


@pytest.mark.parametrize("name", USERS)
@pytest.mark.parametrize("layout", [None, "sequences"])
def test_one_line_per_user_gives_positions(tmp_path, name, layout):
    (tmp_path / "users.txt").write_text(USERS[name])
    expected = [("u", "a", 0), ("u", "b", 1), ("v", "a", 2)]
    assert interactions(tmp_path / "users.txt", Told(layout=layout)) == expected


def test_lines_of_equal_length_are_users_only_if_told(tmp_path):
    path = tmp_path / "users.txt"
    path.write_text("u1 a b c\nu2 b c d\n")
    assert find_form(str(path), of_interactions=True).kind == forms.TABLE
    assert len(interactions(path, Told(layout="sequences"))) == 6
    assert len(interactions(path, Told(layout="sequences", delimiter=" "))) == 6


def test_a_user_without_items_is_rejected(tmp_path):
    path = tmp_path / "users.txt"
    path.write_text("user_id\titems\nu\ta b\nv\n")
    form = find_form(str(path), Told(layout="sequences"), of_interactions=True)
    (batch,) = read_interactions(files.pieces_of(str(path), form)[0])
    assert batch.item_ids.to_pylist() == ["a", "b"]
    assert [(row.where, row.reason) for row in batch.rejected] == [
        ("users.txt row 2", "a line without items")
    ]


def test_a_folder_of_parquet_parts(tmp_path):
    folder = tmp_path / "clicks.parquet"
    for number, row in zip((2, 10), OBJECTS, strict=False):
        (folder / "day=2020-01-01").mkdir(parents=True, exist_ok=True)
        part = folder / "day=2020-01-01" / f"part.{number}.parquet"
        pq.write_table(pa.Table.from_pylist([row]), part)
    pq.write_table(pa.Table.from_pylist(OBJECTS[2:]), folder / "last.parquet")
    (folder / "_SUCCESS").write_text("")
    (folder / ".part.2.parquet.crc").write_text("sum")
    assert interactions(folder) == ROWS
    form = find_form(str(folder))
    assert form.columns == (*NAMES, "day")
    assert files.count_lines(str(folder), form) == 3
    pieces = files.pieces_of(str(folder), form)
    assert [(piece.first_row, piece.where(piece.first_row)) for piece in pieces][-1] == (
        2,
        "clicks.parquet row 3",
    )
    assert [batch.columns["day"].to_pylist() for batch in pieces[0].read(None)] == [["2020-01-01"]]
    (folder / "notes.csv").write_text("a")
    with pytest.raises(InputError, match=r"is a folder, and holds notes.csv. Only a folder of"):
        find_form(str(folder))


REFUSED = {
    "two.zip": (zipped(b"a", "a.csv", "b.csv"), "must hold one file. Received 2 files: a.csv, b"),
    "sheet.zip": (zipped(b"a", "[Content_Types].xml", "x.xml"), "is a workbook. Save its sheet"),
    "a.rtf": (b"a", "its ending does not say how to read it"),
    "a.txt": (b"a;b|c\nd;e|f\n", "';' and '|' would fit.*--delimiter"),
    "cut.csv.gz": (gzip.compress(table(","))[:-9], "cannot be unpacked"),
    "twice.csv": (b"item_id,a,a\n1,2,3\n", "has two columns 'a'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_one_message(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        find_form(str(tmp_path / name))


def test_advice_for_files_without_header(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("196,242,3,881250949\n")
    form = find_form(str(path), of_interactions=True)
    with pytest.raises(InputError, match=r"looks like data: 196, 242, 3, 881250949\. Without a "):
        forms.check_columns_of(str(path), form, (), NAMES)
    form = find_form(str(path), Told(has_header=False), of_interactions=True)
    with pytest.raises(InputError, match=r"its 4 columns is user_id .* --column user_id=1"):
        forms.check_columns_of(str(path), form, (), NAMES)


def test_text_of_another_encoding_is_decoded_while_it_is_read(tmp_path):
    content = "item_id;title\na;Café – €\n"
    for encoding in ("cp1252", "utf-16"):
        path = tmp_path / f"{encoding}.csv.gz"
        path.write_bytes(gzip.compress(content.encode(encoding)))
        form = find_form(str(path), Told(encoding=encoding))
        (row,) = read_items(files.pieces_of(str(path), form)[0], "image")
        assert row.values == {"item_id": "a", "title": "Café – €"}
    with pytest.raises(InputError, match="is not in utf-8 throughout"):
        find_form(str(tmp_path / "cp1252.csv.gz"), Told(encoding="utf-8"))
    with pytest.raises(InputError, match="--encoding=klingon is not known"):
        find_form(str(tmp_path / "cp1252.csv.gz"), Told(encoding="klingon"))
