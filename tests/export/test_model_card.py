import pytest

from kdsr_tf.artifacts import Manifest
from kdsr_tf.export.model_card import model_card


def manifest(counts=None, **details):
    return Manifest(
        artifact="any", fingerprint="f", config={}, counts=counts or {}, details=details
    )


@pytest.mark.parametrize("selection", ["validation", "test_oracle"])
def test_what_a_reader_must_know(selection):
    card = model_card(
        model_name="shop",
        variant="exact",
        manifest=manifest(
            {"version": 3, "k": 5, "items": 1200, "allowed_items": 1190},
            deny_items={"ids": 11, "unknown": 1},
            added_items={"items": 7, "known_already": 2, "without_vectors": 4},
        ),
        inputs={
            "sequences": manifest({"train_points": 70, "test_points": 9}),
            "student": manifest(selection=selection),
        },
        evaluation=manifest(metrics={"hr_5": 12.5}, selection=selection),
        gate=["loads in a fresh process"],
    )
    assert card.startswith("# shop, version 3 (exact)\n")
    assert '"hr_5": 12.5' in card
    # Figures of an oracle are called by their name.
    assert ("flatter" in card) == (selection == "test_oracle")
    assert "1,200 items are known, 1,190 may be recommended" in card
    assert "`export.deny_items`: 11 ids, of which 1 unknown" in card
    # Train points with their validation points are told from those without.
    assert "9 test points, 70 train points (validation points included)" in card
    assert "On all test points, accuracy in %" in card
    assert "7 items added without training" in card
