"""Pictures behind web addresses, through the whole job, from a real server."""

from __future__ import annotations

import collections
import io

from PIL import Image

from beam_pipelines.handlers import kept_pictures
from beam_pipelines.handlers.kept_pictures import keeping_pictures
from tests.beam_pipelines import catalogues
from tests.sources.web_server import redirect, serve

Disk = collections.namedtuple("Disk", "total used free")


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG")
    return file.getvalue()


def test_pictures_of_a_declared_host_are_encoded_and_others_named(request, tmp_path):
    red, blue = picture("red"), picture("blue")
    other = serve(request, {"/shop/a.png": (200, {}, red)})
    server = serve(
        request,
        {
            "/shop/red.png": (200, {}, red),
            "/shop/moved.png": redirect("/store/blue"),
            "/store/blue": (200, {}, blue),
            "/shop/gone.png": (404, {}, b""),
            "/shop/page.png": (200, {"Content-Type": "text/html"}, b"<html>"),
            "/shop/away.png": redirect(f"{other.uri}/shop/a.png"),
            "/shop/file.png": redirect(f"file://{tmp_path}/source/local.png"),
        },
    )
    paths = {name: f"{server.uri}/shop/{name}.png" for name in
             ("red", "moved", "gone", "page", "away", "file")}  # fmt: skip
    paths |= {"local": "local.png", "above": f"{server.uri}/store/blue"}
    lines = catalogues.json_lines({"item_id": key, "image": path} for key, path in paths.items())
    source = catalogues.write_source(tmp_path / "source", "items.jsonl", lines, paths)
    (tmp_path / "source" / "local.png").write_bytes(red)
    declared = f"source.image_folders=[{server.uri}/shop]"
    config = catalogues.configure(
        source, tmp_path / "out", "image", "encode.image.image_size=32", declared
    )
    manifest = catalogues.run(config)
    assert {key: manifest.counts[key] for key in ("encoded", "rejected")} == {
        "encoded": 3,
        "rejected": 5,
    }
    vectors = catalogues.vectors(config, "image")
    assert vectors["red"] == vectors["local"] != vectors["moved"]
    assert catalogues.rejected(config, "features/image") == [
        ("items.jsonl row 3", "image address answers 404 Not Found"),
        ("items.jsonl row 4", "image address sends text/html, not a picture"),
        ("items.jsonl row 5", f"image address redirects to {other.uri}, which is not declared"),
        ("items.jsonl row 6", "image address redirects to file:, which is not declared"),
        ("items.jsonl row 8", "image path leads outside the source folder"),
    ]
    assert not other.asked
    assert sorted(server.asked) == sorted({*server.asked}), "a picture was fetched twice"


def test_kept_pictures_are_given_once_and_nothing_is_kept_on_a_full_disk(tmp_path, monkeypatch):
    with keeping_pictures() as kept:
        kept.keep("http://shop/a.png", b"a")
        assert kept.take("http://shop/b.png") is None
        assert [kept.take("http://shop/a.png") for _ in range(2)] == [b"a", None]
        monkeypatch.setattr(kept_pictures.shutil, "disk_usage", lambda _: Disk(100, 81, 19))
        kept.keep("http://shop/c.png", b"c")
        assert kept.take("http://shop/c.png") is None
    kept.keep("http://shop/a.png", b"a")  # on a worker without the folder
    assert kept.take("http://shop/a.png") is None
