"""Items that arrive after training, from their file to vectors."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipelines.new_items import encode_new_items
from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError, InputError, StaleArtifactError
from kdsr_tf.sources.export_files import fingerprints
from tests.beam_pipelines import catalogues

KNOWN = [{"item_id": "a", "title": "Red tie"}, {"item_id": "b", "title": "Blue suit"}]
NEW = [
    {"item_id": "n", "title": "Red suit"},
    {"item_id": "a", "title": "Red tie"},
    {"item_id": "m"},
    {"item_id": "n", "title": "a second row of the same id does not count"},
    {"title": "without an id"},
]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Config:
    folder = tmp_path_factory.mktemp("shop")
    lines = catalogues.json_lines(KNOWN)
    source = catalogues.write_source(folder / "source", "items.jsonl", lines, ["a", "b"])
    (folder / "new.jsonl").write_bytes(catalogues.json_lines(NEW))
    new = f"export.add_items={folder / 'new.jsonl'}"
    config = catalogues.configure(source, folder / "work", "text", "encode.text.dim=16", new)
    catalogues.run(config)
    encode_new_items(config)
    return config


def changed(config: Config, **values: object) -> Config:
    return config.model_copy(update={"export": config.export.model_copy(update=values)})


def test_new_items_follow_the_vocabulary_with_vectors_of_the_same_encoder(encoded, tmp_path):
    manifest = encode_new_items(encoded)
    assert manifest.counts == {"items": 2, "known": 1, "rejected": 1, "text_vectors": 1}
    folder = pathlib.Path(stages.location(encoded, "new_items"))
    table = pq.read_table(folder / "items.parquet").to_pydict()
    assert table == {"item": [3, 4], "item_id": ["n", "m"], "title": ["Red suit", "m"]}
    (vectors,) = (pq.read_table(path) for path in folder.glob("text/vectors-*"))
    assert vectors["item"].to_pylist() == [3]
    # As if the item had been in the catalogue from the start.
    whole = catalogues.write_source(
        tmp_path / "source", "items.jsonl", catalogues.json_lines(NEW), ["n"]
    )
    config = catalogues.configure(whole, tmp_path / "work", "text", "encode.text.dim=16")
    catalogues.run(config)
    expected = np.frombuffer(catalogues.vectors(config, "text")["n"], np.float32)
    np.testing.assert_array_equal(vectors["vector"][0].values.to_numpy(), expected)


def test_a_file_that_says_nothing_new_is_not_encoded_again(encoded):
    assert encode_new_items(encoded).seconds == encode_new_items(encoded).seconds


@pytest.mark.parametrize(
    ("content", "name", "error", "said"),
    [
        (
            '{"item_id": "x", "colour": "red"}',
            "x.jsonl",
            InputError,
            r"reads\. .*\ntext: .*no such column",
        ),
        ('{"title": "x"}', "x.jsonl", InputError, "lacks the column item_id"),
        ("a,b", "x.rtf", InputError, "its ending does not say how to read it"),
        (None, "gone.csv", InputError, "`export.add_items`: there is no file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(encoded, tmp_path, content, name, error, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=said):
        encode_new_items(changed(encoded, add_items=str(tmp_path / name)))


def test_another_encoder_is_refused(encoded):
    encode = encoded.encode.model_copy(
        update={"text": encoded.encode.text.model_copy(update={"dim": 8})}
    )
    with pytest.raises(StaleArtifactError, match=r"encode\.text\.dim"):
        encode_new_items(encoded.model_copy(update={"encode": encode}))
    nothing = encoded.encode.model_copy(update={"text": None})
    with pytest.raises(ConfigError, match="no modality has an encoder"):
        encode_new_items(encoded.model_copy(update={"encode": nothing}))


def test_vectors_of_an_encoder_before_are_not_used_again(tmp_path):
    """Also where they are as long as those of the encoder now."""

    def configure(size: int) -> Config:
        return catalogues.configure(
            source,
            tmp_path / "work",
            "image",
            f"encode.image.image_size={size}",
            f"export.add_items={tmp_path / 'new.jsonl'}",
        )

    row = [{"item_id": "a", "image": "picture.png"}]
    lines = catalogues.json_lines(row)
    source = catalogues.write_source(tmp_path / "source", "items.jsonl", lines, ["a"])
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(pixels).save(f"{source}/picture.png")
    new = [{"item_id": "n", "image": "picture.png"}]
    (tmp_path / "new.jsonl").write_bytes(catalogues.json_lines(new))
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    for size in (24, 48):
        config = configure(size)
        catalogues.run(config)
        encode_new_items(config)
        folder = pathlib.Path(stages.location(config, "new_items")) / "image"
        (vectors,) = (pq.read_table(path)["vector"] for path in folder.glob("vectors-*"))
        (known,) = catalogues.vectors(config, "image").values()
        assert vectors[0].values.to_numpy().tobytes() == known


def test_fingerprints_follow_the_content_of_the_lists(encoded, tmp_path):
    path = tmp_path / "deny.txt"
    path.write_text("a\n")
    config = changed(encoded, deny_items=str(path))
    before = fingerprints(config)
    assert set(before) == {"deny_items", "add_items"}
    path.write_text("b\n")
    after = fingerprints(config)
    assert after["deny_items"] != before["deny_items"]
    assert after["add_items"] == before["add_items"]
    made = dict.fromkeys(("sequences", "examples", "student", "teacher/text", "new_items"), "0")
    artifact = stages.artifact_of(config, "serving_model")
    assert set(artifact.inputs) == {*made, "deny_items"}
    assert stages.fingerprint_of(config, artifact, made | before) != stages.fingerprint_of(
        config, artifact, made | after
    )
