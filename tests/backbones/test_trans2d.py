"""What only Trans2D must do."""

from __future__ import annotations

import numpy as np

from kdsr_tf.backbones.trans2d import Trans2D

ITEMS = np.array([[4, 7, 4, 2, 0]], "int32")
PRESENT = {"image_present": ITEMS == 7, "text_present": ITEMS > 2}
RNG = np.random.default_rng(0)


def embeddings(**changed) -> dict:
    inputs = {
        name: np.random.default_rng(k).normal(size=(1, 5, 4)).astype("float32")
        for k, name in enumerate(("ids", "image", "text"))
    }
    return inputs | {"items": ITEMS} | PRESENT | changed


def test_a_cell_that_does_not_exist_is_not_read():
    backbone = Trans2D(4, 5, modalities=("image", "text"))
    before = np.asarray(backbone(embeddings()))
    image = embeddings()["image"]
    image[ITEMS != 7] = 50.0
    after = np.asarray(backbone(embeddings(image=image)))
    np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-5, atol=1e-6)
    image[ITEMS == 7] = [5.0, -5.0, 0.0, 0.0]
    assert np.abs(np.asarray(backbone(embeddings(image=image))) - before)[0, 0].max() > 1e-3


def test_every_cell_of_another_position_reaches_a_state():
    backbone = Trans2D(4, 5, num_layers=1, modalities=("image", "text"))
    before = np.asarray(backbone(embeddings()))
    for name, position in (("ids", 3), ("image", 1), ("text", 1)):
        values = embeddings()[name]
        values[0, position] = -values[0, position]
        after = np.asarray(backbone(embeddings(**{name: values})))
        assert np.abs(after[0, 0] - before[0, 0]).max() > 1e-4


def test_the_order_of_items_matters():
    backbone = Trans2D(4, 5)
    swapped = {name: value[:, [1, 0, 2, 3, 4]] for name, value in embeddings().items()}
    before, after = (np.asarray(backbone(inputs)) for inputs in (embeddings(), swapped))
    assert np.abs(after[0, 2] - before[0, 2]).max() > 1e-4
