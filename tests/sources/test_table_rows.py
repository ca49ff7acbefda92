"""Rows of delimited text: what is well-formed is read as Python reads it, and nothing is lost."""

from __future__ import annotations

import csv
import io
import random

import pytest

from kdsr_tf.sources import csv_files, files, table_rows
from kdsr_tf.sources.catalogue_rows import CatalogueRow, read_items
from kdsr_tf.sources.forms import find_form
from kdsr_tf.sources.table_rows import STRAY_MARK, WRONG_NUMBER, Dialect, TableRows

PARTS = ["a", '"', '""', ",", "\t", "\n", "\r", "\r\n", "é", "\0", "\u2028", " "]
WEIGHTS = [8, 1, 0.5, 1, 1, 1, 0.5, 0.5, 1, 0.3, 0.3, 1]


def split(content: bytes, num_fields: int, dialect=None):
    rows = TableRows("f.csv", io.BytesIO(content), dialect or Dialect())
    blocks = list(rows.blocks(num_fields))
    good = [b"".join(block.data for block in blocks), [n for b in blocks for n in b.rows.tolist()]]
    return *good, [row for block in blocks for row in block.rejected]


def python_rows(content: bytes) -> list[list[str]]:
    text = io.StringIO(content.decode(), newline="")
    return [row for row in csv.reader(text, strict=True) if row]


def drawn(rng: random.Random, size: int) -> str:
    return "".join(rng.choices(PARTS, WEIGHTS, k=rng.randrange(size)))


@pytest.mark.parametrize("seed", range(300))
def test_well_formed_text_is_read_as_python_reads_it(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr(table_rows, "_BLOCK_BYTES", rng.choice([1, 2, 7, 64, 1 << 20]))
    monkeypatch.setattr(table_rows, "_LINES_LIKE_ROWS", 1 << 20)
    num_fields, text = rng.randrange(1, 5), io.StringIO()
    style = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = rng.choice(["\n", "\r\n"])
    writer = csv.writer(text, lineterminator=end, quoting=style)
    for _ in range(rng.randrange(8)):
        writer.writerow([drawn(rng, 6) for _ in range(rng.choice([num_fields] * 9 + [3]))])
    content = text.getvalue().removesuffix(end if rng.random() < 0.3 else "").encode()
    expected = python_rows(content)
    data, numbers, rejected = split(content, num_fields)
    good = [n for n, row in enumerate(expected) if len(row) == num_fields]
    if not any("\n" in value or "\r" in value for row in expected for value in row):
        assert numbers == good
        assert [n for n, _, _ in rejected] == sorted(set(range(len(expected))) - set(good))
    if len(good) == len(expected):
        assert (python_rows(data), rejected) == (expected, [])


@pytest.mark.parametrize("seed", range(300))
def test_every_line_of_any_text_is_in_one_row(seed, tmp_path, monkeypatch):
    """`read_items` refuses a file whose lines, counted apart, are not those of its rows."""
    rng = random.Random(seed)
    monkeypatch.setattr(table_rows, "_BLOCK_BYTES", rng.choice([1, 2, 7, 64, 1 << 20]))
    name, delimiter = rng.choice([("items.csv", ","), ("items.tsv", "\t")])
    header = delimiter.join(("item_id", "title", "genre"))
    lines = [drawn(rng, 20) for _ in range(rng.randrange(12))]
    lines += [delimiter.join(("id", "title", "genre"))] * 3
    (tmp_path / name).write_bytes("\n".join((header, *lines)).encode())
    form = find_form(str(tmp_path / name))
    (piece,) = files.pieces_of(str(tmp_path / name), form)
    rows = list(read_items(piece, "image"))
    good = [row.values for row in rows if isinstance(row, CatalogueRow)]
    # Good rows behind any text are still there.
    assert good[-3:] == [{"item_id": "id", "title": "title", "genre": "genre"}] * 3
    numbers = [int(row.where.rpartition(" ")[2]) for row in rows]
    assert sorted(numbers) == list(range(1, len(rows) + 1))


STRAY = [
    ('a,"Heroes" live,x', STRAY_MARK),
    ('a,"Unclosed title,x', STRAY_MARK),
    ('"a,title,x', STRAY_MARK),
    ('a,title,"x', STRAY_MARK),
    ('a,"one\ntwo",x,y', WRONG_NUMBER),
    ("a,title", WRONG_NUMBER),
    ("a,title,x,y", WRONG_NUMBER),
    ('a,"title, x",y,z', WRONG_NUMBER),
]


@pytest.mark.parametrize(("row", "reason"), STRAY)
def test_a_malformed_row_is_rejected_alone(row, reason):
    around = "".join(f"{k},title {k},x\n" for k in range(5))
    data, numbers, rejected = split(f"{around}{row}\n{around}".encode(), 3)
    assert data.decode() == around * 2
    assert numbers == [*range(5), *range(6, 11)]
    assert rejected == [(5, reason, f"{row}\n".encode())]


def test_two_stray_marks_that_fit_each_other_hide_no_rows():
    lines = ['1,"opened,x', *(f"{k},plain,x" for k in range(2, 6)), '6,closed",x']
    _, numbers, rejected = split("\n".join(lines).encode(), 3)
    assert numbers == [1, 2, 3, 4, 5]  # a mark inside a text is a character
    assert [(row, reason) for row, reason, _ in rejected] == [(0, STRAY_MARK)]


TITLES = ['"Heroes" live', '"Unclosed title', "Plain", 'Also "plain', '"Whole"', "It's", '""', '"']


def test_marks_are_characters_of_unquoted_tab_separated_text(tmp_path):
    path = tmp_path / "goods.tsv"
    rows = [f"{k}\t{title}\tx" for k, title in enumerate(TITLES)]
    path.write_text("\n".join(["item_id\ttitle\tgenre", *rows]))
    form = find_form(str(path))
    assert not form.dialect.quoted
    items = read_items(files.pieces_of(str(path), form)[0], "image")
    assert [row.values["title"] for row in items] == TITLES


def test_tab_separated_text_that_is_quoted_throughout_is_unquoted(tmp_path):
    path = tmp_path / "goods.tsv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["item_id", "genre", "title"], *([t, "x", t + "\n\t"] for t in TITLES)])
    form = find_form(str(path))
    assert form.dialect.quoted
    items = read_items(files.pieces_of(str(path), form)[0], "image")
    assert [row.values["title"] for row in items] == [title + "\n\t" for title in TITLES]


def test_a_text_over_the_end_of_a_block(monkeypatch):
    monkeypatch.setattr(table_rows, "_BLOCK_BYTES", 8)
    text = "\n".join("line" for _ in range(100))
    data, numbers, rejected = split(f'a,"{text}"\nb,B\n'.encode(), 2)
    assert (python_rows(data), numbers, rejected) == ([["a", text], ["b", "B"]], [0, 1], [])


def test_marks_are_looked_at_once_if_the_whole_file_is_unquoted():
    content = b'a\t"A" b\n' + b"c\td\n" * 10
    assert quoting(content) == (False, None)
    assert quoting(b'a\t"A ""b"""\n') == (True, None)
    assert quoting(b"a\tb\n") == (False, None)
    assert quoting(b'a\t"A ""b"""\n\nb\tB\nc\t"C\n') == (False, 2)


def quoting(content):
    return csv_files.find_quoting("f.tsv", io.BytesIO(content), "\t", 2)
