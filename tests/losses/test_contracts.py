"""Every exported loss, run through the harness."""

from __future__ import annotations

import numpy as np
import pytest

from kdsr_tf.losses.code_loss import CodeLoss
from kdsr_tf.losses.next_item_loss import NextItemLoss
from kdsr_tf.losses.score_loss import ScoreLoss
from tests.harness import check_loss

RNG = np.random.default_rng(0)
SCORES = RNG.uniform(-1, 1, (2, 3)).astype("float32")
VALID = np.array([[1, 1, 0], [0, 1, 0]], "float32")
PREDICTED = RNG.uniform(-1, 1, (2, 3)).astype("float32")
CODES = np.array([[0, 3, 1], [2, 2, 0]], "int32")
LOGITS = RNG.normal(size=(2, 3, 4)).astype("float32")


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred"),
    [
        (ScoreLoss(), (SCORES, VALID), PREDICTED),
        (ScoreLoss("frobenius"), (SCORES, VALID), PREDICTED),
        (ScoreLoss(match="hard", temperature=2.0), (SCORES, VALID), PREDICTED),
        (CodeLoss(), (CODES, VALID), LOGITS),
        (NextItemLoss(), np.array([[1, 4, 0], [2, 0, 0]], "int32"), LOGITS),
    ],
    ids=["paper", "frobenius", "hard", "code", "next item"],
)
def test_contract(loss, y_true, y_pred):
    check_loss(loss, y_true, y_pred)
