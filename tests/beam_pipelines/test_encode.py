import gzip
import hashlib
import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beam_pipelines.encode import encode
from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder
from beam_pipelines.transforms import declarations
from kdsr_tf import artifacts, stage_frame, stages
from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError, InputError, MissingArtifactError
from kdsr_tf.runs.plan import external_fingerprints
from kdsr_tf.sources import open_source
from tests.nearness import assert_near

TWO_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def _png(colour, size=(24, 18)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


GOOD = [
    {"item_id": "a", "title": "Red tie", "genres": ["Silk", "Dots"], "image": "images/red.png"},
    {"item_id": "b", "title": "Red tie", "genres": ["Silk", "Dots"], "image": "images/copy.png"},
    {"item_id": "c", "title": "Blue suit", "image": "images/blue.png"},
    {"item_id": "d", "title": "Шляпа", "genres": []},
    {"item_id": "e", "image": "images/green.png"},
    {"item_id": "z", "title": "Not in the vocabulary", "image": "images/gone.png"},
]
PICTURES = {
    "red.png": _png((200, 20, 20)),
    "copy.png": _png((200, 20, 20)),
    "blue.png": _png((20, 20, 200)),
    "green.png": _png((20, 160, 20)),
}


def _source(folder, rows=GOOD, pictures=PICTURES):
    os.makedirs(folder / "images", exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    for name, data in pictures.items():
        (folder / "images" / name).write_bytes(data)
    table = {"user_id": ["u"], "item_id": ["a"], "timestamp": [1]}
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    return folder


def _config(source, workdir, *overrides):
    return load_config(
        overrides=[
            f"source.path={source}",
            "encode.text.template='{title}. {genres}'",
            "encode.text.dim=16",
            "encode.image.image_size=24",
            *overrides,
        ],
        workdir=str(workdir),
    )


def _vocabulary(config, item_ids):
    """`sequences/` as far as `encode` reads it."""
    fingerprint = open_source(config.source).fingerprint()
    manifest = stage_frame.new_manifest(config, "sequences", {}, {stages.SOURCE: fingerprint})
    manifest.counts = {"items": len(item_ids)}
    with artifacts.committing(stages.location(config, "sequences"), manifest) as target:
        table = {
            "item": pa.array(range(1, len(item_ids) + 1), pa.int32()),
            "item_id": pa.array(item_ids, pa.string()),
        }
        pq.write_table(pa.table(table), os.path.join(target, "items.parquet"))
    return config


def _read(config, modality, stem="vectors"):
    folder = stages.location(config, f"features/{modality}")
    names = sorted(name for name in os.listdir(folder) if name.startswith(stem))
    return pa.concat_tables([pq.read_table(os.path.join(folder, name)) for name in names])


def _vectors(config, modality):
    table = _read(config, modality)
    return dict(zip(table["item"].to_pylist(), table["vector"].to_pylist(), strict=True))


def _digests(config):
    found = {}
    for modality in config.modalities:
        folder = stages.location(config, f"features/{modality}")
        for name in set(os.listdir(folder)) - {"manifest.json"}:
            with open(os.path.join(folder, name), "rb") as file:
                found[modality, name] = hashlib.md5(file.read()).hexdigest()
    return found


@pytest.fixture
def good(tmp_path):
    source = _source(tmp_path / "source")
    return _vocabulary(_config(source, tmp_path / "work"), ["a", "b", "c", "d", "e", "gone"])


def test_every_item_is_encoded_without_or_rejected(good):
    image, text = encode(good)
    assert image.counts == {
        "items": 6,
        "encoded": 4,
        "without": 2,
        "rejected": 0,
        "rejected_pictures": 0,
        "duplicates": 1,
        "reused": 0,
    }
    assert text.counts["encoded"] == 4 and text.counts["without"] == 2
    assert text.details["encoder"]["name"] == "embedded_text" and text.details["size"] == 16
    vectors = _vectors(good, "text")
    assert sorted(vectors) == [1, 2, 3, 4] and vectors[1] == vectors[2] != vectors[3]
    assert sorted(_vectors(good, "image")) == [1, 2, 3, 5]
    table = _read(good, "text")
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 16)
    assert table.schema.field("item").type == pa.int32()
    assert _read(good, "image", "rejected").num_rows == 0


def test_an_up_to_date_modality_is_skipped(good):
    encode(good)
    before = os.stat(stages.location(good, "features/text")).st_ino
    again = encode(good)
    assert os.stat(stages.location(good, "features/text")).st_ino == before
    assert [manifest.artifact for manifest in again] == ["features/image", "features/text"]


def test_same_bytes_with_two_processes_and_shuffled_input(tmp_path):
    rows = [{"item_id": f"i{k}", "image": f"images/{k % 7}.png"} for k in range(60)]
    several = [["images/1.png", f"images/{k}.png"] for k in range(2, 7)]
    rows += [{"item_id": f"s{k}", "image": images} for k, images in enumerate(several)]
    pictures = {f"{k}.png": _png((30 * k, 100, 50)) for k in range(6)} | {"6.png": b"broken"}
    ids = [row["item_id"] for row in rows]
    found = []
    runs = [(rows, ()), (rows, TWO_PROCESSES), (rows[::-1], ())]
    for run, (order, beam_args) in enumerate(runs):
        source = _source(tmp_path / f"source{run}", order, pictures)
        overrides = ["encode.text=null", "encode.max_rejected_fraction=0.5"]
        config = _config(source, tmp_path / f"work{run}", *overrides)
        (manifest,) = encode(_vocabulary(config, ids), beam_args)
        assert manifest.counts["encoded"] == 57 and manifest.counts["duplicates"] == 63
        found.append(_digests(config))
    assert len(found[0]) == 3 and found[0] == found[1]
    # Dead letters name the row of the file, which shuffling moves; vectors stay.
    vectors = ("image", "vectors-00000-of-00001.parquet")
    assert found[0][vectors] == found[2][vectors]


SEVERAL = [
    {"item_id": "one", "image": "images/red.png"},
    {"item_id": "two", "image": ["images/blue.png", "images/copy.png"]},
    {"item_id": "text", "image": '["images/red.png", "images/green.png"]'},
    {"item_id": "part", "image": ["images/broken.png", "images/green.png", "../x.png", None]},
    {"item_id": "bad", "image": ["images/broken.png", "images/gone.png"]},
    {"item_id": "none", "image": []},
]


def _several(folder, work, rows, *overrides):
    pictures = PICTURES | {"broken.png": PICTURES["red.png"][:60]}
    source = _source(folder, rows, pictures)
    config = _config(
        source, work, "encode.text=null", "encode.max_rejected_fraction=0.5", *overrides
    )
    return _vocabulary(config, [row["item_id"] for row in rows])


def test_an_item_with_several_pictures_gets_the_mean_of_the_usable_ones(tmp_path):
    config = _several(tmp_path / "source", tmp_path / "work", SEVERAL)
    (manifest,) = encode(config)
    assert manifest.counts == {
        "items": 6,
        "encoded": 4,
        "without": 1,
        "rejected": 1,
        "rejected_pictures": 2,
        # The red picture occurs three times, the green and the broken one twice.
        "duplicates": 4,
        "reused": 0,
    }
    encoder = EmbeddedImageEncoder(24)
    red, blue, green = (
        encoder.encode([encoder.prepare(str(tmp_path / "source" / "images" / f"{name}.png"))], None)
        for name in ("red", "blue", "green")
    )
    found = _vectors(config, "image")
    assert sorted(found) == [1, 2, 3, 4]
    for item, pictures in {1: [red], 2: [blue, red], 3: [red, green], 4: [green]}.items():
        mean = np.mean(pictures, axis=0)[0]
        assert_near(found[item], mean / np.linalg.norm(mean))
    letters = [
        (json.loads(row["row"])["item_id"], json.loads(row["row"])["content"], row["reason"])
        for row in _read(config, "image", "rejected").to_pylist()
    ]
    assert sorted(letters) == [
        ("bad", "images/broken.png", "image is broken or truncated"),
        ("bad", "images/gone.png", "image file does not exist"),
        ("part", "../x.png", "image path leads outside the source folder"),
        ("part", "images/broken.png", "image is broken or truncated"),
    ]


def test_of_several_pictures_only_new_ones_are_encoded_again(tmp_path, monkeypatch):
    config = _several(tmp_path / "source", tmp_path / "work", SEVERAL)
    encode(config)
    first = _vectors(config, "image")
    seen = []
    prepare = EmbeddedImageEncoder.prepare

    def watched(self, content):
        seen.append(os.path.basename(content))
        return prepare(self, content)

    monkeypatch.setattr(EmbeddedImageEncoder, "prepare", watched)
    new = {"item_id": "new", "image": ["images/green.png", "images/new.png"]}
    (tmp_path / "source" / "images" / "new.png").write_bytes(_png((90, 20, 200)))
    config = _several(tmp_path / "source", tmp_path / "work", [*SEVERAL, new])
    (manifest,) = encode(config)
    # A broken picture has no vector to keep: it is looked at, and reported, every time.
    assert sorted(seen) == ["broken.png", "new.png"]
    assert manifest.counts["rejected_pictures"] == 2 and manifest.counts["encoded"] == 5
    second = _vectors(config, "image")
    assert {item: second[item] for item in first} == first and len(second) == 5


def test_too_many_rejected_items_fail_and_name_the_reason(tmp_path):
    rows = [{"item_id": str(k), "image": f"images/{k}.png"} for k in range(4)]
    pictures = {"0.png": _png("red"), "1.png": b"", "2.png": b"", "3.png": b"text"}
    source = _source(tmp_path / "source", rows, pictures)
    config = _config(source, tmp_path / "work", "encode.text=null")
    _vocabulary(config, list("0123"))
    with pytest.raises(
        InputError, match=r"3 of 4 items.*image file is empty \(2 dead letters, first: "
    ):
        encode(config)
    assert os.listdir(tmp_path / "work" / "features") == []


def test_a_modality_that_no_item_has_is_an_error(tmp_path):
    rows = [{"item_id": "a", "title": " "}, {"item_id": "b", "title": None}]
    source = _source(tmp_path / "source", [*rows, {"item_id": "z", "title": "Elsewhere"}])
    overrides = ["encode.image=null", "encode.text.template='{title}'"]
    config = _vocabulary(_config(source, tmp_path / "work", *overrides), ["a", "b"])
    with pytest.raises(InputError, match=r"No item .*'\{title\}'.*Columns found: item_id, title"):
        encode(config)


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "encode.text.template='{title}. {plot}'",
            r"`encode.text.template` names plot: .*items.jsonl has no such column. "
            r"Columns found: item_id, title, genres, image",
        ),
        ("source.image_column=photo", r"`source.image_column` names photo: .*encode.image=null"),
    ],
)
def test_a_missing_column_is_found_before_anything_runs(tmp_path, override, message):
    source = _source(tmp_path / "source")
    config = _config(source, tmp_path / "work", override)
    with pytest.raises(InputError, match=message):
        external_fingerprints(config)
    with pytest.raises(InputError, match=message):
        encode(_vocabulary(config, ["a"]))


