"""A group's values leave it in the coder in which they entered.

The local runner decodes and encodes on the way and would hide a difference; others hand the
bytes on.
"""

from __future__ import annotations

import json

import apache_beam as beam
import pytest
from PIL import Image

from beam_pipelines.distill import distill
from beam_pipelines.encode import encode
from beam_pipelines.prepare import prepare
from beam_pipelines.triplets import triplets
from kdsr_tf.config import load_config
from tests import factories
from tests.beam_pipelines import clicks

GROUP = "beam:transform:group_by_key:v1"
USERS = [("u", "a", 1), ("u", "b", 2), ("v", "a", 3), ("v", "b", 4), ("v", "c", 5)]
ITEMS = [
    {"item_id": "a", "title": "A", "image": "red.png"},
    {"item_id": "b", "title": "B", "image": ["red.png", "blue.png"]},
    {"item_id": "c"},
]


@pytest.fixture
def pipelines(monkeypatch) -> list:
    """Every pipeline that runs, as other runners receive it."""
    seen = []
    run = beam.Pipeline.run

    def watched(self, *arguments, **keywords):
        seen.append(self.to_runner_api().components)
        return run(self, *arguments, **keywords)

    monkeypatch.setattr(beam.Pipeline, "run", watched)
    return seen


def _described(components, coder: str) -> tuple:
    found = components.coders[coder]
    below = tuple(_described(components, inner) for inner in found.component_coder_ids)
    return found.spec.urn, found.spec.payload, below


def _value_coders(components):
    """Name, coder of the values that enter and of those that leave, for every group."""
    for transform in components.transforms.values():
        if transform.spec.urn != GROUP:
            continue
        sides = []
        for collections in (transform.inputs, transform.outputs):
            (collection,) = collections.values()
            coder = components.coders[components.pcollections[collection].coder_id]
            sides.append(_described(components, coder.component_coder_ids[1]))
        entered, (_, _, (left,)) = sides
        yield transform.unique_name, entered, left


def _check(pipelines, *expected: str) -> None:
    found = [group for components in pipelines for group in _value_coders(components)]
    names = " ".join(name for name, _, _ in found)
    assert all(name in names for name in expected), names
    assert not [name for name, entered, left in found if entered != left]


def test_of_prepare_and_encode(tmp_path, pipelines):
    folder = tmp_path / "source"
    items = b"\n".join(json.dumps(row).encode() for row in ITEMS)
    users = b"\n".join(clicks.json_row(*row) for row in USERS)
    source = clicks.write_source(folder, ("interactions.jsonl", users), ("items.jsonl", items))
    for colour in ("red", "blue"):
        Image.new("RGB", (24, 24), colour).save(folder / f"{colour}.png")
    text = "encode.text={encoder: embedded, template: '{title}'}"
    config = clicks.configure(tmp_path, source, text, "encode.image={encoder: embedded}")
    prepare(config)
    encode(config)
    (folder / "items.jsonl").write_bytes(items.replace(b'"B"', b'"C"'))
    encode(config)  # again, with vectors of before
    _check(pipelines, "Write rejected", "Join", "Group", "Items/Write")


def test_of_distill_and_triplets(tmp_path, pipelines):
    config = load_config(overrides=["encode.text={}", "model.dim=16"], workdir=str(tmp_path))
    factories.write_sequences(config)
    factories.write_features(config, "text")
    factories.write_teacher(config, "text")
    distill(config)
    triplets(config)
    _check(pipelines, "CoGroupByKey", "By shard")
