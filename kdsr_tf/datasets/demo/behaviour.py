"""The customers of the demo boutique: a habit, a taste and a calendar.

Two forces move a customer. A *habit* runs through shapes (a suit, then a shirt,
then a tie); it shows in the order of clicks. A *taste* stays with a colour and
a pattern; it shows in pictures and words. Popularity follows a power law, so
that most products are seen too rarely for their ids alone to be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdsr_tf.datasets.demo.products import COLOURS, PATTERNS, SHAPES, Product

YEAR_START = 1_704_067_200
"""2024-01-01 00:00 UTC, in seconds."""

YEAR_SECONDS = 366 * 86_400

_POPULARITY_EXPONENT = 0.4
_HABIT = 3.0
_KEEP_COLOUR = 2.7
_FAVOURITE_COLOUR = 1.6
_FAVOURITE_PATTERN = 0.8
_REPEAT = -2.5
_MEAN_EXTRA_ITEMS = 1.0
_MAX_ITEMS = 60


def make_histories(
    products: Sequence[Product], num_users: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Let customers shop for a year.

    The next product is drawn with probability proportional to
    popularity · exp(habit + colour + pattern + repeat), where each term is a
    constant when the product has the property and 0 otherwise.

    Returns:
        Per user, product indices and unix seconds (int64, increasing), at least 5 of them.
    """
    rng = np.random.default_rng([seed, 2])
    shape, colour, pattern = _attributes(products)
    log_popularity = -_POPULARITY_EXPONENT * np.log(1 + rng.permutation(len(products)))
    histories = []
    for _ in range(num_users):
        length = min(5 + rng.geometric(1 / (1 + _MEAN_EXTRA_ITEMS)) - 1, _MAX_ITEMS)
        taste = log_popularity + _FAVOURITE_PATTERN * (pattern == rng.integers(len(PATTERNS)))
        taste = taste + _FAVOURITE_COLOUR * (colour == rng.integers(len(COLOURS)))
        items = np.zeros(length, np.int64)
        for step in range(length):
            utility = taste.copy()
            if step:
                last = items[step - 1]
                utility += _HABIT * (shape == (shape[last] + 1) % len(SHAPES))
                utility += _KEEP_COLOUR * (colour == colour[last])
                utility[items[:step]] += _REPEAT
            items[step] = np.argmax(utility + rng.gumbel(size=len(products)))
        histories.append((items, _timestamps(rng, length)))
    return histories


def _attributes(products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    colours, patterns = list(COLOURS), list(PATTERNS)
    return (
        np.array([SHAPES.index(product.shape) for product in products]),
        np.array([colours.index(product.colour) for product in products]),
        np.array([patterns.index(product.pattern) for product in products]),
    )


def _timestamps(rng: np.random.Generator, length: int) -> np.ndarray:
    """Visits days or weeks apart, mostly in the evening; clicks of a visit minutes apart."""
    new_visit = rng.random(length) < 0.6
    new_visit[0] = True
    days = np.where(new_visit, rng.lognormal(2.0, 1.0, length), 0.0)
    days[0] = 0.0
    days = np.floor(np.cumsum(days))
    room = YEAR_SECONDS // 86_400 - 1
    if days[-1] > 0.9 * room:
        days = np.floor(days * 0.9 * room / days[-1])
    days += np.floor(rng.beta(1.6, 1.2) * (room - days[-1]))
    hour = np.clip(rng.normal(19.0, 3.0, length), 6.0, 22.5)
    visit = np.cumsum(new_visit) - 1
    starts = days * 86_400 + hour[np.flatnonzero(new_visit)[visit]] * 3600
    within = np.cumsum(rng.uniform(20.0, 240.0, length))
    first = np.flatnonzero(new_visit)[visit]
    seconds = np.floor(starts + within - within[first]).astype(np.int64)
    # Two visits may fall on one day: keep the order of the clicks strict.
    seconds = np.maximum.accumulate(seconds - np.arange(length)) + np.arange(length)
    return YEAR_START + seconds
