"""States beside the vectors, from the catalogue to the reader of training."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipelines.encode import encode
from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder
from beam_pipelines.handlers.embedded_text import EmbeddedTextEncoder
from beam_pipelines.new_items import encode_new_items
from beam_pipelines.prepare import prepare
from kdsr_tf import stages
from kdsr_tf.artifacts import read_manifest
from kdsr_tf.config import Config
from kdsr_tf.errors import InputError
from kdsr_tf.teacher.feature_files import Features, States
from tests.beam_pipelines import catalogues

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
TITLES = ["Red silk tie", "Blue suit", "Red silk tie", "Boots of leather", "x" * 100_001, "☂"]
TEXT = ("encode.text.dim=16", "encode.text.states.groups=4")
COLOURS = {"red": (200, 20, 20), "blue": (20, 20, 200), "green": (20, 160, 20)}


def text_config(folder: pathlib.Path, titles: list[str], *overrides: str) -> Config:
    folder.mkdir(exist_ok=True)
    rows = [{"item_id": f"i{k}", "title": title} for k, title in enumerate(titles)]
    ids = [row["item_id"] for row in rows]
    source = catalogues.write_source(
        folder / "source", "items.jsonl", catalogues.json_lines(rows), ids
    )
    return catalogues.configure(source, folder / "work", "text", *overrides)


def image_config(folder: pathlib.Path, *overrides: str) -> Config:
    rows = [
        {"item_id": "a", "image": "red.png"},
        {"item_id": "b", "image": ["blue.png", "red.png"]},
        {"item_id": "c", "image": ["broken.png", "green.png"]},
        {"item_id": "d", "image": ["broken.png"]},
    ]
    ids = [row["item_id"] for row in rows]
    source = catalogues.write_source(
        folder / "source", "items.jsonl", catalogues.json_lines(rows), ids
    )
    for name, colour in COLOURS.items():
        Image.new("RGB", (24, 18), colour).save(f"{source}/{name}.png")
    pathlib.Path(source, "broken.png").write_bytes(b"broken")
    return catalogues.configure(
        source, folder / "work", "image", "encode.image.image_size=24", *overrides
    )


def folder_of(config: Config, modality: str) -> str:
    return stages.location(config, f"features/{modality}")


def read(config: Config, modality: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, vectors and states of a features folder."""
    folder = folder_of(config, modality)
    details = read_manifest(folder, written_by="encode").details
    ((items, vectors),) = Features(folder, details["size"]).batches()
    ((same, states),) = States(folder, details["states"]["sizes"]).batches()
    np.testing.assert_array_equal(items, same)
    return items, vectors, states


def files(config: Config, modality: str) -> dict[str, bytes]:
    folder = pathlib.Path(folder_of(config, modality))
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_states_are_written_beside_vectors_that_do_not_change(tmp_path):
    plain = text_config(tmp_path, TITLES, "encode.text.dim=16")
    before = catalogues.run(plain)
    assert "states" not in before.details
    alone = files(plain, "text")
    config = text_config(tmp_path, TITLES, *TEXT)
    (manifest,) = encode(config)
    assert manifest.details == before.details | {
        "states": {
            "layers": [0, 1, 2, 3, 4],
            "sizes": [16] * 5,
            "pooling": "mean",
            "dtype": "float16",
        }
    }
    # Vectors without states are of no use to one who wants states.
    assert manifest.counts == before.counts | {"reused": 0} and before.counts["rejected"] == 1
    now = files(config, "text")
    assert set(now) == {*alone, "states-00000-of-00001.parquet"}
    assert {name: now[name] for name in alone} == alone
    vectors, states = (
        pq.read_table(os.path.join(folder_of(config, "text"), f"{stem}-00000-of-00001.parquet"))
        for stem in ("vectors", "states")
    )
    assert states.schema.field("states").type == pa.list_(pa.float16(), 80)
    for column in ("item", "content"):
        assert states[column].equals(vectors[column])
    items, rows, found = read(config, "text")
    assert sorted(items) == [1, 2, 3, 4, 6] and found.dtype == np.float16
    # The last one is the vector itself, rounded.
    np.testing.assert_array_equal(found[:, -16:], rows.astype(np.float16))
    encoder = EmbeddedTextEncoder(16)
    encoder.chosen = _chosen(config, "text")
    expected = encoder.encode(["Blue suit"], None)[0, 16:]
    np.testing.assert_array_equal(found[items == 2][0], expected.astype(np.float16))


def _chosen(config, modality):
    from beam_pipelines.handlers.hidden_states import StateChoice

    section = getattr(config.encode, modality).states
    return StateChoice.of(section, f"encode.{modality}.states")


def test_states_of_the_same_kind_are_used_again_and_others_are_not(tmp_path):
    config = text_config(tmp_path, TITLES, *TEXT)
    catalogues.run(config)
    _, _, first = read(config, "text")
    config = text_config(tmp_path, [*TITLES, "Green suit"], *TEXT)
    prepare(config)
    (manifest,) = encode(config)
    assert manifest.counts["reused"] == 5 and manifest.counts["encoded"] == 6
    items, _, second = read(config, "text")
    np.testing.assert_array_equal(second[items < 7], first)
    other = text_config(tmp_path, [*TITLES, "Green suit"], *TEXT, "encode.text.states.groups=2")
    assert encode(other)[0].counts["reused"] == 0
    exact = text_config(tmp_path, TITLES, *TEXT, "encode.text.states.dtype=float32")
    catalogues.run(exact)
    items, rows, states = read(exact, "text")
    assert states.dtype == np.float32
    np.testing.assert_array_equal(states[:, -16:], rows)
    # Without states, their vectors serve.
    plain = text_config(tmp_path, TITLES, "encode.text.dim=16")
    assert encode(plain)[0].counts["reused"] == 5
    assert "states-00000-of-00001.parquet" not in files(plain, "text")