@pytest.mark.parametrize("name", ["items.jsonl", "items.json", "items.jsonl.gz"])
def test_a_column_of_late_json_records_is_found(tmp_path, name):
    rows = [{"item_id": f"i{k}", "title": "x"} for k in range(150)]
    rows = [*rows, {"item_id": "late", "plot": "Boy meets girl"}]
    source = _source(tmp_path / "source", rows)
    lines = (tmp_path / "source" / "items.jsonl").read_bytes()
    (tmp_path / "source" / "items.jsonl").unlink()
    packed = gzip.compress(lines) if name.endswith("gz") else lines
    listed = json.dumps(rows).encode()
    (tmp_path / "source" / name).write_bytes(listed if name.endswith("json") else packed)
    overrides = ["encode.image=null", "encode.text.template='{plot}'"]
    config = _vocabulary(_config(source, tmp_path / "work", *overrides), ["i0", "late"])
    (manifest,) = encode(config)
    assert manifest.counts["encoded"] == 1 and manifest.counts["without"] == 1


@pytest.mark.parametrize("template", ["title", "{title", "{}", "{0:{1}}"])
def test_a_malformed_template_is_an_error(good, tmp_path, template):
    config = _config(good.source.path, tmp_path / "work", "encode.image=null")
    config.encode.text.template = template
    with pytest.raises(ConfigError, match=r"`encode.text.template`"):
        encode(config)


