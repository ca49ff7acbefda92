"""Side adapters, their towers and the network of both, against NumPy and closed forms."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kdsr_tf.layers.side_adapter import SideAdapter
from kdsr_tf.layers.side_levels import SideLevels
from kdsr_tf.layers.side_network import SideNetwork, SideOptions
from kdsr_tf.layers.side_towers import JointSideTower, SideTower
from tests.gradients import value_and_gradients
from tests.harness import check_layer
from tests.nearness import assert_near

RNG = np.random.default_rng(0)
ALL = np.ones(5, bool)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def stirred(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer with weights that are far from where they start."""
    for variable in layer.trainable_variables:
        variable.assign(
            normal(*variable.shape) / np.sqrt(variable.shape[0] if variable.shape else 1)
        )
    return layer


def without_adapters(tower):
    """The tower with U = 0 in every adapter, which is then the identity."""
    for adapter in tower.adapters:
        adapter._up.kernel.assign(np.zeros(adapter._up.kernel.shape))
    return tower


def of_adapter(adapter: SideAdapter, x: np.ndarray) -> np.ndarray:
    down, up = adapter._down, adapter._up
    hidden = np.maximum(x @ np.asarray(down.kernel) + np.asarray(down.bias), 0)
    return x + hidden @ np.asarray(up.kernel) + np.asarray(up.bias)


def of_gates(tower, temperature: float = 0.1) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(tower._theta) / temperature))


def of_layers(layers, x: np.ndarray) -> np.ndarray:
    for layer in layers:
        x = x @ np.asarray(layer.kernel)
        x = x + np.asarray(layer.bias) if layer.use_bias else x
    return x


def of_tower(tower: SideTower, states) -> np.ndarray:
    """Section 1 of the paper's code, level by level, with B_{-1} = 0."""
    gates, below = list(of_gates(tower)), np.zeros_like(states[0])
    if tower.first == "plain":
        gates.insert(0, 1.0)
    for gate, state, adapter in zip(gates, states, tower.adapters, strict=True):
        below = of_adapter(adapter, gate * state + (1 - gate) * below)
    return below


def of_joint(tower: JointSideTower, first, second, has_first, has_second) -> np.ndarray:
    """Item by item."""
    rows, common = [], min(tower.levels)
    for row in range(len(has_first)):
        joint = np.zeros(tower.width)
        for k in range(common):
            a, b = first[k - common][row], second[k - common][row]
            if tower._wider == 0:
                a = of_layers(tower._maps[k], a)
            if tower._wider == 1:
                b = of_layers(tower._maps[k], b)
            gate = of_gates(tower)[k]
            if has_first[row] and has_second[row]:
                level = gate * a + (1 - gate) * b
            else:
                level = has_first[row] * a + has_second[row] * b
            joint = of_adapter(tower.adapters[k], joint + level)
        rows.append(joint)
    return np.stack(rows)


