"""Benchmarks on tiny sizes: they run, and print what they promise."""

import argparse

import numpy as np
import pytest

from tests import factories


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    from kdsr_tf.config import load_config

    config = load_config(
        overrides=[
            "encode.text={}", "model.dim=8", "model.num_layers=1", "teach.num_codes=5",
            "windows.max_length=8", "windows.stride=4", "train.epochs=1", "train.batch_size=16",
        ],
        workdir=str(tmp_path_factory.mktemp("work")),
    )  # fmt: skip
    factories.write_workdir(config, num_items=30, num_users=20)
    factories.write_student(config)
    return config


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    from benchmarks import floor, scale

    monkeypatch.setattr(floor, "RATE_SIZE", 64)
    monkeypatch.setattr(scale, "COPY_FLOATS", 2**16)
    monkeypatch.setattr(scale, "WARM_UP", 1)


def test_evaluation_stands_beside_its_floor(workdir):
    from benchmarks.evaluate import measure

    found = measure(workdir, trained=True, plain=10)
    assert found["unequal_ranks"] == 0 and found["compared_ranks"] == 10
    assert found["test_points_per_second"] > 0 and found["cpu_times_floor"] > 0
    assert found["windows_encoded"] <= found["test_points"]
    assert found["positions_encoded"] > found["windows_encoded"]


def test_transitions_are_counted_over_train_interactions_and_score_by_recency(workdir):
    from benchmarks import neighbours
    from kdsr_tf import sequences, stages

    table = neighbours.transitions(workdir, 30, held_out=1)
    expected, counts = np.zeros((31, 31)), np.zeros(31)
    for user in sequences.read_users(stages.location(workdir, "sequences")):
        items = user.items[: user.num_train - 1]
        for place, item in enumerate(items):
            counts[item] += 1
            for step, later in enumerate(items[place + 1 : place + 1 + neighbours.STEPS], start=1):
                expected[item, later] += 1 / step
    expected /= (counts + neighbours.SMOOTHING)[:, None]
    np.testing.assert_allclose(table.toarray(), expected, atol=1e-12)
    assert expected.any()
    scores = neighbours.by_transitions(table)([np.array([3, 5]), np.array([7])])
    np.testing.assert_allclose(scores, [expected[3] / 2 + expected[5], expected[7]], atol=1e-12)
    found = neighbours.measure(workdir, "test", held_out=0)
    kinds = {"popularity", "transitions", "text", "transitions + text"}
    assert {name for name, value in found.items() if "cold_hr_20" in str(value)} == kinds
    assert all(0 <= found[kind]["hr_5"] <= found[kind]["hr_20"] <= 100 for kind in kinds)


@pytest.mark.slow
def test_a_step_stands_beside_both_floors():
    from benchmarks import scale

    case = {"items": 50, "length": 6, "batch_size": 4, "negatives": None, "lazy_tables": False}
    found = scale.measure_catalogue(case, repeats=1)
    # Weights of two tables of 51 rows, of two layers, and of the heads.
    assert found["weights_bytes"] > 4 * 2 * 51 * scale.DIM
    assert found["gflop"] > 3 * 2 * 4 * 6 * 50 * scale.DIM / 1e9
    assert found["step_cpu_seconds"] > 0 and found["peak_rss_bytes"] > 0
    header, line, row = scale.row_of_table({"part": "catalogue", **case}, first=True).split("\n")[
        1:
    ]
    assert header == "| items | length | batch_size | negatives | lazy_tables |"
    assert row == "| 50 | 6 | 4 | all | no |" and line.count("---") == 5
    lazy = case | {"negatives": 7, "lazy_tables": True}
    assert scale.measure_catalogue(lazy, repeats=1)["step_cpu_seconds"] > 0


def test_items_are_zipf_and_large_catalogues_are_sampled():
    from benchmarks import scale

    items = scale.make_batch(64, 50, num_items=100)["items"]
    counts = np.bincount(items.ravel(), minlength=101)
    assert counts[0] == 0 and counts[1] / counts[2] == pytest.approx(2, rel=0.3)
    arguments = argparse.Namespace(
        items=[10, 100], lengths=[5], batch_sizes=[2], full_up_to=50, negatives=7,
        pair_lengths=[5, 9], pair_windows=2, request_sizes=[1],
    )  # fmt: skip
    found = scale.cases(arguments)
    cases = [(case["negatives"], case["lazy_tables"]) for case in found["catalogue"]]
    assert cases == [(None, False), (7, False), (7, True)]
    assert [case["pairs"] for case in found["length"]] == [scale.PAIRS, None] * 2


@pytest.mark.slow
def test_distillation_is_counted_and_leaves_inference_alone():
    from benchmarks import scale

    found = scale.measure_length({"items": 50, "length": 9, "batch_size": 2, "pairs": None}, 1)
    assert found["counted_ratio"] > 1 and found["ratio"] > 0
    # 36 pairs less the repeated items of a window, against attention over all positions.
    assert 0 < found["scores_over_attention"] <= 2 * 36 / (scale.LAYERS * 4 * 81)
    found = scale.measure_inference({"items": 50, "length": 9, "batch_size": 2}, 1)
    assert found["ratio"] > 0 and found["ms_on"] > 0


@pytest.mark.slow
def test_a_part_of_an_epoch_has_the_floor_of_that_part(workdir):
    from benchmarks.train_epoch import measure

    part = measure(workdir, epochs=1, steps=1)
    assert part["steps"] == 1 < part["steps_of_epoch"]
    assert part["windows"] == workdir.train.batch_size


@pytest.mark.slow
def test_ways_to_adapt_an_encoder_differ_in_what_learns_only(tmp_path):
    from benchmarks import side_step
    from tests.beam_pipelines.presets import save_bert

    arguments = argparse.Namespace(
        preset=save_bert(str(tmp_path / "bert"), ["red", "rose", "cream"]),
        titles=None, items=20, windows=4, tokens=8, steps=2,
    )  # fmt: skip
    losses, learnt = {}, {}
    for arm in side_step.ARMS:
        model, batch = side_step.make_arm(arm, arguments)
        frozen = [np.array(variable) for variable in model.non_trainable_variables]
        losses[arm] = model.train_on_batch(batch)
        learnt[arm] = sum(np.prod(variable.shape) for variable in model.trainable_variables)
        for before, variable in zip(frozen, model.non_trainable_variables, strict=True):
            if "kernel" in variable.path:
                np.testing.assert_array_equal(before, variable)
    # States are float16 in the cache.
    assert losses["cached"] == pytest.approx(losses["uncached"], rel=1e-3)
    assert learnt["cached"] == learnt["uncached"] and len(set(learnt.values())) == 3
    found = side_step.measure(side_step.ARMS[:1], arguments)
    assert found["cached"]["trainable"] == learnt["cached"] and found["cached"]["cpu_seconds"] > 0


def test_tpme_weighs_time_parameters_and_memory_over_the_arms():
    from benchmarks.side_step import add_tpme, make_windows

    found = {
        "a": {"cpu_seconds": 1.0, "trainable": 10, "peak_mb": 5.0},
        "b": {"cpu_seconds": 3.0, "trainable": 10, "peak_mb": 7.0},
        "c": {"cpu_seconds": 2.0, "trainable": 30, "peak_mb": 5.0},
    }
    add_tpme(found)
    assert [found[arm]["tpme"] for arm in "abc"] == pytest.approx([0, 0.9, 0.45 / 2 + 0.1])
    windows = make_windows(30, 4)
    assert windows.shape == (4, 11) and set(windows.ravel()) == set(range(1, 31))