def test_templates_join_lists_and_skip_what_is_missing():
    assert (
        declarations.render("{title}. {genres}", {"title": "A", "genres": ["x", "y"]}) == "A. x, y"
    )
    assert declarations.render("{title}. {genres}", {"title": " A "}) == "A ."
    assert declarations.render("{title}. {genres}", {"genres": [], "price": 1}) == ""


def test_unchanged_contents_keep_their_vectors(good, tmp_path):
    encode(good)
    first = _vectors(good, "text")
    rows = [*GOOD[:2], {"item_id": "c", "title": "Green suit"}, GOOD[3]]
    rows.append({"item_id": "new", "title": "Blue suit"})
    _source(tmp_path / "source", rows)
    _vocabulary(good, ["a", "b", "c", "d", "e", "gone", "new"])
    text = encode(good)[1]
    assert text.counts["encoded"] == 5 and text.counts["reused"] == 4
    second = _vectors(good, "text")
    assert {k: second[k] for k in (1, 2, 4)} == {k: first[k] for k in (1, 2, 4)}
    assert second[7] == first[3] != second[3]
    # Another encoder shares nothing.
    other = _config(good.source.path, tmp_path / "work", "encode.text.dim=8")
    assert encode(other)[1].counts["reused"] == 0


def test_a_merged_vector_of_another_length_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(EmbeddedImageEncoder, "merge", lambda self, vectors: vectors[0, :-1])
    config = _several(tmp_path / "source", tmp_path / "work", SEVERAL)
    with pytest.raises(Exception, match=r"must give vectors of shape \(\d+,\). Received: \(\d+,\)"):
        encode(config)
    assert artifacts.find_manifest(stages.location(config, "features/image")) is None


def test_missing_inputs_are_named(tmp_path):
    source = _source(tmp_path / "source")
    with pytest.raises(MissingArtifactError, match="kdsr prepare"):
        encode(_config(source, tmp_path / "work"))
    config = _config(
        source,
        tmp_path / "work",
        "encode.image.encoder=keras_applications",
        "encode.image.weights=/no/where.h5",
    )
    with pytest.raises(ConfigError, match=r"there is no file /no/where.h5"):
        encode(_vocabulary(config, ["a"]))