def test_the_bytes_do_not_depend_on_workers_nor_on_what_was_encoded_before(tmp_path):
    config = image_config(tmp_path, "encode.image.states.groups=4")
    manifest = catalogues.run(config)
    assert manifest.counts["encoded"] == 3 and manifest.counts["rejected_pictures"] == 1
    first = files(config, "image")
    assert len([name for name in first if name.startswith("picture_states-")]) == 1
    # Everything again from the pictures that are known.
    again = image_config(tmp_path, "encode.image.states.groups=4", "encode.image.batch_size=7")
    assert encode(again)[0].counts["reused"] == 4
    assert files(again, "image") == first
    (tmp_path / "two").mkdir()
    workers = image_config(tmp_path / "two", "encode.image.states.groups=4")
    prepare(workers)
    encode(workers, TWO_PROCESSES)
    two = files(workers, "image")
    stems = ("vectors-", "states-", "pictures-", "picture_states-")
    names = [name for name in first if name.startswith(stems)]
    assert len(names) == 4 and all(two[name] == first[name] for name in names)
    plain = image_config(tmp_path)
    encode(plain)
    alone = files(plain, "image")
    assert all(alone[name] == first[name] for name in names if "states" not in name)


def test_several_pictures_have_the_mean_of_each_state(tmp_path):
    config = image_config(tmp_path, "encode.image.states.layers=[0, 4]")
    catalogues.run(config)
    items, _, states = read(config, "image")
    assert sorted(items) == [1, 2, 3]
    encoder = EmbeddedImageEncoder(24)
    encoder.chosen = _chosen(config, "image")
    folder = tmp_path / "source"
    of = {
        name: encoder.encode([encoder.prepare(str(folder / f"{name}.png"))], None)[0, 517:].astype(
            np.float16
        )
        for name in COLOURS
    }
    mean = np.mean([of["blue"], of["red"]], axis=0, dtype=np.float64).astype(np.float16)
    for item, expected in {1: of["red"], 2: mean, 3: of["green"]}.items():
        np.testing.assert_array_equal(states[items == item][0], expected)


def test_a_value_outside_float16_names_the_remedy(tmp_path, monkeypatch):
    row = EmbeddedTextEncoder._row

    def large(self, text, states):
        found = row(self, text, states)
        if text == "Blue suit" and states is not None:
            found[-1] = 70_000
        return found

    monkeypatch.setattr(EmbeddedTextEncoder, "_row", large)
    config = text_config(tmp_path, TITLES, *TEXT)
    prepare(config)
    message = (
        r"A state of i1 \(.*\) holds a value of 70000, which is outside float16\. "
        r"Set encode\.text\.states\.dtype: float32\."
    )
    with pytest.raises(InputError, match=message):
        encode(config)
    exact = text_config(tmp_path, TITLES, *TEXT, "encode.text.states.dtype=float32")
    encode(exact)
    assert read(exact, "text")[2].max() == 70_000


def test_states_that_are_not_finite_are_dead_letters(tmp_path, monkeypatch):
    row = EmbeddedTextEncoder._row

    def broken(self, text, states):
        found = row(self, text, states)
        if text == "Blue suit":
            found[-1] = np.nan
        return found

    monkeypatch.setattr(EmbeddedTextEncoder, "_row", broken)
    config = text_config(tmp_path, TITLES, *TEXT)
    catalogues.run(config)
    reasons = [reason for _, reason in catalogues.rejected(config, "features/text")]
    assert "the encoder's states hold NaN or infinity" in reasons
    items, _, states = read(config, "text")
    assert 2 not in items and np.isfinite(states).all()


def test_new_items_have_the_states_they_would_have_in_the_catalogue(tmp_path):
    new = tmp_path / "new.jsonl"
    new.write_bytes(catalogues.json_lines([{"item_id": "n", "title": "Boots of silk"}]))
    added = (*TEXT, f"export.add_items={new}")
    config = text_config(tmp_path, TITLES, *added)
    catalogues.run(config)
    manifest = encode_new_items(config)
    assert manifest.details["states"] == {
        "text": read_manifest(folder_of(config, "text"), written_by="encode").details["states"]
    }
    folder = os.path.join(stages.location(config, "new_items"), "text")
    ((items, states),) = States(folder, [16] * 5).batches()
    assert items.tolist() == [len(TITLES) + 1]
    whole = text_config(tmp_path / "whole", [*TITLES, "Boots of silk"], *TEXT)
    catalogues.run(whole)
    every, _, expected = read(whole, "text")
    np.testing.assert_array_equal(states[0], expected[every == 7][0])
    # The same file again, with a catalogue that has other states now.
    fewer = text_config(tmp_path, TITLES, *added, "encode.text.states.groups=2")
    encode(fewer)
    encode_new_items(fewer)
    ((_, states),) = States(folder, [16] * 3).batches()
    np.testing.assert_array_equal(states[0, -16:], expected[every == 7][0, -16:])
