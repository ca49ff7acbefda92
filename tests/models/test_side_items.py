"""Items of a side network: ids, new items, absent modalities, and what is served of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.items.content import Content
from kdsr_tf.items.side_items import SideItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.side_network import SideNetwork, SideOptions
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.in_batch_next_item import InBatchNextItem
from kdsr_tf.scoring.sum_scorer import SumScorer
from kdsr_tf.training.rates import grouped_adam, variable_groups
from tests.nearness import assert_near

NUM_ITEMS, DIM, LENGTH = 20, 8, 5
SIZES = {"image": (3, 5, 4), "text": (6, 6)}
WINDOWS = np.random.default_rng(3).integers(1, NUM_ITEMS + 1, (6, LENGTH + 1)).astype("int32")


def content(num_items: int = NUM_ITEMS, dtype: str = "float16") -> Content:
    """Every fourth item has no image, every fifth no text, the twentieth neither."""
    rng = np.random.default_rng(0)
    arrays, items = {}, np.arange(num_items + 1)
    for m, every in (("image", 4), ("text", 5)):
        has = (items % every > 0) & (items > 0)
        states = rng.normal(size=(1000, sum(SIZES[m])))[: num_items + 1]
        arrays[f"{m}_states"] = (states * has[:, None]).astype(dtype)
        arrays[f"{m}_present"] = has
    return Content(arrays)


def made_items(ids: bool = False, **arguments) -> SideItems:
    network = SideNetwork(DIM, SIZES, SideOptions(hidden=4), seed=1, **arguments)
    items = SideItems(NUM_ITEMS, network, ids, seed=2, name="items")
    items.build()
    rng = np.random.default_rng(4)
    for variable in items.trainable_variables:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    return items


def made_model(items: SideItems, dtype: str = "float32") -> TrainingModel:
    recommender = Recommender(
        items,
        SASRec(DIM, LENGTH, num_layers=1, num_heads=1, dropout=0.0, dtype=dtype, name="backbone"),
        PredictionHead(DIM, "last", dtype=dtype, name="head"),
        SumScorer(DIM, ("item",), dtype=dtype, name="scorer"),
        LENGTH,
        dtype=dtype,
    )
    return TrainingModel(
        recommender, [InBatchNextItem(NUM_ITEMS, dtype=dtype, name="next_item")], dtype=dtype
    )


def made_batch(read: Content) -> dict[str, np.ndarray]:
    batch = {"items": WINDOWS[:, :-1], "target": WINDOWS[:, 1:]}
    return batch | read.of_batch(*batch.values())


@pytest.mark.parametrize("ids", [False, True])
def test_served_vectors_are_those_of_the_network_and_of_the_row(ids):
    items, read = made_items(ids), content()
    served = np.asarray(items.materialised(read).row_variables()["item"])
    rows = read.rows(np.arange(NUM_ITEMS + 1))
    states = {m: rows[f"{m}_states"] for m in SIZES}
    present = {m: rows[f"{m}_present"] for m in SIZES}
    expected = np.array(items.network(states, present)["item"])
    if ids:
        expected += np.asarray(items.id_table)
    expected[0] = 0
    assert_near(served, expected, 1e-6)
    assert np.isfinite(served).all()


def test_a_new_item_has_the_row_that_it_would_have_had():
    """One with ids has the vector of the network alone, whatever the table holds."""
    more = content(2 * NUM_ITEMS)
    for ids in (False, True):
        items = made_items(ids)
        before = np.asarray(items.materialised(content()).row_variables()["item"])
        after = np.asarray(items.materialised(more).row_variables()["item"])
        assert_near(after[: NUM_ITEMS + 1], before, 1e-6)
        # Items 20 and 40 have neither a text nor an image.
        assert np.array_equal(after[20], after[40]) != ids
        chosen = np.array([0, 3, NUM_ITEMS + 1, NUM_ITEMS + 3])
        some = np.asarray(items.materialised(more, chosen).row_variables()["item"])
        assert_near(some, after[chosen], 1e-6)
        rows = more.rows(chosen)
        alone = items.network(
            {m: rows[f"{m}_states"] for m in SIZES}, {m: rows[f"{m}_present"] for m in SIZES}
        )["item"]
        assert_near(after[chosen[2:]], alone[2:], 1e-6)


def test_only_adapters_have_a_rate_of_their_own_and_no_feature_is_a_weight():
    items = made_items()
    (side,) = items.variable_groups().values()
    # 3 levels of width 8, 2 of 6, and 2 of 6 between both, each V, U and two biases.
    assert len(side) == 4 * (3 + 2 + 2)
    assert sum(int(np.prod(v.shape)) for v in side) == sum(
        n * (2 * w * 4 + 4 + w) for n, w in ((3, 8), (2, 6), (2, 6))
    )
    assert items.row_variables() == {}
    assert max(variable.shape[0] for variable in items.weights if variable.shape) < NUM_ITEMS
    assert list(made_items(ids=True).row_variables()) == ["ids"]


def test_a_step_learns_and_what_was_saved_computes_the_same(tmp_path):
    items, read = made_items(ids=True, modality_dropout=0.2), content()
    model = made_model(items)
    model.compile(keras.optimizers.Adam(0.01))
    batch = made_batch(read)
    losses = [model.train_on_batch(batch, return_dict=True)["loss"] for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]
    path = str(tmp_path / "student.keras")
    model.recommender.save(path)
    other = keras.saving.load_model(path)
    expected = model.recommender.served(read).scores(WINDOWS[:, :-1])
    assert_near(other.served(read).scores(WINDOWS[:, :-1]), expected, 1e-6)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="lazy tables need TensorFlow")
def test_lazy_tables_move_the_rows_of_the_batch_only():
    items, read = made_items(ids=True), content()
    model = made_model(items)
    optimizer = grouped_adam(variable_groups(model), 0.01, lazy=[items.id_table])
    model.compile(optimizer)
    before, batch = np.array(items.id_table), made_batch(read)
    few = {name: values[:2] for name, values in batch.items() if name in ("items", "target")}
    model.train_on_batch(few | read.of_batch(*few.values()))
    moved = np.flatnonzero((np.asarray(items.id_table) != before).any(axis=1))
    assert moved.tolist() == np.unique(WINDOWS[:2]).tolist() and len(moved) < NUM_ITEMS


def test_half_precision_reads_the_digits_of_float16():
    """A mean that is large against the spread would swallow it in bfloat16."""
    items, read = made_items(), content()
    for m, levels in items.network.levels.items():
        levels.set_statistics(np.full(sum(SIZES[m]), 64.0), np.ones(len(SIZES[m])))
    rows = read.rows(np.arange(1, 11))
    shifted = {f"{m}_states": rows[f"{m}_states"] + np.float16(64) for m in SIZES}
    half = SideItems.from_config(items.get_config() | {"dtype": "mixed_bfloat16"})
    half.build()
    half.set_weights(items.get_weights())
    model, other = made_model(items), made_model(half, "mixed_bfloat16")
    batch = {"items": np.arange(1, 6)[None], "target": np.arange(2, 7)[None]}
    batch |= {"batch_items": np.arange(1, 11, dtype="int32")}
    batch |= {f"content_{k}": v for k, v in (rows | shifted).items()}
    known, halved = (
        np.asarray(
            keras.ops.cast(
                one.recommender.item_encoder.in_batch(batch, False).catalogue(())["item"], "float32"
            )
        )
        for one in (model, other)
    )
    assert np.abs(known - halved).max() < 0.05 * np.abs(known).max()


def test_a_later_student_keeps_the_statistics_and_the_rows_of_ids():
    earlier, later = made_items(ids=True), made_items(ids=True)
    for levels in earlier.network.levels.values():
        levels.set_statistics(np.full(sum(levels.sizes), 0.5), np.full(len(levels.sizes), 2.0))
    earlier.id_table.assign(np.arange((NUM_ITEMS + 1) * DIM).reshape(-1, DIM))
    kept = np.asarray(later.id_table)[9]
    later.copy_known_rows(earlier, np.array([3, 4]), np.array([7, 2]))
    table = np.asarray(later.id_table)
    assert np.array_equal(table[[3, 4]], np.asarray(earlier.id_table)[[7, 2]])
    assert np.array_equal(table[9], kept)
    for m, levels in later.network.levels.items():
        assert_near(levels.mean, np.full(sum(SIZES[m]), 0.5), 1e-7)
        assert_near(levels.scale, np.full(len(SIZES[m]), 0.5), 1e-7)


def test_states_of_another_precision_or_width_are_refused():
    with pytest.raises(ValueError, match="from content of all items"):
        made_items().materialised(content(dtype="float32"))


def test_float16_states_give_nearly_the_same_lists():
    """Of 20 items of 400 that float32 states put first, all but 1 in 100 are the same."""
    rng = np.random.default_rng(7)
    network = SideNetwork(DIM, SIZES, SideOptions(hidden=4), seed=1)
    exact = {m: 30 * rng.normal(size=(400, sum(sizes))) for m, sizes in SIZES.items()}
    has = {m: np.ones(400, bool) for m in SIZES}
    network.build()
    vectors = [
        np.asarray(network({m: s.astype(kind) for m, s in exact.items()}, has)["item"])
        for kind in ("float32", "float16")
    ]
    users = rng.normal(size=(200, DIM))
    first, second = (np.argsort(-users @ v.T, axis=1)[:, :20] for v in vectors)
    same = [len(set(a) & set(b)) / 20 for a, b in zip(first, second, strict=True)]
    assert np.mean(same) > 0.99