@pytest.mark.parametrize(
    ("layer", "inputs", "trains"),
    [
        (SideAdapter(3), (normal(5, 4),), True),
        (SideLevels((3, 4), 4), (normal(5, 7),), True),
        (SideLevels((4, 4), 4, "none"), (normal(5, 8),), False),
        (SideTower(2, 4), ([normal(5, 4), normal(5, 4)],), True),
        (SideTower(2, 4, "plain"), ([normal(5, 4), normal(5, 4)],), True),
        (JointSideTower((1, 2), (4, 6)), ([normal(5, 4)], [normal(5, 6)] * 2, ALL, ALL), True),
        (JointSideTower((1, 1), (6, 4), 2), ([normal(5, 6)], [normal(5, 4)], ALL, ALL), True),
        (SideNetwork(4, {"text": (3, 3)}), ({"text": normal(5, 6)}, {"text": ALL}), True),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_contract(layer, inputs, trains):
    check_layer(layer, *inputs, trains=trains)


def test_without_adapters_a_tower_halves_what_is_below():
    states = [normal(5, 4) for _ in range(4)]
    tower = SideTower(4, 4, name="tower")
    tower.build()
    without_adapters(tower)
    expected = sum(2.0 ** -(4 - j) * states[j] for j in range(4))
    assert_near(tower(states), expected, 1e-6)
    plain = SideTower(4, 4, "plain")
    plain.build()
    without_adapters(plain)
    # s_0 has its whole weight, as in the figure of the paper.
    assert_near(plain(states), expected + states[0] / 16, 1e-6)


def test_without_adapters_the_joint_tower_adds_up_means():
    first, second = [normal(5, 4) for _ in range(3)], [normal(5, 4) for _ in range(3)]
    tower = JointSideTower((3, 3), (4, 4))
    tower.build()
    without_adapters(tower)
    expected = 0.5 * sum(a + b for a, b in zip(first, second, strict=True))
    assert_near(tower(first, second, ALL, ALL), expected, 1e-6)


@pytest.mark.parametrize("first", ["gated", "plain"])
def test_a_tower_is_that_of_numpy(first):
    states = [normal(5, 4) for _ in range(3)]
    tower = SideTower(3, 4, first, hidden=6)
    tower.build()
    assert_near(stirred(tower)(states), of_tower(tower, states), 1e-5)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize(
    ("levels", "widths"), [((3, 3), (4, 4)), ((5, 3), (4, 6)), ((2, 4), (6, 4))]
)
def test_a_joint_tower_is_that_of_numpy(levels, widths, rank):
    """Unequal numbers of levels, dimension transformation, and items that lack a modality."""
    first, second = ([normal(5, w) for _ in range(n)] for n, w in zip(levels, widths, strict=True))
    has_first, has_second = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool)
    tower = JointSideTower(levels, widths, rank, hidden=6)
    tower.build()
    found = stirred(tower)(first, second, has_first, has_second)
    assert_near(found, of_joint(tower, first, second, has_first, has_second), 1e-5)


def test_gates_are_steep_by_their_temperature():
    tower = SideTower(1, 4, gate_temperature=0.1)
    tower.build()
    tower._theta.assign([0.1])
    assert_near(tower.gates(), [1 / (1 + np.exp(-1.0))], 1e-6)
    with pytest.raises(ValueError, match="`gate_temperature` must be > 0"):
        SideTower(1, 4, gate_temperature=0.0)


def test_levels_come_to_one_scale_and_a_constant_one_becomes_zeros():
    states = np.concatenate([np.full((50, 2), 7.1), 40 * RNG.normal(size=(50, 3)) + 9], axis=1)
    states = states.astype("float16").astype("float64")
    mean = states.mean(axis=0)
    away = np.square(states - mean)
    deviation = np.sqrt([away[:, :2].mean(), away[:, 2:].mean()])
    levels = SideLevels((2, 3), 3)
    levels.build()
    levels.set_statistics(mean, deviation)
    constant, spread = (np.asarray(level) for level in levels(states.astype("float16")))
    assert_near(constant, np.broadcast_to(np.asarray(levels._maps[0].bias), (50, 3)), 1e-7)
    assert_near(spread, (states[:, 2:] - mean[2:]) / deviation[1], 1e-5)
    assert not levels.trainable_variables[0].path.endswith("mean")
    with pytest.raises(ValueError, match="must be finite"):
        levels.set_statistics(mean * np.nan, deviation)
    with pytest.raises(ValueError, match=r"shapes \(5,\) and \(2,\)"):
        levels.set_statistics(mean[1:], deviation)


def test_statistics_mean_nothing_where_levels_are_not_normalised():
    levels = SideLevels((2, 3), 3, "none")
    levels.set_statistics(np.ones(5), np.ones(2))
    states = normal(4, 5)
    assert_near(levels(states)[1], states[:, 2:], 1e-7)


@pytest.mark.parametrize("head", ["merged", "paper"])
def test_a_network_is_that_of_numpy(head):
    """7 levels of several widths, as of a convolutional network, against 3 of one width."""
    sizes = {"image": (2, 3, 2, 4, 5, 6, 9), "text": (7, 7, 7)}
    network = SideNetwork(4, sizes, SideOptions(head=head, hidden=6))
    network.build()
    stirred(network)
    states = {"image": normal(5, 31), "text": normal(5, 21)}
    has = {"image": np.array([1, 1, 0, 0, 1], bool), "text": np.array([1, 0, 1, 0, 1], bool)}
    found = network(states, has)
    levels = {m: [np.asarray(s) for s in network.levels[m](states[m])] for m in sizes}
    assert [level.shape for level in levels["image"]] == [(5, 4)] * 7
    assert [level.shape for level in levels["text"]] == [(5, 7)] * 3
    parts = []
    for m in sizes:
        z = of_layers(network._maps[m], of_tower(network.intra[m], levels[m]))
        z = np.where(has[m][:, None], z, np.asarray(network._absent[m]))
        assert_near(found[m], z, 1e-5)
        parts.append(z)
    joint = of_joint(network.inter, *levels.values(), has["image"], has["text"])
    parts.append(of_layers(network._maps["inter"], joint))
    if head == "merged":
        expected = sum(parts) + np.asarray(network._bias)
    else:
        expected = of_layers([network._join], np.concatenate(parts, axis=1))
    assert_near(found["item"], expected, 2e-5)


def test_every_weight_has_the_gradient_of_differences():
    network = SideNetwork(3, {"image": (2, 3), "text": (4, 4)}, SideOptions(hidden=3))
    network.build()
    stirred(network)
    # θ is divided by 0.1: its steps must be small against that, so the values are too.
    for tower in (*network.intra.values(), network.inter):
        tower._theta.assign(0.05 * np.asarray(tower._theta))
    states = {"image": normal(4, 5), "text": normal(4, 8)}
    has = {"image": np.array([1, 1, 0, 1], bool), "text": np.array([1, 0, 1, 1], bool)}
    target = normal(4, 3)
    weights = network.trainable_variables

    def loss(*values):
        found, _ = network.stateless_call(values, frozen, states, has)
        return keras.ops.sum(keras.ops.square(found["item"] - target))

    frozen = [v.value for v in network.non_trainable_variables]
    values = [np.asarray(v) for v in weights]
    _, gradients = value_and_gradients(loss, *values)
    for place, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        direction = RNG.normal(size=value.shape).astype("float32")
        direction *= 1e-3 / np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            moved = [*values]
            moved[place] = value + sign * direction
            ends.append(float(loss(*moved)))
        assert_near((ends[0] - ends[1]) / 2e-3, float((gradient * direction).sum()) * 1e3, 2e-2)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        # Blocks and gates of three towers; per tower a matrix, one bias, two absent vectors.
        (SideOptions(), 21 * (2 * 768 * 64 + 64 + 768) + 21 + 3 * 768 * 64 + 64 + 128),
        # 2.94 million of IISAN-Versa with BERT-base and ViT-base, without its user encoder.
        (
            SideOptions(head="paper"),
            21 * (2 * 768 * 64 + 64 + 768)
            + 21
            + 2 * (768 * 64 + 64 + 64 * 64 + 64)
            + (768 * 768 + 768 + 768 * 64 + 64)
            + (192 * 64 + 64)
            + 128,
        ),
    ],
    ids=["merged", "paper"],
)
def test_parameters_are_those_of_the_formula(options, count):
    network = SideNetwork(64, {"image": (768,) * 7, "text": (768,) * 7}, options)
    network.build()
    assert network.count_params() - 2 * (7 * 768 + 7) == count
    if options.head == "paper":
        assert 2.83e6 < count < 2.85e6


