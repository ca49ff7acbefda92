"""Pictures that a catalogue may name, and the ways out of their folder."""

from __future__ import annotations

import os

import pytest

from kdsr_tf.config import SourceConfig
from kdsr_tf.errors import InputError
from kdsr_tf.sources import open_source
from kdsr_tf.sources.image_files import allowed_path

CDN = "https://cdn.example/shop"


@pytest.fixture
def folder(tmp_path):
    """A source folder beside a folder with secrets, and links from one to the other."""
    (tmp_path / "source").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "source2").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    os.symlink(tmp_path / "outside", tmp_path / "source" / "folder")
    os.symlink(tmp_path / "outside" / "secret.png", tmp_path / "source" / "file.png")
    return tmp_path / "source"


@pytest.mark.parametrize(
    "value",
    [
        "../outside/secret.png",
        "a/../../outside/secret.png",
        "..",
        ".",
        "",
        "../source2/a.png",
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file://../outside/secret.png",
        "local:///etc/passwd",
        "folder/secret.png",
        "file.png",
        "simplecache::file:///etc/passwd",
        "zip://a.png::/etc/a.zip",
        "http://169.254.169.254/latest/meta-data",
        "https://cdn.example/shop/a.png",
        "gs://bucket/a.png",
        "memory://a.png",
        "data://text/plain,a",
        "github://owner:repo@main/a.png",
        "a\0.png",
        "\ud800.png",
    ],
)
def test_every_way_out_of_a_local_folder_is_refused(folder, value):
    with pytest.raises(InputError, match=r"leads outside .*--set source\.image_folders="):
        allowed_path(value, [str(folder)])


def test_what_lies_inside_a_local_folder_is_a_plain_path(folder):
    inside = str(folder / "a.png")
    for value in ("a.png", "./a.png", "b/../a.png", inside, f"file://{inside}"):
        assert allowed_path(value, [str(folder)]) == inside
    # For a local path, percent signs and tildes are letters.
    for value in ("%2e%2e/secret.png", "~/a.png", "100%.png"):
        assert allowed_path(value, [str(folder)]) == str(folder / value)


@pytest.mark.parametrize(
    "value",
    [
        "../secret.png",
        "a/../../secret.png",
        "/secret.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "%2e%2e/secret.png",
        "a/%2E%2E/%2e./secret.png",
        "%252e%252e%252fsecret.png",
        "a\\..\\..\\secret.png",
        "https://cdn.example/secret.png",
        "https://cdn.example/shop/../secret.png",
        "https://cdn.example/shop/%2e%2e/secret.png",
        "https://cdn.example/shop2/a.png",
        "https://cdn.example@evil.example/shop/a.png",
        "http://cdn.example/shop/a.png",
        "https://169.254.169.254/shop/a.png",
        "simplecache::https://cdn.example/shop/a.png",
    ],
)
def test_every_way_out_of_a_remote_folder_is_refused(value):
    with pytest.raises(InputError, match=r"leads outside https://cdn\.example/shop"):
        allowed_path(value, [CDN])


def test_what_lies_inside_a_remote_folder_is_its_uri():
    for value in ("x/a.png", "./x/a.png", "y/../x/a.png", f"{CDN}/x/a.png"):
        assert allowed_path(value, [CDN]) == f"{CDN}/x/a.png"
    assert allowed_path("HTTPS://cdn.example/shop/a.png?size=1", [CDN]) == f"{CDN}/a.png?size=1"


def test_further_folders_are_declared(folder, tmp_path):
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,1\n")
    (folder / "items.csv").write_text("item_id,image\na,a.png\n")
    outside = tmp_path / "outside"

    def opened(*folders):
        return open_source(SourceConfig(path=f"file://{folder}", image_folders=list(folders)))

    secret = str(outside / "secret.png")
    for value in (secret, "folder/secret.png", "https://cdn.example/a.png"):
        with pytest.raises(InputError, match="leads outside"):
            opened().image_path(value)
    source = opened(str(outside), "https://cdn.example")
    assert source.image_path(secret) == secret
    assert source.image_path("a.png") == str(folder / "a.png")
    assert source.image_path("https://cdn.example/a.png") == "https://cdn.example/a.png"
    before = source.fingerprint()
    assert before != opened().fingerprint()
    os.utime(secret, (1, 1))
    assert before != source.fingerprint()
    with pytest.raises(
        InputError, match=r"`source.image_folders` \(--images\): there is no folder .*gone"
    ):
        opened(str(tmp_path / "gone"))
