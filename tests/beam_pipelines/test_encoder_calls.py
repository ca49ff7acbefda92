"""How the Keras encoders call their networks: dynamic batches and mixed precision."""

import os
import threading
import types

import numpy as np
import pytest

from beam_pipelines.handlers import keras_models
from beam_pipelines.handlers.hidden_states import StateChoice
from beam_pipelines.handlers.keras_hub_text import KerasHubTextEncoder, plan_calls
from beam_pipelines.handlers.keras_models import for_each, predict
from tests.beam_pipelines import presets


def test_calls_hold_equal_tokens_and_every_text_once():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    for bucket in (1, 16):
        calls = plan_calls(lengths, 256, bucket)
        assert sorted(np.concatenate([call.rows for call in calls])) == list(range(500))
        for call in calls:
            assert call.width % bucket == 0
            assert lengths[call.rows].max() <= call.width < lengths[call.rows].max() + bucket
            assert len(call.rows) <= call.most and call.most * call.width <= 256
    # Many short texts or few long ones; one that exceeds the budget goes alone.
    calls = plan_calls(np.array([2, 300, 8, 2, 2]), 8, 1)
    assert [call.rows.tolist() for call in calls] == [[1], [2], [0, 3, 4]]


def test_a_fixed_number_of_rows_is_filled_with_the_last_one():
    seen = []
    found = predict(lambda batch: seen.append(batch) or batch * 2, np.array([[1], [2]]), 4)
    assert seen[0].tolist() == [[1], [2], [2], [2]] and found.tolist() == [[2], [4]]


def test_an_error_in_one_of_the_calls_is_raised():
    with pytest.raises(ZeroDivisionError):
        for_each(lambda call: 1 // call, [1, 0, 2])


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return presets.save_bert(str(tmp_path_factory.mktemp("bert")), ["red", "silk", "tie"])


def test_mixed_precision_is_asked_for_and_part_of_the_digest(preset):
    import keras

    texts = ["red tie", "silk tie red", "tie"]
    vectors, states, digests = {}, {}, set()
    for precision in ("float32", "mixed_float16", "mixed_bfloat16"):
        encoder = KerasHubTextEncoder(preset, precision=precision)
        model = encoder.load_model()
        assert {v.dtype for v in model.network.weights} == {"float32"}
        assert precision.removeprefix("mixed_") in {
            layer.compute_dtype for layer in model.network.layers
        }
        vectors[precision] = encoder.encode(texts, model)
        digests.add(encoder.digest())
        encoder.chosen = StateChoice("encode.text.states", 1, None, "mean", "float16")
        rows = encoder.encode(texts, encoder.load_model())
        np.testing.assert_array_equal(rows[:, :8], vectors[precision])
        states[precision] = rows[:, 8:]
    assert len(digests) == 3
    assert keras.config.dtype_policy().name == "float32"
    exact = vectors.pop("float32")
    for (precision, found), tolerance in zip(vectors.items(), (0.005, 0.05), strict=True):
        assert found.dtype == np.float32, precision
        error = np.abs(found - exact).max()
        assert 0 < error < tolerance, (precision, error)
        share = np.abs(states[precision] - states["float32"]).max() / states["float32"].max()
        assert 0 < share < tolerance, (precision, share)


@pytest.mark.parametrize(("processors", "batch_size", "most"), [(2, 3, 3), (2, 32, 8), (3, 16, 16)])
def test_on_few_processors_a_call_has_eight_pictures_at_most(
    processors, batch_size, most, monkeypatch
):
    import keras

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))

    picture = keras.Input((4, 4, 3))
    network = keras.Model(picture, keras.layers.GlobalAveragePooling2D()(picture))
    network.jit_compile = False
    model = keras_models.KerasImageModel(network, lambda pictures: pictures / 2)
    seen = []
    run = model.run
    model.__dict__["run"] = lambda pictures: seen.append(len(pictures)) or run(pictures)
    pictures = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    found = keras_models.KerasImageEncoder(4, batch_size=batch_size).encode(list(pictures), model)
    assert sum(seen) == 20 and max(seen) == most and len(seen) == -(-20 // most)
    np.testing.assert_allclose(found, pictures.mean(axis=(1, 2)) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("processors", "batch_size"),
    # One large call: decoded ahead on every processor. Many calls: on a thread more.
    [(3, 64), (2, 1)],
)
def test_three_pictures_are_decoded_side_by_side(processors, batch_size, monkeypatch):
    class Encoder(keras_models.KerasImageEncoder):
        def prepare(self, content):
            together.wait()
            return np.full((2, 2, 3), int(content), np.uint8)

    together = threading.Barrier(3, timeout=10)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    network = types.SimpleNamespace(jit_compile=False, output_shape=(None, 1))
    model = keras_models.KerasImageModel(network, None)
    model.__dict__["run"] = lambda pictures: pictures[:, 0, 0, :1]
    found = Encoder(2, batch_size=batch_size).run_inference(list(map(str, range(6))), model)
    assert np.concatenate(found).tolist() == [*range(6)]


def test_the_benchmark_counts_the_operations_of_matrix_products():
    import keras

    from benchmarks.encode_throughput import image_operations, text_operations

    states = keras.Input((None, 8))
    mixed = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)(states, states)
    network = keras.Model(states, keras.layers.Dense(16)(mixed))
    # Query, key, value and output of 8 x 8 and a dense layer of 8 x 16; scores and sums.
    expected = 2 * (4 * 64 + 128) * (3 + 5) + 2 * 2 * 8 * (9 + 25)
    assert text_operations(network, np.array([3, 5])) == expected

    picture = keras.Input((6, 6, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same")(picture)
    network = keras.Model(picture, keras.layers.DepthwiseConv2D(3, padding="same")(maps))
    assert image_operations(network) == 2 * 9 * 3 * 4 * 36 + 2 * 9 * 4 * 36
