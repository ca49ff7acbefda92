"""What `prepare` refuses, and what it says of what is left."""

from __future__ import annotations

import json

import pytest

from beam_pipelines.prepare import prepare
from kdsr_tf import stages
from kdsr_tf.artifacts import exists
from kdsr_tf.config import load_config
from kdsr_tf.errors import InputError

RATIO, LAST, TIME = (f"prepare.split={s}" for s in ("ratio", "leave_last_out", "global_time"))
MOST = "prepare.test_fraction=0.9"
START = 1_500_000_000


def _config(folder, lengths, *overrides, every=1000):
    """A source whose user k has `lengths[k]` interactions, a number of seconds apart."""
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{(user + k) % 7}", "timestamp": START + k * every}
        for user, length in enumerate(lengths)
        for k in range(length)
    ]
    source = folder / "source"
    source.mkdir()
    items = [{"item_id": f"i{k}", "title": f"Item {k}"} for k in range(7)]
    for name, lines in (("interactions", rows), ("items", items)):
        (source / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    overrides = ("prepare.k_core=0", f"source.path={source}", *overrides)
    return load_config(overrides=overrides, workdir=str(folder / "work"))


@pytest.mark.parametrize(
    ("lengths", "options", "every", "words"),
    [
        ([1] * 12, (), 1000, "at most 1 per user"),
        ([1] * 12, (LAST,), 1000, "at most 1 per user, divided by prepare.split=leave_last_out. "),
        ([1] * 12, (TIME,), 1000, "source.columns"),
        ([2] * 12, (LAST,), 1000, "24 interactions.*at most 2 per user.*Use prepare.split=ratio"),
        ([2, 1, 2], (LAST,), 1000, "3 users with 5 interactions"),
        ([4] * 12, (MOST,), 1000, "prepare.test_fraction=0.9. Lower prepare.test_fraction"),
        ([6] * 12, (TIME, MOST), 1000, "at most 6 per user, divided by prepare.split=global_time"),
        # Everything happens at one moment, so that all of it is test.
        ([5] * 12, (TIME,), 0, "no user has two train interactions"),
        ([2] * 12, (LAST, "prepare.k_core=2"), 1000, r"\(prepare.k_core=2\), at most 2 per user"),
    ],
)
def test_nothing_to_learn_from_is_one_message(tmp_path, lengths, options, every, words):
    config = _config(tmp_path, lengths, *options, every=every)
    with pytest.raises(InputError, match=f"There is nothing to learn from in .*source: .*{words}"):
        prepare(config)
    assert not exists(stages.location(config, "sequences"))


def test_nothing_left_names_the_largest_core_that_leaves_something(tmp_path):
    config = _config(tmp_path, [3] * 7, "prepare.k_core=9")
    words = r"left with prepare.k_core=9, so there is nothing to learn.*--set prepare.k_core=3\."
    with pytest.raises(InputError, match=words):
        prepare(config)


@pytest.mark.parametrize(
    ("lengths", "options", "said"),
    [
        ([3] * 6, (), ["no test point"]),
        ([2] * 6, (), ["no validation point: the student of the last epoch", "no test point"]),
        ([3] * 6, (LAST,), ["no validation point"]),
        ([8] * 6, ("prepare.test_fraction=0",), ["no test point"]),
        ([8] * 6, (), []),
        # Here the epoch is not selected on validation points.
        ([3] * 6, (LAST, "train.selection=test_oracle"), []),
    ],
)
def test_what_later_stages_will_lack_is_said_first(tmp_path, capfd, lengths, options, said):
    prepare(_config(tmp_path, lengths, *options))
    words = " ".join(capfd.readouterr().err.split())
    for lack in ("no validation point", "no test point"):
        assert (lack in words) == any(lack in one for one in said)
    assert all(one in words for one in said)


def test_what_the_core_keeps_is_counted_shown_and_warned_of(tmp_path, capfd):
    config = _config(tmp_path, [8] * 3 + [1] * 9, "prepare.k_core=3")
    counts = prepare(config).counts
    with open(f"{stages.location(config, 'sequences')}/statistics.json") as file:
        statistics = json.load(file)
    sizes = {size["k"]: size for size in statistics["cores"]}
    assert sizes[1] == {"k": 1, "users": 12, "items": 7, "interactions": 33}
    assert sizes[3] == {
        "k": 3,
        **{kind: counts[kind] for kind in ("users", "items", "interactions")},
    }
    assert counts["users"] == 3 and statistics["counts"] == counts
    words = " ".join(capfd.readouterr().err.split())
    assert "3 (chosen) 3 (25.0%) 7 (100.0%) 24 (72.7%)" in words
    assert "Warning: prepare.k_core=3 keeps only 25.0% of the users" in words
    assert "prepare.k_core=1 would keep 100.0%" in words
