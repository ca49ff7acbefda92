"""Every argument that takes a path knows the home folder."""

from __future__ import annotations

import pytest
import yaml

from kdsr_tf.cli.main import main


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "ada [1] #2"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "interactions.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    (folder / "shop" / "items.csv").write_text("item_id,title\ni,Tie\n")
    values = {"source": {"path": "~/shop"}, "encode": {"text": {}}, "workdir": "~/work"}
    (folder / "shop.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield folder
    assert list((tmp_path / "here").iterdir()) == []


CONFIG = ("--config", "~/shop.yaml")


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["prepare", "--config", "~/none.yaml"], "none.yaml"),
        (["prepare", "--workdir", "~/none"], "none/config.yaml"),
        (["report", "~/none"], "none"),
        (["report", "name=~/none"], "none"),
        (["compare", "~/none"], "none"),
        (["compare", "name=~/none", "~/none"], "none"),
        (["compare", "~/none-*"], "none-*"),
        (["experiment", "~/none.yaml", *CONFIG], "none.yaml"),
        (["search", "--space", "~/none.yaml", *CONFIG], "none.yaml"),
        (["data", "import", "~/none.csv", "~/shop/items.csv", "--check"], "none.csv"),
        (["data", "import", "~/shop/items.csv", "~/none.csv", "--check"], "none.csv"),
        (["data", "import", "~/none", "--check"], "none"),
        (["data", "import", "~/shop", "--check", "--images", "~/none"], "none"),
        (["data", "import", "~/shop", "--output", "~/shop"], "shop"),
        (["query", "--key", "~/none.pem"], "none.pem"),
        (["export", *CONFIG, "--add-items", "~/none.jsonl", "--dry-run"], "none.jsonl"),
        (["export", *CONFIG, "--set", "export.deny_items=~/no.txt", "--dry-run"], "no.txt"),
        (["prepare", *CONFIG, "--set", "source.path=~/none", "--dry-run"], "none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_missing_file_is_named_in_the_home_folder(home, capfd, arguments, path):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = "".join(capfd.readouterr())
    assert ended.value.code == 2
    assert "Traceback" not in said
    assert str(home / path) in said


def test_home_of_nobody_is_refused_everywhere(home, capfd):
    for arguments in (
        ["prepare", "--workdir", "~nobody-here/w"],
        ["data", "import", "~/shop", "--output", "~nobody-here/w"],
        ["compare", "a=~nobody-here/w"],
        ["prepare", *CONFIG, "--set", "workdir=~nobody-here/w"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "There is no home folder ~nobody-here" in capfd.readouterr().err


def test_dry_run_and_print_config_show_the_home_folder(home, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["skew", *CONFIG, "--requests", "~/log", "--dry-run"])
    assert ended.value.code == 0
    assert str(home / "log") in " ".join(capfd.readouterr().err.split("\n"))
    with pytest.raises(SystemExit) as ended:
        main(["prepare", *CONFIG, "--workdir", "~/other", "--print-config"])
    shown = yaml.safe_load(capfd.readouterr().out)
    assert shown["workdir"] == str(home / "other") and shown["source"]["path"] == str(home / "shop")
