"""How fast does `encode` turn titles and pictures into vectors, and what bounds it?

    python -m benchmarks.encode_throughput --modality text --preset FOLDER [--source DIR]
    python -m benchmarks.encode_throughput --modality image --weights FILE [--source DIR]

Prints one JSON line. `items_per_second_beam` is the pipeline in this process, from the
catalogue's file to files of vectors; `items_per_second_bare` the same encoder with the
same model called in a plain loop. Both run `--repeats` times in turn, each round beside
a measurement of the machine's float32 matrix products (2048 x 2048, as many at once as it
takes to keep all processors busy), because the speed of a shared machine drifts; every
figure is a median and every ratio a median of the ratios of a round. `cpu_*` are the
same in seconds of processor time, which other processes disturb less. Graphs are built
before the clock starts. With `--set encode.text.states.groups=6` (or `image`) the loop runs
without states too, and `cpu_bare_over_bare_without_states` is what they cost.

`floor_items_per_second` is what the machine would reach if it did nothing but the
network's arithmetic at that rate:

* text: two operations per weight of every dense layer and real token, and
  `4 * width * length**2` per attention layer and text, without any padding;
* image: two operations per weight of every convolution and output position, and in
  addition the seconds that reading and decoding the same files takes alone.

Titles and pictures come from `--source`, a folder in the source format, or are drawn.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from beam_pipelines.encode import EncodeItems, Width
from beam_pipelines.handlers.choose_encoder import choose_encoder
from beam_pipelines.handlers.encoder import Encoder
from beam_pipelines.running import run_pipeline
from beam_pipelines.transforms.declarations import Declare, declare
from kdsr_tf import schema
from kdsr_tf.artifacts import versions
from kdsr_tf.config import Config, load_config
from kdsr_tf.sources import open_source
from kdsr_tf.sources.catalogue_rows import CatalogueRow

NUM_ITEMS = {"text": 2_000, "image": 500}
MATMUL_SIZE, MATMUL_CALLS = 2048, 8
PICTURE_SIZE = (320, 240)
WORDS = """
Organic Rose Water Facial Toner with Hyaluronic Acid and Vitamin C for Dry Sensitive Skin
Professional Ceramic Hair Straightener 1 Inch Black Matte Lipstick Long Lasting Waterproof
Moisturizing Hand Cream 2.5 Ounce Pack of 3 Anti Aging Night Serum Natural Bamboo Brush Set
"""


class Job(NamedTuple):
    """What both ways of encoding share."""

    config: Config
    encoder: Encoder
    declared: Declare
    contents: list[Any]
    vocabulary: str


def drawn_titles(num_items: int) -> Iterator[str]:
    """Titles of 4 to 20 words."""
    rng, words = np.random.default_rng(0), WORDS.split()
    for number in range(num_items):
        yield " ".join([*rng.choice(words, rng.integers(4, 21)), f"No {number}"])


def draw_picture(number: int, path: str) -> None:
    """A JPEG with shapes on a soft pattern."""
    rng = np.random.default_rng(number)
    pattern = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    image = pattern.resize(PICTURE_SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for left, top in rng.integers(0, 200, (8, 2)).tolist():
        colour = tuple(rng.integers(0, 256, 3).tolist())
        pen.ellipse((left, top, left + 60, top + 40), fill=colour)
    image.save(path, "JPEG", quality=88)


def real_values(folder: str, modality: str) -> Iterator[str]:
    """Titles, or paths of pictures, of a source; each content once."""
    source = open_source(load_config(overrides=[f"source.path={folder}"]).source)
    seen = set()
    for row in source.read_items():
        column = source.title_column if modality == "text" else source.image_column
        value = row.values.get(column) if isinstance(row, CatalogueRow) else None
        if isinstance(value, str) and value not in seen:
            seen.add(value)
            yield value if modality == "text" else source.image_path(value)


def write_source(folder: str, modality: str, num_items: int, real: str | None) -> int:
    """A source with one item per title or picture; returns how many there are."""
    os.makedirs(os.path.join(folder, "images"))
    values = real_values(real, modality) if real else drawn_titles(num_items)
    rows = []
    for number, value in zip(range(num_items), values, strict=False):
        row = {schema.ITEM_ID: f"item{number:06d}", "title": value}
        if modality == "image":
            row |= {"title": "", "image": f"images/{number}.jpg"}
            path = os.path.join(folder, row["image"])
            shutil.copyfile(value, path) if real else draw_picture(number, path)
        rows.append(row)
    with open(os.path.join(folder, "items.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    one = {schema.USER_ID: ["user"], schema.ITEM_ID: ["item000000"], "timestamp": [0]}
    pq.write_table(pa.table(one), os.path.join(folder, "interactions.parquet"))
    return len(rows)


def open_job(folder: str, modality: str, overrides: list[str], num_items: int) -> Job:
    """The encoder that the job would choose, and every content it will see."""
    config = load_config(overrides=[f"source.path={folder}", *overrides])
    source = open_source(config.source)
    declared = declare(config, modality, source)
    rows = [declared(row) for row in source.read_items()]
    vocabulary = os.path.join(folder, "vocabulary.parquet")
    columns = {
        schema.ITEM: pa.array(range(1, num_items + 1), pa.int32()),
        schema.ITEM_ID: [item_id for item_id, _ in rows],
    }
    pq.write_table(pa.table(columns), vocabulary)
    encoder = choose_encoder(config, modality, source)
    contents = [part.content for _, declaration in rows for part in declaration.parts]
    return Job(config, encoder, declared, contents, vocabulary)


def run_beam(job: Job) -> None:
    """The pipeline in this process."""
    num_items = len(job.contents)
    model = job.encoder.load_model()
    width = Width(job.encoder.size(model), job.encoder.states(model))
    with tempfile.TemporaryDirectory() as folder:
        transform = EncodeItems(job.vocabulary, job.declared, job.encoder, width, num_items, folder)
        counters = run_pipeline(lambda pipeline: pipeline | transform, title="encode")
    if counters["encoded"] != num_items:
        raise RuntimeError(f"{num_items} items were expected. Encoded: {counters['encoded']}.")


def run_bare(job: Job, model: Any = None) -> None:
    """The same encoder in a plain loop over groups of the same size."""
    model = model or job.encoder.load_model()
    step = job.encoder.group_size
    for start in range(0, len(job.contents), step):
        group = job.contents[start : start + step]
        job.encoder.encode([job.encoder.prepare(content) for content in group], model)


class Seconds(NamedTuple):
    """How long something took: by the clock, and of all the process's threads together."""

    wall: float
    cpu: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


