"""A training step of four ways to adapt a text encoder, in turns.

    python -m benchmarks.side_step --preset FOLDER [--titles items.jsonl] [--steps 20]

The arms, on one batch, with one sequence model (SASRec) and one loss (in-batch, corrected for
popularity); they differ only in how the vector of an item is computed:

- `cached`: a side network over states that were computed before;
- `uncached`: the same network, the frozen encoder computes its states in the step;
- `adapter`: an adapter behind every block of the frozen encoder, whose gradient passes through
  the encoder;
- `full`: every weight of the encoder learns.

Prints a line per arm on stderr and one JSON line: per arm the medians of `seconds` and
`cpu_seconds` a step, `peak_mb` (memory of a process of its own, over that of one that has only
imported everything), `trainable` parameters and `tpme`; and `uncached_over_cached`,
`adapter_over_cached` and `full_over_cached`, ratios of processor time.

TPME (IISAN, section 4): time, parameters and memory, each scaled to 0..1 over the arms, weighted
0.45, 0.1 and 0.45. It depends on which arms are compared; the figures it is made of come first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from beam_pipelines.handlers.hidden_states import last_of_groups
from beam_pipelines.handlers.keras_models import import_keras_hub
from beam_pipelines.handlers.text_networks import load_text_network
from benchmarks.processes import alone, peak_rss_bytes
from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.items.computed_items import ComputedItems
from kdsr_tf.items.content import Content, ContentSpec
from kdsr_tf.items.side_items import SideItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.side_adapter import SideAdapter
from kdsr_tf.layers.side_network import SideNetwork
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.in_batch_next_item import InBatchNextItem
from kdsr_tf.schema import ITEMS, TARGET, present_key, states_key
from kdsr_tf.scoring.sum_scorer import SumScorer

ARMS = ("cached", "uncached", "adapter", "full")
_TEXT, _TOKENS, _MASK, _SEGMENTS = "text", "token_ids", "padding_mask", "segment_ids"
_LENGTH, _DIM, _GROUPS, _WARM_UP, _ROWS = 10, 64, 6, 3, 256
_SHARES = {"cpu_seconds": 0.45, "trainable": 0.1, "peak_mb": 0.45}
_WORDS = 400


class Encoder(keras.layers.Layer):
    """A text encoder, level by level.

    Args:
        backbone: Keras Hub backbone with blocks that are called `transformer_layer_i`.
        adapters: Whether an adapter follows every block.
    """

    def __init__(self, backbone: keras.Model, adapters: bool = False, **kwargs):
        super().__init__(**kwargs)
        first = backbone.get_layer("transformer_layer_0")
        states, _ = first.input
        self.embeddings = keras.Model(
            {name: backbone.input[name] for name in (_TOKENS, _SEGMENTS)}, states
        )
        self.blocks = [
            backbone.get_layer(f"transformer_layer_{i}") for i in range(backbone.num_layers)
        ]
        width = backbone.hidden_dim
        self.adapters = [SideAdapter(seed=i) for i in range(len(self.blocks))] if adapters else []
        for adapter in self.adapters:
            adapter.build((None, None, width))
        self.width = width
        self.built = True

    def call(self, tokens, mask, training=None) -> list:
        """Mean over real tokens of the states of each level, `(batch, width)` each."""
        inputs = {_TOKENS: tokens, _SEGMENTS: ops.zeros_like(tokens)}
        states = self.embeddings(inputs, training=training)
        levels = [states]
        for place, block in enumerate(self.blocks):
            states = block(states, padding_mask=mask, training=training)
            if self.adapters:
                states = self.adapters[place](states)
            levels.append(states)
        weights = ops.cast(mask, states.dtype)[..., None]
        real = ops.maximum(ops.sum(weights, axis=1), 1)
        return [ops.sum(weights * level, axis=1) / real for level in levels]


class TextItems(ComputedItems):
    """Items whose tokens an encoder reads in the step.

    Args:
        num_items: Items.
        width: Tokens of an item.
        encoder: The encoder.
        network: Side network over the states of its chosen levels; None for a linear map of
            the last one.
    """

    sources = (SideNetwork.ITEM,)

    def __init__(
        self, num_items: int, width: int, encoder: Encoder, network: SideNetwork | None = None
    ):
        super().__init__()
        self.num_items, self.width, self.encoder, self.network = num_items, width, encoder, network
        self.dense = None if network else keras.layers.Dense(_DIM)

    def build(self, input_shape=None) -> None:
        if self.network:
            self.network.build()
        else:
            self.dense.build((None, self.encoder.width))
        self.built = True

    def content_spec(self) -> dict[str, ContentSpec]:
        return {name: ContentSpec((self.width,), "int32") for name in (_TOKENS, _MASK)}

    def call(self, items, content, training=None):
        learns = bool(self.encoder.trainable_variables)
        levels = self.encoder(content[_TOKENS], content[_MASK], training=training and learns)
        if self.network is None:
            return {ITEMS: items, SideNetwork.ITEM: self.dense(levels[-1])}
        states = ops.concatenate([levels[level] for level in kept_levels(self.encoder)], axis=-1)
        present = ops.ones_like(items, dtype="bool")
        found = self.network({_TEXT: states}, {_TEXT: present}, training=training)
        return {ITEMS: items, SideNetwork.ITEM: found[SideNetwork.ITEM]}


def kept_levels(encoder: Encoder) -> list[int]:
    """Levels that the side network reads: the embeddings, and the last block of each group."""
    last = len(encoder.blocks)
    return [0, *last_of_groups(last, min(_GROUPS, last))]


def made_up_titles(count: int, rng: np.random.Generator) -> list[str]:
    """Titles of 4 to 16 made-up words."""
    words = ["".join(rng.choice(list("aeionrstlc"), size)) for size in rng.integers(3, 9, _WORDS)]
    return [" ".join(rng.choice(words, size)) for size in rng.integers(4, 17, count)]


def read_titles(path: str | None, count: int) -> list[str]:
    """Titles of the items."""
    if path is None:
        return made_up_titles(count, np.random.default_rng(0))
    with open(path, encoding="utf-8") as lines:
        titles = [json.loads(line).get("title") or "" for line in lines]
    return (titles * (count // len(titles) + 1))[:count]


def make_windows(num_items: int, windows: int) -> np.ndarray:
    """Windows that hold every item at least once, ints `(windows, _LENGTH + 1)`."""
    rng = np.random.default_rng(0)
    slots = windows * (_LENGTH + 1)
    if num_items > slots:
        raise SystemExit(f"{windows} windows have {slots} slots. Received: {num_items} items.")
    items = np.arange(slots) % num_items + 1
    return rng.permutation(items).reshape(windows, _LENGTH + 1).astype(np.int32)


def make_arm(arm: str, arguments: argparse.Namespace) -> tuple[TrainingModel, dict]:
    """A compiled model of an arm and its batch."""
    if arm == "cached":
        states, sizes = alone(states_of, arguments)
        items: ComputedItems = SideItems(arguments.items, SideNetwork(_DIM, {_TEXT: sizes}))
        present = np.ones(len(states), bool)
        content = Content({states_key(_TEXT): states, present_key(_TEXT): present})
    else:
        encoder, tokens = load(arguments, adapters=arm == "adapter", frozen=arm != "full")
        sizes = [encoder.width] * len(kept_levels(encoder))
        network = SideNetwork(_DIM, {_TEXT: sizes}) if arm == "uncached" else None
        items = TextItems(arguments.items, tokens[_TOKENS].shape[1], encoder, network)
        content = Content({name: tokens[name] for name in (_TOKENS, _MASK)})
    recommender = Recommender(
        items,
        SASRec(_DIM, _LENGTH),
        PredictionHead(_DIM),
        SumScorer(_DIM, items.sources),
        _LENGTH,
    )
    objective = InBatchNextItem(arguments.items)
    model = TrainingModel(recommender, [objective])
    model.compile(optimizer=keras.optimizers.Adam(1e-4))
    windows = make_windows(arguments.items, arguments.windows)
    objective.set_popularity(np.bincount(windows.ravel(), minlength=arguments.items + 1))
    batch = {ITEMS: windows[:, :-1], TARGET: windows[:, 1:]}
    return model, batch | content.of_batch(batch[ITEMS], batch[TARGET])


def load(
    arguments: argparse.Namespace, adapters: bool, frozen: bool
) -> tuple[Encoder, dict[str, np.ndarray]]:
    """The encoder and the tokens of all items; row 0 is an empty text."""
    loaded = load_text_network(arguments.preset, "auto", arguments.tokens)
    tokens = loaded.tokenize(["", *read_titles(arguments.titles, arguments.items)])
    backbone = import_keras_hub().models.Backbone.from_preset(arguments.preset)
    encoder = Encoder(backbone, adapters)
    for part in (encoder.embeddings, *encoder.blocks):
        part.trainable = not frozen
    return encoder, tokens


def states_of(arguments: argparse.Namespace) -> tuple[np.ndarray, list[int]]:
    """The states of all items, as `kdsr encode` would have left them, and their widths."""
    encoder, tokens = load(arguments, adapters=False, frozen=True)
    kept, rows = kept_levels(encoder), []
    for start in range(0, len(tokens[_TOKENS]), _ROWS):
        part = slice(start, start + _ROWS)
        levels = encoder(tokens[_TOKENS][part], tokens[_MASK][part], training=False)
        rows.append(np.concatenate([levels[level] for level in kept], axis=1))
    return np.concatenate(rows).astype("float16"), [encoder.width] * len(kept)


def measure(arms: Sequence[str], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians per arm over steps taken in turns, the first ones not counted."""
    made = {arm: make_arm(arm, arguments) for arm in arms}
    taken: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for _ in range(arguments.steps + _WARM_UP):
        for arm, (model, batch) in made.items():
            started = time.perf_counter(), time.process_time()
            model.train_on_batch(batch)
            ended = time.perf_counter(), time.process_time()
            taken[arm].append((ended[0] - started[0], ended[1] - started[1]))
    found = {}
    for arm, (model, _) in made.items():
        seconds, cpu_seconds = np.median(taken[arm][_WARM_UP:], axis=0)
        trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        found[arm] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "trainable": trainable}
    return found


