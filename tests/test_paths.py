"""Home folders at the edge, and folders whose names hold the characters of patterns."""

from __future__ import annotations

import os

import fsspec
import pytest

from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError, KDSRError
from kdsr_tf.paths import copy_folder, expand_home, remove_folder

PATH_KEYS = (
    "workdir",
    "source.path",
    "source.tfds.data_dir",
    "source.tfds.items",
    "encode.text.preset",
    "encode.image.preset",
    "encode.image.weights",
    "export.allow_items",
    "export.deny_items",
    "export.add_items",
    "serve.tls_client_ca",
)


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada [1]")
    return "/home/ada [1]"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("~", "/home/ada [1]"),
        ("~/shop #2, é", "/home/ada [1]/shop #2, é"),
        ("tfds:~/tfds/movielens", "tfds:/home/ada [1]/tfds/movielens"),
        ("file://~/shop", "file:///home/ada [1]/shop"),
        ("./~/shop", "./~/shop"),
        ("data/~", "data/~"),
        ("gs://~/shop", "gs://~/shop"),
        ("-w", "-w"),
        ("", ""),
    ],
)
def test_leading_tilde_alone_is_the_home_folder(home, written, expected):
    assert expand_home(written) == expected


@pytest.mark.parametrize("written", ["~nobody-of-this-name/shop", "tfds:~nobody-of-this-name/x"])
def test_home_of_nobody_is_refused_and_never_made(written):
    with pytest.raises(KDSRError, match=r"no home folder ~nobody-of-this-name.*Give"):
        expand_home(written)


@pytest.mark.parametrize("key", PATH_KEYS)
def test_every_key_that_holds_a_path_knows_the_home_folder(home, tmp_path, key):
    tls = ["serve.tls_certificate=~/c.pem", "serve.tls_key=~/k.pem"]
    config = load_config(overrides=[*tls, f"{key}=~/a #2"])
    found = config
    for name in key.split("."):
        found = getattr(found, name)
    assert found == f"{home}/a #2"
    assert (config.serve.tls_certificate, config.serve.tls_key) == (
        f"{home}/c.pem",
        f"{home}/k.pem",
    )


def test_yaml_and_arguments_know_the_home_folder_too(home, tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text('source: {path: ~/shop, image_folders: ["~/pictures", "gs://a"]}\n')
    config = load_config(str(file), workdir="~/work")
    assert (config.source.path, config.workdir) == (f"{home}/shop", f"{home}/work")
    assert config.source.image_folders == [f"{home}/pictures", "gs://a"]
    with pytest.raises(ConfigError, match="`workdir`: There is no home folder ~nobody-at-all"):
        load_config(workdir="~nobody-at-all/work")


@pytest.mark.parametrize("root", ["{}", "memory://{}"])
def test_folders_are_copied_and_removed_literally(tmp_path, root):
    filesystem, base = fsspec.core.url_to_fs(root.format(tmp_path))
    name, beside, copy = f"{base}/shop [1]*?", f"{base}/shop 1xx", f"{base}/copy [2]"
    files = ["a #1.bin", "sub [x]/b.bin"]
    for folder in (name, beside):
        for file in files:
            filesystem.makedirs(os.path.dirname(f"{folder}/{file}"), exist_ok=True)
            filesystem.pipe_file(f"{folder}/{file}", file.encode())
    copy_folder(filesystem, name, copy)
    assert filesystem.find(copy) == [f"{copy}/{file}" for file in files]
    assert filesystem.cat_file(f"{copy}/{files[1]}") == files[1].encode()
    remove_folder(filesystem, name)
    assert not filesystem.exists(name)
    assert filesystem.find(beside) == [f"{beside}/{file}" for file in files]
