"""`kdsr compare` on evaluations with known ranks."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from scipy import stats

from kdsr_tf.errors import InputError, MissingArtifactError
from kdsr_tf.evaluation.compared_arms import find_arms
from kdsr_tf.evaluation.comparison import compare
from kdsr_tf.evaluation.evaluation_files import read_evaluation
from kdsr_tf.evaluation.significance import holm
from tests.evaluation.evaluations import CUTOFFS, NUM_ITEMS, test_points, write_evaluation

POINTS = test_points()
TOTAL = len(POINTS.user_ids)


def ranks(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 9]).integers(1, NUM_ITEMS + 1, TOTAL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plain run; a better one; two repeated ones with three seeds each."""
    root = tmp_path_factory.mktemp("runs")
    write_evaluation(f"{root}/plain/evaluation", POINTS, ranks(0))
    write_evaluation(
        f"{root}/better/evaluation",
        POINTS,
        np.maximum(ranks(0) // 2, 1),
        selection="test_oracle",
    )
    for seed in range(3):
        write_evaluation(f"{root}/a/runs/seed-{seed}/evaluation", POINTS, ranks(seed), seed=seed)
        better = np.maximum(ranks(10 + seed) // 2, 1)
        write_evaluation(f"{root}/b-seed-{seed}/evaluation", POINTS, better, seed=seed)
    for name in ("a", "b"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "seeds.json").write_text(json.dumps({"seeds": [0, 1, 2]}))
    return root


def rows(comparison, metric):
    return [row for row in comparison.rows if row.metric == metric]


def test_names_of_paths_leave_out_the_folders_that_all_share(folder):
    names = [arm.name for arm in find_arms([f"{folder}/plain", f"b={folder}/b", f"{folder}/a"])]
    assert names == ["plain", "b", "a"]
    (alone,) = find_arms([f"{folder}/plain"])
    assert alone.name == f"{folder}/plain"
    with pytest.raises(InputError, match="same name"):
        find_arms([f"{folder}/plain", f"{folder}/plain"])


def test_differences_are_those_of_the_points(folder):
    found = compare(find_arms([f"{folder}/plain", f"better={folder}/better"]))
    before, after = ranks(0) <= 5, np.maximum(ranks(0) // 2, 1) <= 5
    plain, better = rows(found, "hr_5")
    assert plain.value == pytest.approx(100 * before.mean())
    assert better.value == pytest.approx(100 * after.mean())
    assert better.difference.value == pytest.approx(100 * (after.mean() - before.mean()))
    low, high = better.difference.interval
    assert 0 < low < better.difference.value < high
    assert plain.difference is None and plain.seeds_interval is None
    assert better.difference.p_value < 0.01 and better.difference.seeds_p_value is None
    others = [row.difference for row in found.rows if row.difference]
    corrected = holm([difference.p_value for difference in others])
    assert [difference.p_holm for difference in others] == corrected
    assert (found.test_points, found.users) == (TOTAL, len(set(POINTS.user_ids)))


def test_pairing_makes_the_interval_of_a_difference_narrow(folder, tmp_path):
    """A run that is better by one hit: all users but one contribute exactly nothing."""
    one_better = ranks(0)
    one_better[np.argmax(one_better)] = 1
    write_evaluation(f"{tmp_path}/evaluation", POINTS, one_better)
    found = compare(find_arms([f"{folder}/plain", str(tmp_path)]), cutoffs=[1])
    difference = rows(found, "hr_1")[1].difference
    own_low, own_high = rows(found, "hr_1")[1].interval
    assert difference.value == pytest.approx(100 / TOTAL)
    assert difference.interval[1] - difference.interval[0] < 0.6 * (own_high - own_low)
    assert difference.p_value == 1


def test_seeds_are_averaged_and_tested_by_themselves(folder):
    found = compare(find_arms([f"a={folder}/a", f"b={folder}/b"]))
    a, b = rows(found, "hr_20")
    hits_a = [100 * np.mean(ranks(seed) <= 20) for seed in range(3)]
    hits_b = [100 * np.mean(np.maximum(ranks(10 + seed) // 2, 1) <= 20) for seed in range(3)]
    assert (a.value, b.value) == pytest.approx((np.mean(hits_a), np.mean(hits_b)))
    half = stats.t.ppf(0.975, 2) * np.std(hits_a, ddof=1) / np.sqrt(3)
    assert a.seeds_interval == pytest.approx((a.value - half, a.value + half))
    assert b.difference.seeds_test == "paired t"
    paired = stats.ttest_rel(hits_b, hits_a)
    assert b.difference.seeds_p_value == pytest.approx(paired.pvalue)
    assert b.difference.seeds_interval == pytest.approx(tuple(paired.confidence_interval()))
    assert b.difference.seeds_p_holm >= b.difference.seeds_p_value
    assert [run["seeds"] for run in found.runs] == [[0, 1, 2], [0, 1, 2]]
    found = compare(find_arms([f"a={folder}/a", f"b={folder}/b-seed-[01]*"]))
    welch = stats.ttest_ind(hits_b[:2], hits_a, equal_var=False)
    difference = rows(found, "hr_20")[1].difference
    assert difference.seeds_test == "Welch's t"
    assert difference.seeds_p_value == pytest.approx(welch.pvalue)
    assert difference.seeds_interval == pytest.approx(tuple(welch.confidence_interval()))


def test_one_arm_without_seeds_has_no_test_over_seeds(folder):
    found = compare(find_arms([f"{folder}/plain", f"{folder}/a/seeds.json"]))
    assert rows(found, "hr_5")[1].seeds_interval is not None
    assert rows(found, "hr_5")[1].difference.seeds_p_value is None


def test_a_slice_is_compared_alone(folder):
    arms = find_arms([f"{folder}/plain", f"{folder}/better"])
    found = compare(arms, where={"target_training": "cold"})
    cold = POINTS.targets < 5
    assert found.test_points == cold.sum()
    assert rows(found, "hr_20")[0].value == pytest.approx(100 * np.mean(ranks(0)[cold] <= 20))
    group = read_evaluation(f"{folder}/plain/evaluation").summary["slices"]["target_training"]
    assert rows(found, "hr_20")[0].value == pytest.approx(group["cold"]["metrics"]["hr_20"])
    with pytest.raises(InputError, match="Valid slices: target_popularity, target_training"):
        compare(arms, where={"target_weather": "cold"})
    with pytest.raises(InputError, match="Groups of target_training: cold, warm"):
        compare(arms, where={"target_training": "icy"})


def test_other_test_points_are_refused(folder, tmp_path):
    other = test_points(num_users=30)
    write_evaluation(
        f"{tmp_path}/split/evaluation",
        other,
        ranks(0)[: len(other.user_ids)],
        split="leave_last_out",
    )
    write_evaluation(f"{tmp_path}/filtered/evaluation", POINTS, ranks(0), filter_seen=True)
    with pytest.raises(InputError, match=r"same test points only.*split leave_last_out"):
        compare(find_arms([f"{folder}/plain", f"{tmp_path}/split"]))
    with pytest.raises(InputError, match="filter_seen=False and filter_seen=True"):
        compare(find_arms([f"{folder}/plain", f"{tmp_path}/filtered"]))


def test_runs_are_found_by_what_people_call_them(folder, tmp_path):
    def folders(path):
        (arm,) = find_arms([str(path)])
        return [one.directory.removeprefix(f"{folder}/") for one in arm.evaluations]

    assert folders(f"{folder}/plain/") == folders(f"{folder}/plain/evaluation")
    seeds = [f"a/runs/seed-{seed}/evaluation" for seed in range(3)]
    assert folders(f"{folder}/a") == folders(f"{folder}/a/runs/seed-*") == seeds
    assert folders(f"{folder}/b") == [f"b-seed-{seed}/evaluation" for seed in range(3)]
    with pytest.raises(MissingArtifactError, match="holds no evaluation"):
        find_arms([str(tmp_path)])
    with pytest.raises(MissingArtifactError, match="Nothing matches"):
        find_arms([f"{tmp_path}/seed-*"])
    with pytest.raises(InputError, match="same name"):
        find_arms([f"{folder}/plain", f"{folder}/plain/"])
    write_evaluation(f"{tmp_path}/evaluation", POINTS, ranks(0))
    (tmp_path / "seeds.json").write_text('{"seeds": [0]}')
    with pytest.raises(InputError, match="Say which"):
        find_arms([str(tmp_path)])


@pytest.mark.parametrize("style", ["--markdown", "--csv", "--json", None])
def test_every_output_holds_the_figures_and_flags_the_oracle(folder, capsys, style):
    from kdsr_tf.cli.main import main

    runs = [f"plain={folder}/plain", f"better={folder}/better"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *runs, "--k", "20", *([style] if style else [])])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    value = 100 * np.mean(ranks(0) <= 20)
    assert "test_oracle" in text
    if style == "--csv":
        plain, better = (r for r in csv.DictReader(io.StringIO(text)) if r["metric"] == "hr_20")
        assert float(plain["value"]) == pytest.approx(value)
        assert plain["difference"] == "" and float(better["difference"]) > 0
        assert float(better["difference_low"]) < float(better["difference_high"])
        assert (plain["selection"], better["selection"]) == ("validation", "test_oracle")
    elif style == "--json":
        found = json.loads(text)
        assert found["rows"][0]["value"] == pytest.approx(value)
        assert len(found["rows"]) == 6
    else:
        assert f"{value:.2f}" in text and "HR@20" in text and "HR@5" not in text
        if style == "--markdown":
            header, line = text.splitlines()[2:4]
            assert header.startswith("| metric | run | value |")
            assert header.count("|") == line.count("|")


def test_files_tell_how_the_epoch_was_selected(folder):
    for name, selection in (("plain", b"validation"), ("better", b"test_oracle")):
        users = read_evaluation(f"{folder}/{name}/evaluation").users()
        assert users.schema.metadata[b"selection"] == selection
    assert read_evaluation(f"{folder}/plain/evaluation").summary["cutoffs"] == CUTOFFS
