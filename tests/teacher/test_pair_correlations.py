import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from kdsr_tf.rules import Correlation
from kdsr_tf.schema import pair_positions
from kdsr_tf.teacher import pair_correlations
from tests.nearness import assert_near


@pytest.mark.parametrize("kind", get_args(Correlation))
def test_window_correlations_equal_the_pairwise_functions(kind):
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(3, 7, 12)).astype(np.float32)
    windows[0, 2] = 0
    windows[1, 4] = windows[1, 0]
    scores, profiles = pair_correlations.window_correlations(windows, 4, kind)
    i, j = pair_positions(7)
    first, second = windows[:, i], windows[:, j]
    assert scores.shape == (3, 21) and profiles.shape == (3, 21, 4)
    assert_near(scores, pair_correlations.correlation(first, second, kind))
    np.testing.assert_allclose(
        profiles, pair_correlations.correlation_vectors(first, second, 4, kind), atol=1e-5
    )


def test_domains_must_divide_the_size():
    with pytest.raises(ValueError, match="num_domains=5, size=12"):
        pair_correlations.correlation_vectors(np.ones(12), np.ones(12), 5)


def test_workers_import_it_without_keras_and_tensorflow():
    code = (
        "import sys, beam_pipelines.distill, kdsr_tf.teacher.pair_correlations;"
        "print([name for name in ('keras', 'tensorflow', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