def peak_mb(arm: str | None, arguments: argparse.Namespace) -> float:
    """Peak memory of a process that takes a few steps of an arm; None is one that takes none."""
    if arm is not None:
        model, batch = make_arm(arm, arguments)
        for _ in range(_WARM_UP):
            model.train_on_batch(batch)
    return peak_rss_bytes() / 2**20


def add_tpme(found: dict[str, dict[str, float]]) -> None:
    """Time, parameters and memory in one number per arm; lower is better."""
    for values in found.values():
        values["tpme"] = 0.0
    for key, share in _SHARES.items():
        low, high = (f(values[key] for values in found.values()) for f in (min, max))
        for values in found.values():
            values["tpme"] += share * (values[key] - low) / max(high - low, 1e-12)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", required=True, help="as of `encode.text.preset`, a BERT")
    parser.add_argument("--titles", help="items.jsonl with `title`; made up without it")
    parser.add_argument("--items", type=int, default=440, help="distinct items of the batch")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=30, help="most tokens of a title")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    idle = alone(peak_mb, None, arguments)
    peaks = {arm: alone(peak_mb, arm, arguments) - idle for arm in ARMS}
    found = measure(ARMS, arguments)
    for arm, values in found.items():
        values["peak_mb"] = peaks[arm]
    add_tpme(found)
    cached = found["cached"]["cpu_seconds"]
    ratios = {f"{arm}_over_cached": found[arm]["cpu_seconds"] / cached for arm in ARMS[1:]}
    for arm, values in found.items():
        print(arm, {key: round(value, 4) for key, value in values.items()}, file=sys.stderr)
    print(json.dumps({"arms": found, **ratios}, default=float))


if __name__ == "__main__":
    main()
