import numpy as np
import pytest

from kdsr_tf.items.item_tables import ItemTables
from tests.nearness import assert_near

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(2.0, 3.0, (6, 4)).astype("float32")
PRESENT = np.array([True, True, False, True, False, True])


def tables(**arguments):
    layer = ItemTables(5, 4, ("text",), **arguments)
    layer.build()
    return layer


def test_absent_items_start_at_the_mean_and_share_a_bias():
    layer = tables()
    layer.set_modality_vectors("text", VECTORS, PRESENT)
    outputs = layer(np.array([[1, 2, 4, 0]]))
    mean = VECTORS[[1, 3, 5]].mean(0)
    np.testing.assert_allclose(outputs["text"][0, 0], VECTORS[1], rtol=1e-5)
    np.testing.assert_allclose(outputs["text"][0, 1], mean, rtol=1e-5)
    np.testing.assert_array_equal(outputs["text_present"], [[True, False, False, False]])
    bias = next(v for v in layer.trainable_variables if "absent" in v.name)
    bias.assign(np.ones(4))
    moved = layer(np.array([[1, 2, 4, 0]]))["text"] - outputs["text"]
    assert_near(moved[0, :3, 0], [0, 1, 1])


def test_initial_std_scales_the_present_rows():
    layer = tables()
    layer.set_modality_vectors("text", VECTORS, PRESENT, initial_std=0.06)
    rows = np.asarray(layer.modality_table("text"))[[1, 3, 5]]
    np.testing.assert_allclose(rows.std(), 0.06, rtol=1e-5)
    np.testing.assert_allclose(rows / rows[0, 0], VECTORS[[1, 3, 5]] / VECTORS[1, 0], rtol=1e-4)


def test_a_modality_that_no_item_has_stays_finite():
    layer = tables()
    layer.set_modality_vectors("text", np.full((6, 4), np.nan), np.zeros(6, bool))
    outputs = layer(np.array([[1, 5]]))
    assert np.isfinite(outputs["text"]).all()
    assert not np.asarray(outputs["text_present"]).any()


def test_frozen_tables_still_learn_the_absent_bias():
    names = {v.name for v in tables(trainable_modalities=False).trainable_variables}
    assert names == {"id_table", "text_absent_bias"}


def test_wrong_vectors_are_refused():
    layer = tables()
    with pytest.raises(ValueError, match="must have shape"):
        layer.set_modality_vectors("text", VECTORS[:3], PRESENT)
    with pytest.raises(ValueError, match="finite"):
        layer.set_modality_vectors("text", np.full((6, 4), np.inf), PRESENT)
    with pytest.raises(ValueError, match="no `image` table"):
        layer.set_modality_vectors("image", VECTORS, PRESENT)
