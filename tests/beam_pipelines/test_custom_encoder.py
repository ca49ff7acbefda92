"""Encoders of one's own: that of `docs/encoders.md`, as a user would plug it in, and odd ones."""

import pathlib
import re

import numpy as np
import pytest
import yaml

from beam_pipelines import encode as job
from beam_pipelines.encode import encode
from beam_pipelines.handlers.choose_encoder import choose_encoder
from beam_pipelines.handlers.encoder import TextEncoder, Unusable
from beam_pipelines.prepare import prepare
from beam_pipelines.transforms import contents
from kdsr_tf.config import load_config
from kdsr_tf.errors import ConfigError
from kdsr_tf.sources import open_source
from tests.beam_pipelines import catalogues

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "encoders.md"
ITEMS = {"a": "Red tie", "b": "Blue suit", "c": "Shirt"}


def _block(language):
    return re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]


@pytest.fixture
def configure(tmp_path, monkeypatch):
    (tmp_path / "my_encoders.py").write_text(_block("python") + "\n\nNUMBER = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    rows = [{"item_id": item, "title": title} for item, title in ITEMS.items()]
    catalogue = catalogues.json_lines(rows)
    source = catalogues.write_source(tmp_path / "source", "items.jsonl", catalogue, ITEMS)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(_block("yaml"))))

    def configured(*overrides):
        settings = [f"source.path={source}", "prepare.k_core=0", *overrides]
        return load_config(str(tmp_path / "config.yaml"), settings, str(tmp_path / "work"))

    return configured


def _choose(config):
    return choose_encoder(config, "text", open_source(config.source))


def test_the_documented_encoder_runs(configure):
    config = configure()
    prepare(config)
    (manifest,) = encode(config)
    assert manifest.counts["encoded"] == 3 and manifest.details["encoder"]["name"] == "letters"
    found = catalogues.vectors(config, "text")
    for item, title in ITEMS.items():
        expected = np.array([title.count(vowel) for vowel in "aeiou"], np.float32)
        assert found[item] == expected.tobytes()
    with pytest.raises(
        ConfigError, match=r"encode.text.states`: the encoder letters gives no states"
    ):
        _choose(configure("encode.text.states.groups=2"))
    # Other arguments are another encoder: nothing of the old vectors is kept.
    (manifest,) = encode(configure("encode.text.arguments={letters: xyz}"))
    assert manifest.details["size"] == 3 and manifest.counts["reused"] == 0


def test_the_digest_follows_class_and_arguments(configure):
    encoder = _choose(configure())
    assert encoder.identity() == _choose(configure()).identity()
    assert encoder.identity() == _choose(configure("encode.text.batch_size=8")).identity()
    other = _choose(configure("encode.text.arguments={letters: aei}"))
    assert encoder.identity() != other.identity()


@pytest.mark.parametrize(
    "override, message",
    [
        ("encode.text.class_name=null", r"class_name`: must be the dotted path .* Received: None"),
        ("encode.text.class_name=Letters", r"class_name`: must be the dotted path"),
        ("encode.text.class_name=no.such.Module", r"class_name`: cannot import no.such.Module"),
        ("encode.text.class_name=my_encoders.Missing", r"cannot import my_encoders.Missing"),
        ("encode.text.class_name=my_encoders.NUMBER", r"must be a subclass of .*TextEncoder"),
        (
            "encode.text.class_name=beam_pipelines.handlers.embedded_image.EmbeddedImageEncoder",
            r"must be a subclass of .*TextEncoder",
        ),
        ("encode.text.arguments={}", r"`encode.text.arguments`: .* missing a required argument"),
        ("encode.text.arguments={letters: a, case: x}", r"refuses .*unexpected keyword.*'case'"),
    ],
)
def test_a_class_that_cannot_be_used_is_named(configure, override, message):
    with pytest.raises(ConfigError, match=message):
        _choose(configure(override))


class LengthEncoder(TextEncoder):
    """One number, and NaN for short texts."""

    name = "length"

    def build(self):
        return None

    def size(self, model):
        return 1

    def encode(self, batch, model):
        return np.array([[len(text) if len(text) > 6 else np.nan] for text in batch], np.float32)


class RefusingEncoder(LengthEncoder):
    """Refuses with an exception that no pickle could make again."""

    class Refused(Unusable):
        def __init__(self, words, limit):
            super().__init__(f"more than {limit} letters")

    def identify(self, content):
        if len(content) > 12:
            raise self.Refused(content.split(), 12)
        return super().identify(content)


NAN = "the encoder's vector holds NaN or infinity"


@pytest.mark.parametrize(
    ("encoder", "encoded", "rejected"),
    [
        (LengthEncoder(), {"a": 16, "b": 16, "c": 9}, {"items.jsonl row 4": NAN}),
        (
            RefusingEncoder(),
            {"c": 9},
            {
                "items.jsonl row 1": "more than 12 letters",
                "items.jsonl row 2": "more than 12 letters",
                "items.jsonl row 4": NAN,
            },
        ),
    ],
)
def test_what_an_encoder_cannot_encode_is_set_aside(
    encoder, encoded, rejected, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "choose_encoder", lambda *_: encoder)
    titles = {"a": "Red tie of silks", "b": "Red tie of silks", "c": "Blue suit", "d": "Шляпа"}
    rows = [{"item_id": item, "title": title} for item, title in titles.items()]
    catalogue = catalogues.json_lines(rows)
    source = catalogues.write_source(tmp_path / "source", "items.jsonl", catalogue, titles)
    template = "encode.text.template={title}"
    config = catalogues.configure(source, tmp_path / "work", "text", template)
    counts = catalogues.run(config).counts
    assert (counts["encoded"], counts["rejected"]) == (len(encoded), len(rejected))
    found = catalogues.vectors(config, "text")
    assert found == {item: np.float32([number]).tobytes() for item, number in encoded.items()}
    assert dict(catalogues.rejected(config, "features/text")) == rejected


def test_what_is_known_passes_by_the_encoder():
    def key(name):
        return contents.Key(name, ())

    seen = []

    class Watched(LengthEncoder):
        def encode(self, batch, model):
            seen.append(list(batch))
            return super().encode(batch, model)

    refused, vector = Unusable("no"), np.ones(1, np.float32)
    known = [(key(b"0"), contents.Known(refused)), (key(b"2"), contents.Known(vector))]
    handler = job.ContentsHandler(Watched())
    batch = [known[0], (key(b"1"), "a text, a text"), known[1], (key(b"3"), "another")]
    found = list(handler.run_inference(batch, None))
    assert [k.digest for k, _ in found] == [b"0", b"1", b"2", b"3"]
    assert seen == [["a text, a text", "another"]]
    assert found[0][1] is refused and found[2][1] is vector
    assert found[1][1].tolist() == [14.0] and found[3][1].tolist() == [7.0]
    assert len(list(handler.run_inference(known, None))) == 2 and len(seen) == 1