def seconds_of(function: Any, *arguments: Any) -> Seconds:
    """Seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


@functools.cache
def _products() -> tuple[Any, int]:
    """A function of matrix products that keep all processors busy, and how many there are."""
    import tensorflow as tf

    from benchmarks.floor import products_at_once

    number = products_at_once()
    shape = (MATMUL_SIZE, MATMUL_SIZE)
    squares = [tf.random.stateless_normal(shape, (0, seed)) for seed in range(number)]
    products = tf.function(lambda: [tf.matmul(square, square) for square in squares])
    products()
    return products, number


def _multiply(rounds: int) -> None:
    products, _ = _products()
    for _ in range(rounds):
        for product in products():
            product.numpy()


def matmul(operations: float) -> Seconds:
    """Seconds of this many operations at the measured rate of float32 matrix products."""
    _, number = _products()
    rounds = -(-MATMUL_CALLS // number)
    share = operations / (2 * MATMUL_SIZE**3 * rounds * number)
    measured = seconds_of(_multiply, rounds)
    return Seconds(measured.wall * share, measured.cpu * share)


def layers_of(model: Any) -> Iterator[Any]:
    """Every layer below a model, the innermost ones included."""
    seen = set()
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def text_operations(network: Any, lengths: np.ndarray) -> float:
    """Operations of the matrix products for texts of these numbers of tokens."""
    import keras

    per_token = per_square = 0
    for layer in layers_of(network):
        if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
            per_token += 2 * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.MultiHeadAttention):
            per_square += 4 * layer.num_heads * layer.key_dim
    # The pooler on the first token of a BERT serves no embedder.
    per_token -= _pooler_operations(network)
    lengths = lengths.astype(np.float64)
    return float(per_token * lengths.sum() + per_square * np.square(lengths).sum())


def _pooler_operations(network: Any) -> int:
    poolers = [layer for layer in layers_of(network) if layer.name == "pooled_dense"]
    return sum(2 * int(np.prod(layer.kernel.shape)) for layer in poolers)


def image_operations(network: Any) -> float:
    """Operations of the convolutions of one picture."""
    import keras

    convolutions = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return float(
        sum(
            2 * int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
            for layer in layers_of(network)
            if isinstance(layer, convolutions)
        )
    )


def decode(job: Job) -> None:
    """Reading and decoding alone."""
    for content in job.contents:
        job.encoder.prepare(content)


def measure(job: Job, modality: str, repeats: int) -> dict[str, Any]:
    """Rounds of matrix products, bare and Beam in turn; medians over the rounds."""
    plain = _without_states(job)
    plain_model = plain.encoder.load_model() if plain is not None else None
    model = job.encoder.load_model()
    num_items = len(job.contents)
    sizes: dict[str, float] = {"items": num_items}
    if modality == "text":
        lengths = model.tokenize(job.contents)["padding_mask"].astype(bool).sum(axis=1)
        operations = text_operations(model.network, lengths)
        sizes["tokens"] = int(lengths.sum())
    else:
        operations = image_operations(model.network) * num_items
    sizes["gflop_per_item"] = operations / num_items / 1e9
    sizes["first_seconds"] = seconds_of(run_bare, job).wall
    run_beam(job)
    if plain is not None:
        run_bare(plain, plain_model)
    rounds = []
    for _ in range(repeats):
        before = matmul(operations / 2)
        bare, beam = seconds_of(run_bare, job), seconds_of(run_beam, job)
        # Half of the rate from each side: the machine's speed may have changed.
        floor = before + matmul(operations / 2)
        found = {"matmul_gflops": operations / floor.wall / 1e9}
        if plain is not None:
            without = seconds_of(run_bare, plain, plain_model)
            found["cpu_bare_over_bare_without_states"] = bare.cpu / without.cpu
        if modality == "image":
            decoding = seconds_of(decode, job)
            found["decode_seconds"] = decoding.wall
            floor += decoding
        rounds.append(
            {
                "items_per_second_beam": num_items / beam.wall,
                "items_per_second_bare": num_items / bare.wall,
                "floor_items_per_second": num_items / floor.wall,
                "beam_over_bare": bare.wall / beam.wall,
                "bare_over_floor": floor.wall / bare.wall,
                "cpu_seconds_beam": beam.cpu,
                "cpu_seconds_bare": bare.cpu,
                "cpu_beam_over_bare": bare.cpu / beam.cpu,
                "cpu_bare_over_floor": floor.cpu / bare.cpu,
            }
            | found
        )
    medians = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
    return {key: _rounded(value) for key, value in (medians | sizes).items()}


def _without_states(job: Job) -> Job | None:
    """The same job for vectors only, if it is one for states too."""
    if job.encoder.chosen is None:
        return None
    encoder = copy.copy(job.encoder)
    encoder.chosen = None
    return job._replace(encoder=encoder)


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.4g}")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modality", choices=sorted(NUM_ITEMS), required=True)
    parser.add_argument("--preset", help="text: Keras Hub preset name or folder")
    parser.add_argument("--weights", help="image: weights file of the network without its top")
    parser.add_argument("--model", default="MobileNetV2", help="image: in keras.applications")
    parser.add_argument("--arguments", default="{alpha: 0.35}", help="image: of that class")
    parser.add_argument("--source", help="folder in the source format; drawn without")
    parser.add_argument("--items", type=int, help="2,000 titles or 500 pictures by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    # Beam warns that its memory metrics need a package of no use here.
    logging.disable(logging.WARNING)
    modality = arguments.modality
    needed = "preset" if modality == "text" else "weights"
    if getattr(arguments, needed) is None:
        parser.error(f"--modality {modality} needs --{needed}")
    if modality == "text":
        overrides = ["encode.text.encoder=keras_hub", f"encode.text.preset={arguments.preset}"]
    else:
        overrides = [
            "encode.image.encoder=keras_applications",
            f"encode.image.weights={arguments.weights}",
            f"encode.image.model={arguments.model}",
            f"encode.image.arguments={arguments.arguments}",
        ]
    num_items = arguments.items or NUM_ITEMS[modality]
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source")
        num_items = write_source(source, modality, num_items, arguments.source)
        job = open_job(source, modality, [*overrides, *arguments.set], num_items)
        result = measure(job, modality, arguments.repeats)
    print(
        json.dumps(
            {
                "modality": modality,
                "encoder": job.encoder.name,
                "source": "real" if arguments.source else "drawn",
                "repeats": arguments.repeats,
                "cores": os.cpu_count(),
                **result,
                "versions": versions(),
            }
        )
    )


if __name__ == "__main__":
    main()
