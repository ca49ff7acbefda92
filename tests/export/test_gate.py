"""The gate passes a good model and names what is wrong with a bad one."""

from __future__ import annotations

import os

import numpy as np
import pytest

from kdsr_tf.export import gate
from tests.export import oracle


@pytest.fixture(scope="module")
def sample():
    histories = oracle.histories()
    ids = np.array(oracle.ITEM_IDS, object)
    scores = np.stack([oracle.scores(history) for history in histories])
    unseen = scores.copy()
    for row, history in enumerate(histories):
        unseen[row, oracle.indices(history) - 1] = -np.inf
    return gate.Sample(
        k=oracle.K,
        recall_floor=0.99,
        histories=histories,
        item_ids=oracle.ITEM_IDS,
        unseen=gate.rank(unseen, ids, oracle.K),
        with_seen=gate.rank(scores, ids, oracle.K),
        popular=gate.rank(oracle.popularity()[np.newaxis], ids, oracle.K),
    )


def test_a_good_model_passes(models, sample):
    checks = gate.judge(f"{models}/good", sample)
    assert len(checks) > 20
    assert all(check.passed for check in checks)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("swapped_ids", "exact: serving_default: wrong scores"),
        ("other_vocabulary", "exact: serving_default: wrong scores"),
        ("nan", "exact: finite scores of known items"),
        ("shuffled_index", "scann: serving_default: recall@20"),
    ],
)
def test_a_fault_is_found(models, sample, fault, named):
    failed = [check.name for check in gate.judge(f"{models}/{fault}", sample) if not check.passed]
    assert any(name.startswith(named) for name in failed), failed


@pytest.mark.slow
def test_a_folder_that_cannot_be_loaded_fails(tmp_path, sample):
    os.makedirs(tmp_path / "exact")
    with pytest.raises(gate.GateError, match="could not be loaded"):
        gate.run(str(tmp_path), sample)
