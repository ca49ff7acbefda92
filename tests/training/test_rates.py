import keras
import numpy as np
import pytest

from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.kdsr import KDSR
from kdsr_tf.methods.student import Student
from kdsr_tf.training.rates import GroupRate, current_rates, grouped_adam, variable_groups


def make_model(modality_tables="tuned", modalities=("text",)):
    student = Student(
        num_items=20,
        dim=4,
        max_length=5,
        num_layers=1,
        num_heads=1,
        modalities=modalities,
        modality_tables=modality_tables,
        pooling="last",
    )
    return KDSR(student, num_codes=3, modalities=())


def step(optimizer, model, gradient=1.0):
    variables = model.trainable_variables
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    optimizer.apply([keras.ops.full(v.shape, gradient) for v in variables], variables)
    after = [keras.ops.convert_to_numpy(v) for v in variables]
    return {
        v.path: float(np.abs(b - a).max()) for v, b, a in zip(variables, before, after, strict=True)
    }


def test_tables_start_slowly_and_rise_linearly_at_every_step():
    model = make_model()
    optimizer = grouped_adam(variable_groups(model), 0.1, slow_start_steps=4)
    slow, fast = [], []
    table = model.student.modality_table("text").path
    for _ in range(6):
        slow.append(current_rates(optimizer)["modality_tables"])
        moved = step(optimizer, model)
        # With a constant gradient Adam moves every entry by its rate.
        fast.append({round(value, 4) for path, value in moved.items() if path != table})
        assert moved[table] == pytest.approx(slow[-1], rel=1e-3)
    assert slow == pytest.approx([0.01, 0.0325, 0.055, 0.0775, 0.1, 0.1])
    assert fast == [{0.1}] * 6


def test_no_slow_start():
    model = make_model()
    optimizer = grouped_adam(variable_groups(model), 0.1, slow_start_steps=0)
    assert current_rates(optimizer) == pytest.approx({"modality_tables": 0.1, "rest": 0.1})


def test_each_trainable_variable_is_in_one_group():
    model = make_model()
    groups = variable_groups(model)
    assert [v.path for v in groups["modality_tables"]] == [
        model.student.modality_table("text").path
    ]
    grouped = [id(v) for group in groups.values() for v in group]
    assert sorted(grouped) == sorted(id(v) for v in model.trainable_variables)


@pytest.mark.parametrize("tables", ["off", "frozen"])
def test_tables_that_do_not_learn_have_no_group(tables):
    model = make_model(tables)
    assert list(variable_groups(model)) == ["rest"]
    optimizer = grouped_adam(variable_groups(model), 0.1, slow_start_steps=3)
    assert list(current_rates(optimizer)) == ["rest"]


def test_a_group_that_matches_nothing_is_an_error():
    model = make_model()
    model.student.modality_table("text").trainable = False
    with pytest.raises(ConfigError, match="`modality_tables` of variables matches nothing"):
        variable_groups(model)


def test_two_variables_of_one_path_are_an_error():
    groups = variable_groups(make_model())
    groups["rest"] = [*groups["rest"], *groups["modality_tables"]]
    with pytest.raises(ValueError, match=r"distinct paths.*text_table"):
        grouped_adam(groups, 0.1)


def test_clip_and_decay_act_in_each_group():
    model = make_model()
    # Weights of 1 and gradients of 0: only decay moves anything, by rate times decay.
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones(variable.shape))
    optimizer = grouped_adam(variable_groups(model), 0.1, 10, 0.5, weight_decay=0.2, clip_norm=1.0)
    moved = step(optimizer, model, gradient=0.0)
    table = model.student.modality_table("text").path
    assert moved.pop(table) == pytest.approx(0.05 * 0.2, rel=1e-4)
    assert set(np.round(list(moved.values()), 5)) == {0.02}
    step(optimizer, model, gradient=1.0)
    for inner in optimizer.optimizers:
        momenta = [m for m in inner.variables if m.name.endswith("momentum")]
        norm = np.sqrt(sum(float(keras.ops.sum(m**2)) for m in momenta))
        assert norm == pytest.approx(0.1, rel=1e-4)  # (1 - beta_1) times the clipped norm


def test_a_limit_of_a_group_that_there_is_not_is_an_error():
    groups = variable_groups(make_model("frozen"))
    with pytest.raises(ConfigError, match="`clip_norm` has no group `modality_tables`"):
        grouped_adam(groups, 0.1, clip_norm={"modality_tables": 1.0})


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("linear", [0.05, 0.1, 0.1, 0.05, 0.0]), ("cosine", [0.05, 0.1, 0.1, 0.05, 0.0])],
)
def test_warm_up_and_decay(decay, expected):
    rate = GroupRate(0.1, warmup_steps=2, decay=decay, total_steps=6)
    assert [float(rate(step)) for step in (0, 1, 2, 4, 6)] == pytest.approx(expected, abs=1e-7)
    assert float(rate(3)) == pytest.approx(0.075 if decay == "linear" else 0.0853553, rel=1e-5)


def test_a_group_may_have_a_rate_of_its_own():
    groups = variable_groups(make_model())
    optimizer = grouped_adam(groups, {"rest": 0.1, "modality_tables": 0.02})
    assert current_rates(optimizer) == pytest.approx({"modality_tables": 0.02, "rest": 0.1})
    assert current_rates(grouped_adam(groups, {"rest": 0.1})) == pytest.approx(
        {"modality_tables": 0.1, "rest": 0.1}
    )
    with pytest.raises(ConfigError, match="`learning_rate` has no group `side`"):
        grouped_adam(groups, {"rest": 0.1, "side": 0.02})
