"""What is served of a working directory."""

import json
import os

from kdsr_tf import stages
from kdsr_tf.config import load_config
from kdsr_tf.methods.served import read_extended
from tests import factories


def test_new_items_that_no_encoder_has_read_are_left_out(tmp_path, capsys):
    overrides = [
        "encode.text.dim=24",
        "model.dim=8",
        "model.num_layers=1",
        "windows.max_length=10",
        "windows.stride=10",
        f"export.add_items={tmp_path}/new.jsonl",
    ]
    config = load_config(overrides=overrides, workdir=str(tmp_path / "work"))
    factories.write_workdir(config)
    factories.write_student(config)
    factories.write_new_items(config, ["new1", "new2"])
    path = os.path.join(stages.location(config, stages.NEW_ITEMS), "manifest.json")
    with open(path, encoding="utf-8") as file:
        manifest = json.load(file)
    del manifest["counts"]["text_vectors"]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(manifest, file)
    found = read_extended(config)
    assert found.new_ids == [] and found.recommender.num_items == 40
    assert found.details == {"items": 0, "without_vectors": 2, "known_already": 0}
    assert "2 of 2 new items have no vector" in capsys.readouterr().err
