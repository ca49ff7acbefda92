import numpy as np

from kdsr_tf.evaluation.summary import head_items, slice_points


def names(one):
    return [one.groups[code] for code in one.codes]


def test_every_point_is_in_one_group_of_every_slice():
    counts = np.array([0, 100, 50, 5, 4, 0])
    targets, positions = np.array([1, 2, 3, 4, 5]), np.array([1, 4, 5, 49, 50])
    image = np.array([False, True, False, True, True, True])
    slices = slice_points(targets, positions, counts, {"image": image}, 0.2, cold_below=5)
    assert {title: names(one) for title, one in slices.items()} == {
        "target_popularity": ["head", "tail", "tail", "tail", "tail"],
        "target_training": ["warm", "warm", "warm", "cold", "cold"],
        "target_image": ["present", "absent", "present", "present", "present"],
        "history_length": ["1-4", "1-4", "5-9", "20-49", "50+"],
    }


def test_head_keeps_ties_and_leaves_out_what_was_never_seen():
    assert head_items(np.array([0, 3, 3, 3, 1, 0]), 0.2).tolist() == [
        False,
        *[True] * 3,
        *[False] * 2,
    ]
    assert head_items(np.array([0, 2, 0, 0]), 0.9).tolist() == [False, True, False, False]
    assert not head_items(np.array([0, 2, 1]), 0.0).any()
