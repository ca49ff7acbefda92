"""What values of an image column mean, in every form that people's files have."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from kdsr_tf.errors import InputError
from kdsr_tf.sources.image_values import (
    ENDINGS,
    FORMATS,
    NO_KEY,
    NOT_AN_IMAGE,
    NOT_TEXT,
    OUTSIDE,
    picture_ending,
    pictures,
)


def contents(value):
    return [picture.content for picture in pictures(value, str)]


def picture_bytes(kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, kind)
    return file.getvalue()


PNG, JPEG = picture_bytes(), picture_bytes("JPEG")
IN_BASE64 = base64.b64encode(PNG).decode()
DATA = f"data:image/png;base64,{IN_BASE64}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # One path, whatever is in it.
        ("a.jpg", ["a.jpg"]),
        (" a.jpg\n", ["a.jpg"]),
        ("my front, best.jpg", ["my front, best.jpg"]),
        ("a | b", ["a | b"]),
        ("[1] a.png", ["[1] a.png"]),
        ("(1).jpg", ["(1).jpg"]),
        ("[a].jpg", ["[a].jpg"]),
        ("'tis.jpg", ["'tis.jpg"]),
        ("[" * 40 + "]" * 40, ["[" * 40 + "]" * 40]),
        ("[draft] a.png", ["[draft] a.png"]),
        ("[" * 500 + "]" * 500, ["[" * 500 + "]" * 500]),
        ("[" * 100_000, ["[" * 100_000]),
        ("https://x/w_100,h_100/a.jpg", ["https://x/w_100,h_100/a.jpg"]),
        ("https://x/my photo.jpg", ["https://x/my photo.jpg"]),
        # Nothing.
        (None, []),
        ("  ", []),
        (float("nan"), []),
        ([], []),
        ("[]", []),
        ("{}", []),
        ([None, ""], []),
        ({"bytes": None, "path": None}, []),
        # Lists, and lists as text: JSON, Python, NumPy, PostgreSQL, bare.
        (["a.jpg", None, "b.jpg"], ["a.jpg", "b.jpg"]),
        ('["a.jpg", "b.jpg"]', ["a.jpg", "b.jpg"]),
        ("['a.jpg', 'b.jpg']", ["a.jpg", "b.jpg"]),
        ("('a.jpg', \"it's.jpg\")", ["a.jpg", "it's.jpg"]),
        ("['a.jpg' 'b.jpg'\n 'c.jpg']", ["a.jpg", "b.jpg", "c.jpg"]),
        ("['p\\\\a.jpg', 'p\\b.jpg']", ["p\\a.jpg", "p\\b.jpg"]),
        ('"a.jpg","b.jpg"', ["a.jpg", "b.jpg"]),
        ('"a.jpg"', ["a.jpg"]),
        ("[a.jpg, b.jpg]", ["a.jpg", "b.jpg"]),
        ("[a.jpg]", ["a.jpg"]),
        ("{a.jpg,b.jpg}", ["a.jpg", "b.jpg"]),
        ("[None, 'b.jpg']", ["b.jpg"]),
        # Several names in one text.
        ("a.jpg|b.jpg", ["a.jpg", "b.jpg"]),
        ("a.jpg | b.JPEG |", ["a.jpg", "b.JPEG"]),
        ("a.jpg;b.webp;c.gif", ["a.jpg", "b.webp", "c.gif"]),
        ("img 1.png, img 2.bmp", ["img 1.png", "img 2.bmp"]),
        ("a.jpg b.jpg\tc.jpg\nd.jpg", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        ("a.jpg, b.jpg; c.jpg", ["a.jpg", "b.jpg", "c.jpg"]),
        ("a.jpg , b.jpg ;", ["a.jpg", "b.jpg"]),
        ("https://x/1|https://x/2?a=b", ["https://x/1", "https://x/2?a=b"]),
        ("https://x/1,https://x/2", ["https://x/1", "https://x/2"]),
        ("https://x/a,b.jpg|https://x/c.jpg", ["https://x/a,b.jpg", "https://x/c.jpg"]),
        # Objects.
        ({"url": "https://x/1"}, ["https://x/1"]),
        ({"bytes": None, "path": "a.jpg"}, ["a.jpg"]),
        ([{"thumb": "t.jpg", "hi_res": None, "large": "l.jpg"}], ["l.jpg"]),
        ("[{'url': 'a.jpg', 'main': True}, {'url': 'b.jpg'}]", ["a.jpg", "b.jpg"]),
        ('{"image_url": {"URL": "a.jpg"}}', ["a.jpg"]),
        # The picture itself.
        (PNG, [PNG]),
        ([JPEG, "a.jpg"], [JPEG, "a.jpg"]),
        ({"bytes": JPEG, "path": "a.jpg"}, [JPEG]),
        (str({"bytes": JPEG, "path": None}), [JPEG]),
        (str(JPEG), [JPEG]),
        (DATA, [PNG]),
        (DATA.replace("data:image/png", "DATA:"), [PNG]),
        (DATA.rstrip("="), [PNG]),
        (f"{DATA},{DATA}", [PNG, PNG]),
        (f"{DATA}|{DATA}", [PNG, PNG]),
        ([DATA, "a.jpg"], [PNG, "a.jpg"]),
        (IN_BASE64, [PNG]),
        (base64.encodebytes(JPEG).decode(), [JPEG]),
    ],
)
def test_forms_of_a_value(value, expected):
    assert contents(value) == expected


@pytest.mark.parametrize(
    ("value", "reasons"),
    [
        (7, [NOT_TEXT]),
        ("7.5", [None]),
        ([0.5] * 10_000, [NOT_TEXT]),
        ([7, "a.jpg"], [NOT_TEXT, None]),
        ({"width": 3}, [NO_KEY]),
        (b"caf\xe9.jpg", [NOT_AN_IMAGE]),
        ("data:image/png;base64,????", ["data URI is malformed"]),
        ("data:image/png", ["data URI is malformed"]),
        ("data:text/plain,hello", [NOT_AN_IMAGE]),
        (PNG[:60], [None]),
    ],
)
def test_what_is_no_picture_has_a_reason(value, reasons):
    assert [picture.reason for picture in pictures(value, str)] == reasons


def test_a_dead_letter_shows_what_stood_there_but_no_whole_picture():
    def refuse(path):
        raise InputError(path)

    found = pictures(["../a.jpg", PNG, DATA], refuse)
    assert found[0] == ("../a.jpg", None, OUTSIDE)
    assert found[1].declared == f"{len(PNG)} bytes"
    assert found[2].declared.startswith("data:image/png;base64,iVBOR") and json.dumps(found[0])
    assert len(found[2].declared) < 80 < len(DATA)


def test_every_format_has_its_ending_and_every_ending_is_known():
    Image.init()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert set(ENDINGS) <= known
    for kind in set(FORMATS) & set(Image.SAVE):
        assert picture_ending(picture_bytes(kind)) in ENDINGS
    assert picture_ending(b"caf\xe9.jpg") is None
    assert picture_ending(np.random.default_rng(0).bytes(1000)) is None
