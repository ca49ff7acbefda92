"""URIs of stores whose module is not installed: every command names it and its extra."""

from __future__ import annotations

import sys

import pytest

from kdsr_tf.cli.main import main
from kdsr_tf.errors import InputError
from kdsr_tf.sources.image_files import read_image

S3 = "s3:// needs the module s3fs, which is not here: pip install 'kdsr-tf[aws]'"
GS = "gs:// needs the module gcsfs, which is not here: pip install 'kdsr-tf[gcp]'"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A folder with two files, and an installation without extras."""
    for module in ("s3fs", "gcsfs", "adlfs", "aiohttp"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clicks.csv").write_text("user_id,item_id,timestamp\nu,a,1600000000\n")
    (tmp_path / "goods.csv").write_text("item_id\na\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("data import s3://b/clicks.csv goods.csv --check", S3),
        ("data import clicks.csv gs://b/goods.csv --check", GS),
        ("data import clicks.csv goods.csv --output s3://b/out", S3),
        ("data import clicks.csv goods.csv --images gs://b/pictures --check", GS),
        ("data import gs://b/shop --check", GS),
        ("data import az://b/clicks.csv goods.csv --check", "pip install 'adlfs'"),
        ("data import https://127.0.0.1/clicks.csv goods.csv --check", "download the file"),
        ("data import nothing://b/clicks.csv goods.csv --check", "protocol not known: nothing"),
        ("check --config s3://b/config.yaml", S3),
        ("check --workdir gs://b/work", GS),
    ],
)
def test_every_command_names_what_is_missing(command, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_worker_without_the_module_ends_the_job():
    """Otherwise every picture would be a dead letter of its own."""
    with pytest.raises(
        InputError, match=r"The picture s3://b/a\.png cannot be opened: s3:// needs"
    ):
        read_image("s3://b/a.png")
