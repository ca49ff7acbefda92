"""Which levels are kept, and the states of the encoders that need no download."""

from __future__ import annotations

import numpy as np
import pytest

from beam_pipelines.handlers.choose_encoder import choose_encoder
from beam_pipelines.handlers.embedded_image import EmbeddedImageEncoder
from beam_pipelines.handlers.embedded_text import EmbeddedTextEncoder
from beam_pipelines.handlers.hidden_states import StateChoice, last_of_groups
from kdsr_tf.config import Config, load_config
from kdsr_tf.errors import ConfigError
from kdsr_tf.sources import open_source

KEY = "encode.text.states"


def choice(groups=6, layers=None, pooling="mean", dtype="float16") -> StateChoice:
    return StateChoice(KEY, groups, layers, pooling, dtype)


@pytest.mark.parametrize(
    ("num_layers", "kept"),
    [
        # Published for IISAN-Versa, 0-based there.
        (12, [2, 4, 6, 8, 10, 12]),
        (24, [4, 8, 12, 16, 20, 24]),
        (28, [3, 8, 13, 18, 23, 28]),
        (32, [2, 8, 14, 20, 26, 32]),
        (48, [3, 12, 21, 30, 39, 48]),
        (80, [5, 20, 35, 50, 65, 80]),
        (6, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_six_groups_keep_the_published_layers(num_layers, kept):
    assert last_of_groups(num_layers, 6) == kept
    assert choice().kept(num_layers, "an encoder") == [0, *kept]


def test_other_numbers_of_groups_end_at_the_last_layer():
    assert choice(groups=1).kept(12, "it") == [0, 12]
    assert choice(groups=3).kept(6, "it") == [0, 2, 4, 6]
    assert choice(groups=4).kept(4, "it") == [0, 1, 2, 3, 4]
    # A list stands for itself: level 0 is kept if it names it.
    assert choice(layers=(3, 6)).kept(6, "it") == [3, 6]


def test_levels_that_an_encoder_does_not_have_are_refused():
    with pytest.raises(ConfigError, match=r"groups` .* It has 4\. Received: 6\. .*groups=4 or few"):
        choice().kept(4, "It")
    with pytest.raises(ConfigError, match=r"layers`: It has the levels 0 to 4\. Received: 5\."):
        choice(layers=(0, 5)).kept(4, "It")
    with pytest.raises(ConfigError, match=r"states.pooling`: It has no class token.*pooling=mean"):
        choice(pooling="cls").needs_class_token(False, "It")


def test_the_configuration_refuses_lists_that_do_not_rise():
    for layers in ("[2, 2]", "[4, 2]"):
        with pytest.raises(ConfigError, match=r"states.layers`: levels must rise, such as \[2"):
            load_config(overrides=[f"{KEY}.layers={layers}"])
    with pytest.raises(ConfigError, match=rf"{KEY}.layers"):
        load_config(overrides=[f"{KEY}.layers=[]"])
    assert load_config(overrides=[f"{KEY}.groups=3"]).encode.text.states.pooling == "mean"


def test_the_states_of_embedded_texts_are_the_vector_as_far_as_an_order():
    texts = ["red silk tie", "a", "☂", "красный галстук", "x" * 300]
    encoder = EmbeddedTextEncoder(dim=70)
    plain = encoder.encode(texts, None)
    encoder.chosen = choice(groups=4)
    states = encoder.states(None)
    assert states.layers == (0, 1, 2, 3, 4) and states.sizes == (70,) * 5
    rows = encoder.encode(texts, None)
    np.testing.assert_array_equal(rows[:, :70], plain)
    levels = rows[:, 70:].reshape(len(texts), 5, 70)
    np.testing.assert_array_equal(levels[:, -1], plain)
    for before, after in zip(levels[0], levels[0, 1:], strict=False):
        assert np.linalg.norm(before) < np.linalg.norm(after)
    # Of one letter there is no gram of four characters; its pair and triple have an edge each.
    np.testing.assert_array_equal(levels[1, 1], levels[1, 3])
    # The same pairs of characters, and other triples.
    one, other = encoder.encode(["abacad", "acabad"], None)[:, 70:].reshape(2, 5, 70)
    same = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, other, strict=True)]
    assert same[0] == pytest.approx(1, abs=1e-6) and same[1] < 0.97
    encoder.chosen = choice(layers=(2,))
    np.testing.assert_array_equal(encoder.encode(texts, None)[:, 70:], levels[:, 2])


def test_the_states_of_embedded_pictures_are_the_vector_as_far_as_a_block():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    encoder = EmbeddedImageEncoder()
    plain = encoder.encode(pictures, None)
    encoder.chosen = choice(groups=4)
    # Colour, outline, edges, layout and texture.
    assert encoder.states(None).sizes == (24, 283, 411, 507, 517)
    rows = encoder.encode(pictures, None)
    np.testing.assert_array_equal(rows[:, :517], plain)
    np.testing.assert_array_equal(rows[:, 517 : 517 + 24], plain[:, :24])
    np.testing.assert_array_equal(rows[:, 517 + 24 : 517 + 24 + 283], plain[:, :283])
    np.testing.assert_array_equal(rows[:, -517:], plain)


def test_the_embedded_encoders_have_no_class_token():
    for encoder in (EmbeddedTextEncoder(), EmbeddedImageEncoder()):
        encoder.chosen = choice(groups=2, pooling="cls")
        with pytest.raises(ConfigError, match=r"embedded .* encoder has no class token"):
            encoder.states(None)


def test_an_encoder_without_layers_is_refused_by_name(tmp_path):
    click = '{"user_id": "u", "item_id": "a", "timestamp": 1}\n'
    (tmp_path / "interactions.jsonl").write_text(click)
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "vector": [1, 2]}\n')
    overrides = [
        f"source.path={tmp_path}",
        "encode.text.encoder=precomputed",
        "encode.text.column=vector",
    ]
    config: Config = load_config(overrides=[*overrides, f"{KEY}.groups=2"])
    with pytest.raises(ConfigError, match=rf"`{KEY}`: the encoder precomputed gives no states"):
        choose_encoder(config, "text", open_source(config.source))