@pytest.mark.parametrize(("rank", "count"), [(None, 4096 * 768 + 768), (64, 64 * 4864 + 768)])
def test_maps_of_the_wider_encoder_have_few_parameters_by_rank(rank, count):
    tower = JointSideTower((7, 7), (768, 4096), rank)
    tower.build()
    assert tower.count_params() == 7 * (count + 2 * 768 * 64 + 64 + 768) + 7


def test_dropped_modalities_are_as_absent_ones():
    network = SideNetwork(4, {"image": (3,), "text": (3,)}, modality_dropout=0.5)
    network.build()
    stirred(network)
    states = {m: np.repeat(normal(1, 3), 2000, axis=0) for m in ("image", "text")}
    every, none = np.ones(2000, bool), np.zeros(2000, bool)
    trained = network(states, {"image": every, "text": every}, training=True)
    found = np.asarray(trained["item"])
    # What other objectives read of a modality is not dropped.
    assert np.ptp(trained["image"], axis=0).max() < 1e-6 < np.ptp(found, axis=0).max()
    cases = [(every, every), (none, every), (every, none)]
    expected = [
        np.asarray(network(states, {"image": image, "text": text})["item"])[0]
        for image, text in cases
    ]
    shares = [np.isclose(found, row, atol=1e-5).all(axis=1).mean() for row in expected]
    assert abs(shares[0] - 0.5) < 0.05 and abs(shares[1] - 0.25) < 0.05
    assert sum(shares) == pytest.approx(1.0)
    assert_near(network(states, {"image": every, "text": every})["item"][:1], expected[:1], 1e-6)
    # What has one modality keeps it.
    kept = network(states, {"image": none, "text": every}, training=True)["item"]
    assert_near(kept, np.repeat(expected[1][None], 2000, axis=0), 1e-5)


def test_what_cannot_be_built_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="tower needs two modalities"):
        SideNetwork(4, {"text": (3,)}, SideOptions(towers=("inter",)))
    with pytest.raises(ValueError, match="`towers` must be some of intra, inter"):
        SideNetwork(4, {"text": (3,)}, SideOptions(towers=("joint",)))
    with pytest.raises(ValueError, match="`head` must be one of merged, paper"):
        SideNetwork(4, {"text": (3,)}, SideOptions(head="none"))
    with pytest.raises(ValueError, match="`first` must be one of gated, plain"):
        SideTower(2, 3, "none")
    with pytest.raises(ValueError, match="`normalise` must be one of level, none"):
        SideLevels((3,), 3, "row")
