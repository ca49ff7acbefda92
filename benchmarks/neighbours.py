"""How well do plain counts and plain text recommend, without any training?

    python -m benchmarks.neighbours --workdir DIR [--split test] [--held-out 0]

A learnt model should be judged beside what is nearly free. Prints one JSON line with
HR@k and MRR@k in % of four references under the protocol of `kdsr evaluate`, on the
windows of a prepared and distilled working directory; `cold_` is for targets with fewer
than `evaluate.cold_below` train interactions:

- `popularity`: train interactions of an item;
- `transitions`: how often an item came after another one in the train part of a sequence,
  up to five steps later, each step weighted by its inverse distance, over the
  occurrences of the earlier item (a Markov chain with skips);
- `MODALITY`: cosine of the encoder's vectors;
- `transitions + MODALITY`: their sum, the modality with the weight, of 0.01, 0.03, 0.1
  and 0.3, that has the best HR@20 on validation.

A history is its last ten items with weights 1, 1/2, 1/4, ... from the last one back, for
modalities its last item alone. `--held-out 1` does not count the last train interaction of
a user, which a student selected on validation has not learnt from either.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from kdsr_tf import artifacts, sequences, stages
from kdsr_tf.config import Config, load_config
from kdsr_tf.console import progress
from kdsr_tf.evaluation import rank_metrics
from kdsr_tf.evaluation.evaluation_inputs import read_catalogue, read_features, read_windows
from kdsr_tf.evaluation.ranker import exclude, parts, popularity_ranks

STEPS = 5
SMOOTHING = 5.0
DECAY = 0.5
RECENT = 10
WEIGHTS = (0.01, 0.03, 0.1, 0.3)
ROWS = 1024

Histories = Sequence[np.ndarray]
Scorer = Callable[[Histories], np.ndarray]


def transitions(config: Config, num_items: int, held_out: int) -> scipy.sparse.csr_array:
    """Weighted counts `(items + 1, items + 1)` of train transitions, by row over its item.

    Args:
        config: The configuration.
        num_items: Items of the vocabulary.
        held_out: Last train items of every user that are left out.
    """
    earlier, later, weights = [], [], []
    counts = np.zeros(num_items + 1)
    for user in sequences.read_users(stages.location(config, "sequences")):
        items = user.items[: max(0, user.num_train - held_out)]
        np.add.at(counts, items, 1)
        for step in range(1, STEPS + 1):
            earlier.append(items[:-step])
            later.append(items[step:])
            weights.append(np.full(max(0, len(items) - step), 1 / step))
    places = (np.concatenate(earlier), np.concatenate(later))
    shape = (num_items + 1, num_items + 1)
    found = scipy.sparse.csr_array((np.concatenate(weights), places), shape=shape)
    return scipy.sparse.diags_array(1 / (counts + SMOOTHING)) @ found


def by_transitions(table: scipy.sparse.csr_array) -> Scorer:
    """Scores of all items by their transitions from the items of a history."""

    def score(histories: Histories) -> np.ndarray:
        histories = [history[-RECENT:] for history in histories]
        rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        weights = [DECAY ** np.arange(len(history))[::-1] for history in histories]
        places = (rows, np.concatenate(histories))
        shape = (len(histories), table.shape[0])
        return (scipy.sparse.csr_array((np.concatenate(weights), places), shape) @ table).toarray()

    return score


def by_modality(vectors: np.ndarray) -> Scorer:
    """Scores of all items by their cosine with the last item of a history."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)

    def score(histories: Histories) -> np.ndarray:
        return unit[[history[-1] for history in histories]] @ unit.T

    return score


class Points(NamedTuple):
    """What is ranked: the last target of every window of a split.

    Args:
        split: Its name.
        histories: Items of each window.
        targets: Items `(points,)`.
    """

    split: str
    histories: list[np.ndarray]
    targets: np.ndarray


def read_points(config: Config, split: str) -> Points:
    """All points of a split."""
    histories, targets = [], []
    for batch in read_windows(stages.location(config, stages.windows_of(config)), split, ROWS):
        histories += batch.items
        targets += [row[-1] for row in batch.targets]
    return Points(split, histories, np.array(targets, np.int64))


def ranks(points: Points, score: Scorer, name: str, filter_seen: bool) -> np.ndarray:
    """Pessimistic ranks of the targets."""
    found = []
    with progress(f"{points.split}: {name}", total=len(points.targets)) as bar:
        for part in parts(len(points.targets), ROWS):
            histories = points.histories[part]
            scores = score(histories)
            if filter_seen:
                exclude(scores, histories)
            scores[:, 0] = -np.inf
            found.append(rank_metrics.pessimistic_ranks(scores, points.targets[part]))
            bar.advance(len(scores))
    return np.concatenate(found)


def described(found: np.ndarray, cold: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """HR and MRR in %, of all points and of the cold ones."""
    return {
        f"{prefix}{name}_{k}": round(
            100 * float(rank_metrics.ACCURACY[name](ranks_of, k).mean()), 2
        )
        for prefix, ranks_of in (("", found), ("cold_", found[cold]))
        for name in ("hr", "mrr")
        for k in cutoffs
    }


def measure(config: Config, split: str, held_out: int) -> dict[str, Any]:
    """The numbers of the module's docstring."""
    catalogue, filter_seen = read_catalogue(config), config.evaluate.filter_seen
    points, judging = read_points(config, split), read_points(config, "validation")
    counted = by_transitions(transitions(config, len(catalogue), held_out))
    judged = by_transitions(transitions(config, len(catalogue), 1))
    scorers = {"transitions": counted}
    chosen = {}
    for modality in config.modalities:
        location = stages.location(config, f"features/{modality}")
        size = artifacts.read_manifest(location, written_by="encode").details["size"]
        alike = by_modality(read_features(config, modality, size)[0])
        scorers[modality] = alike

        def mixed(plain: Scorer, weight: float, alike: Scorer = alike) -> Scorer:
            return lambda histories: plain(histories) + weight * alike(histories)

        name = f"transitions + {modality}"
        quality = [
            (ranks(judging, mixed(judged, w), f"{name} * {w}", filter_seen) <= 20).mean()
            for w in WEIGHTS
        ]
        chosen[modality] = WEIGHTS[int(np.argmax(quality))]
        scorers[name] = mixed(counted, chosen[modality])
    seen = points.histories if filter_seen else None
    found = {"popularity": popularity_ranks(catalogue.train_counts, points.targets, seen)}
    found |= {name: ranks(points, score, name, filter_seen) for name, score in scorers.items()}
    cold = catalogue.train_counts[points.targets] < config.evaluate.cold_below
    return {
        **{name: described(r, cold, config.evaluate.cutoffs) for name, r in found.items()},
        "weights": chosen,
        "points": len(points.targets),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="with prepared, encoded, distilled data")
    parser.add_argument("--config", help="default: config.yaml of the working directory")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--held-out", type=int, help="default: 1 for validation, else 0")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    path = arguments.config or os.path.join(arguments.workdir, "config.yaml")
    config = load_config(path, arguments.set, workdir=arguments.workdir)
    held_out = arguments.held_out
    if held_out is None:
        held_out = int(arguments.split == "validation")
    result = measure(config, arguments.split, held_out)
    settings = {"split": arguments.split, "held_out": held_out}
    settings |= {"filter_seen": config.evaluate.filter_seen}
    print(json.dumps({**result, **settings, "versions": artifacts.versions()}))


if __name__ == "__main__":
    main()
