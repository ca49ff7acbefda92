import numpy as np
import pytest

from kdsr_tf.cores import OTHERS, core_sizes, cores_table, cores_warning


def _peeled(edges, k):
    """The k-core, by taking away what is too small until nothing is."""
    while True:
        users, items = ([edge[end] for edge in edges] for end in (0, 1))
        left = [e for e in edges if users.count(e[0]) >= k and items.count(e[1]) >= k]
        if len(left) == len(edges):
            return left
        edges = left


@pytest.mark.parametrize("chosen", [0, 3, 4])
def test_sizes_are_those_of_every_core(chosen):
    rng = np.random.default_rng(0)
    edges = [(int(u), int(i)) for u, i in zip(rng.zipf(1.4, 400), rng.zipf(1.3, 400), strict=True)]
    edges = [(u, i) for u, i in edges if u < 40 and i < 30]
    sizes = core_sizes(*np.array(edges).T, chosen)
    assert [size["k"] for size in sizes] == sorted({*OTHERS, max(chosen, 1)})
    for size in sizes:
        left = _peeled(edges, size["k"])
        assert size["interactions"] == len(left)
        assert size["users"] == len({user for user, _ in left})
        assert size["items"] == len({item for _, item in left})
    assert sizes[0]["interactions"] == len(edges) > sizes[-1]["interactions"] > 0


def _sizes(*rows):
    return [dict(zip(("k", "users", "items", "interactions"), row, strict=True)) for row in rows]


SIZES = _sizes((1, 100, 50, 1000), (2, 80, 40, 900), (3, 60, 24, 700), (5, 50, 5, 320))


@pytest.mark.parametrize("chosen", [3, 5])
def test_a_core_under_half_of_anything_is_warned_of_with_the_largest_that_is_not(chosen):
    said = cores_warning(SIZES, chosen)
    kept = {
        3: "60.0% of the users, 48.0% of the items",
        5: "50.0% of the users, 10.0% of the items",
    }
    assert said.startswith(f"prepare.k_core={chosen} keeps only {kept[chosen]}")
    assert "prepare.k_core=2 would keep 80.0% of the users, 80.0% of the items, 90.0% of" in said
    assert said.endswith("--set prepare.k_core=2.")


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_half_and_more_is_no_reason_to_warn(chosen):
    assert cores_warning(SIZES, chosen) is None
    assert cores_warning(_sizes((1, 100, 50, 1000), (2, 50, 25, 500)), 2) is None


def test_of_nothing_nothing_is_said():
    assert cores_warning([], 5) is None
    assert core_sizes(*np.zeros((2, 0), int), 2)[0] == _sizes((1, 0, 0, 0))[0]
    assert cores_table([], 5).row_count == 0
