"""Sections of the stages from the source to the records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from kdsr_tf.config.section import (
    Fraction,
    NonNegativeInt,
    PathText,
    PositiveFloat,
    PositiveInt,
    Section,
)
from kdsr_tf.rules import MAX_PIXELS, Correlation, Precision

TokenLimit = Annotated[int, pydantic.Field(ge=3)]


class TfdsConfig(Section):
    """What to read of a TFDS dataset (`source.path: tfds:NAME`).

    Args:
        data_dir: Folder of prepared TFDS datasets; None is TFDS's own default.
        split: Split that holds the interactions.
        items: Dataset of the catalogue, such as `movielens/1m-movies`; None takes
            the distinct items of the interactions.
        items_split: Split that holds the catalogue.
    """

    data_dir: PathText | None = None
    split: str = "train"
    items: PathText | None = None
    items_split: str = "train"


class SourceConfig(Section):
    """Where the interactions and the catalogue are.

    Args:
        path: Folder or URI that holds `interactions.*` and `items.*`, or
            `tfds:NAME`: a prepared TFDS dataset's name, or its folder.
        title_column: Catalogue column shown to people.
        image_column: Catalogue column with the path of the picture, relative to
            the folder.
        image_folders: Further folders and URIs, such as `https://cdn.example/shop`,
            below which a catalogue may name pictures by their whole path. All
            others are refused.
        columns: Own column names by the expected ones, such as
            `{user_id: reviewerID, item_id: asin}`; other catalogue columns can be
            renamed too. A file without the own name keeps the expected one.
        tfds: Further settings of `tfds:` paths.
    """

    path: PathText | None = None
    title_column: str = "title"
    image_column: str = "image"
    image_folders: list[PathText] = pydantic.Field(default_factory=list)
    columns: dict[str, str] = pydantic.Field(default_factory=dict)
    tfds: TfdsConfig = TfdsConfig()


class PrepareConfig(Section):
    """Filtering and splitting of the interactions.

    Args:
        k_core: Least number of interactions of a kept user and item; 0 keeps all.
        split: `ratio` (per user, the paper's), `leave_last_out` or `global_time`.
        test_fraction: Share of a user's (`ratio`) or of all (`global_time`)
            interactions that become test points.
        pair_sample_size: Item pairs of train sequences kept for the teacher.
        num_shards: Files of users, and so files per split of the windows that
            `distill` cuts; None chooses from the data size, never from the number
            of workers.
        max_rejected_fraction: Share of rejected rows above which the job fails.
    """

    k_core: NonNegativeInt = 5
    split: Literal["ratio", "leave_last_out", "global_time"] = "ratio"
    test_fraction: Fraction = 0.2
    pair_sample_size: PositiveInt = 200_000
    num_shards: PositiveInt | None = None
    max_rejected_fraction: Fraction = 0.05


class StatesConfig(Section):
    """Which hidden states of an encoder are kept beside its vectors, one pooled vector each.

    Level 0 is what enters the first layer, level k what leaves layer k; the last one includes
    the encoder's final normalisation.

    Args:
        groups: Number K of equal groups of layers, each of which keeps its last layer; level 0
            is kept too.
        layers: Levels to keep instead, rising, such as `[0, 6, 12]`.
        pooling: `mean` over real tokens or positions, or `cls`, the class token. At level 0
            the class token is the same for every item.
        dtype: Precision of the files.
    """

    groups: PositiveInt = 6
    layers: Annotated[list[NonNegativeInt], pydantic.Field(min_length=1)] | None = None
    pooling: Literal["mean", "cls"] = "mean"
    dtype: Literal["float16", "float32"] = "float16"

    @pydantic.field_validator("layers")
    @classmethod
    def _rise(cls, layers: list[int] | None) -> list[int] | None:
        if layers is not None and layers != sorted(set(layers)):
            raise ValueError(f"levels must rise, such as {sorted(set(layers))}")
        return layers


class TextEncoderConfig(Section):
    """How the text of an item becomes a vector.

    Args:
        encoder: `embedded` (hashed character n-grams, nothing to download),
            `keras_hub` (a preset name or folder), `precomputed` or `custom`.
        template: Joins catalogue columns, such as `"{title}. {genres}"`.
        preset: Keras Hub preset name or local folder (`keras_hub`).
        pooling: How token states become one vector (`keras_hub`): `auto` is the
            preset's own way, else `last` for causal backbones and `mean` for others.
        max_tokens: Longest token sequence, of which the start and end tokens take up to two.
        column: Catalogue column with the vector (`precomputed`).
        dim: Vector size of the `embedded` encoder.
        class_name: Dotted path of a `TextEncoder` of one's own (`custom`).
        arguments: Arguments of that class, beside `batch_size`.
        batch_size: Work of one encoder call; with `keras_hub`, in texts of 16 tokens:
            64 is a call of 1,024 tokens, in many short texts or few long ones.
            An accelerator is busier with more.
        precision: Precision of the arithmetic (`keras_hub`): `mixed_float16` or `mixed_bfloat16`
            for workers with an accelerator. It is never chosen by itself: the
            vectors must not depend on the machine that made them.
        states: Hidden states to keep beside the vectors; None keeps none.
    """

    encoder: Literal["embedded", "keras_hub", "precomputed", "custom"] = "embedded"
    template: str = "{title}"
    preset: PathText | None = None
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    max_tokens: TokenLimit = 256
    column: str = "text_vector"
    dim: PositiveInt = 256
    class_name: str | None = None
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    batch_size: PositiveInt = 64
    precision: Precision = "float32"
    states: StatesConfig | None = None


class ImageEncoderConfig(Section):
    """How the picture of an item becomes a vector.

    Args:
        encoder: `embedded` (colour and edge statistics, nothing to download),
            `keras_applications`, `keras_hub`, `precomputed` or `custom`.
        model: Class name in `keras.applications`.
        arguments: Further arguments of that class, such as `{alpha: 0.35}`, or of
            the `custom` one, beside `image_size`, `max_pixels` and `batch_size`.
        weights: Weights file of the `keras_applications` model.
        preset: Keras Hub preset name or local folder (`keras_hub`).
        pooling: How the backbone's states become one vector (`keras_hub`): `auto` is
            the model's own way; `mean` over positions; `cls`, the class token.
        class_name: Dotted path of an `ImageEncoder` of one's own (`custom`).
        image_size: Side of the square picture the encoder sees, in pixels.
        max_pixels: Pictures with more pixels are rejected before decoding.
        column: Catalogue column with the vector (`precomputed`).
        batch_size: Most pictures per encoder call; on two processors or fewer without a GPU the
            Keras encoders take eight at most.
        precision: Precision of the arithmetic (`keras_applications`, `keras_hub`), as for texts.
        states: Hidden states to keep beside the vectors, as for texts.
    """

    encoder: Literal["embedded", "keras_applications", "keras_hub", "precomputed", "custom"] = (
        "embedded"
    )
    model: str = "MobileNetV2"
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    weights: PathText | None = None
    preset: PathText | None = None
    pooling: Literal["auto", "mean", "cls"] = "auto"
    class_name: str | None = None
    image_size: PositiveInt = 224
    max_pixels: PositiveInt = MAX_PIXELS
    column: str = "image_vector"
    batch_size: PositiveInt = 32
    precision: Precision = "float32"
    states: StatesConfig | None = None


class EncodeConfig(Section):
    """Encoders per modality; a modality without a section is not used.

    Args:
        image: Image encoder, or None.
        text: Text encoder, or None.
        max_rejected_fraction: Share of items, among those that declare the
            modality, whose rejection fails the job.
    """

    image: ImageEncoderConfig | None = None
    text: TextEncoderConfig | None = None
    max_rejected_fraction: Fraction = 0.05


class TeachConfig(Section):
    """The teacher: condensed vectors, scores and codes.

    Args:
        correlation: The function ξ.
        num_domains: Sub-vectors D of a correlation vector; divides `model.dim`.
        num_codes: Codewords x.
        codebook: `kmeans`, or `vq` (EMA with restarts).
        autoencoder: `linear`, solved exactly in one pass, or `sigmoid`
            (published code), fitted with Keras.
        epochs: Passes over the features to fit the sigmoid autoencoder.
        batch_size: Items per step of the sigmoid autoencoder.
        learning_rate: Learning rate of the sigmoid autoencoder.
        scale: `std` divides unbounded correlations by their standard deviation
            over the pair sample; `none` is the paper.
    """

    correlation: Correlation = "cosine"
    num_domains: PositiveInt = 8
    num_codes: PositiveInt = 100
    codebook: Literal["kmeans", "vq"] = "kmeans"
    autoencoder: Literal["linear", "sigmoid"] = "linear"
    epochs: PositiveInt = 50
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 1e-3
    scale: Literal["std", "none"] = "std"


class WindowsConfig(Section):
    """Windows of at most `max_length` inputs.

    Args:
        max_length: Most items of a window and of a history.
        stride: Step between the windows of a long sequence; a train target has
            its loss in the earliest window where at least `max_length - stride`
            items (or all there are) precede it.
    """

    max_length: PositiveInt = 50
    stride: PositiveInt = 25


class DistillConfig(Section):
    """How `distill` works; nothing here changes a byte of what it writes.

    Args:
        vectors_on_disk_limit_bytes: Most bytes of condensed vectors, of all
            modalities together, that a worker's disk holds and maps. Larger ones
            reach each shard through a join by item.
    """

    vectors_on_disk_limit_bytes: NonNegativeInt = 10_000_000_000
