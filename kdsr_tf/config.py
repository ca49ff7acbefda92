"""The typed configuration: one section per stage, one default per key.

A configuration is read from YAML, overridden by `a.b=value` assignments and
validated here. Layers and losses take plain arguments and never see it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import fsspec
import pydantic
import yaml

from kdsr_tf.errors import ConfigError
from kdsr_tf.schema import MODALITIES

PositiveInt = Annotated[int, pydantic.Field(gt=0)]
PositiveFloat = Annotated[float, pydantic.Field(gt=0)]
NonNegativeInt = Annotated[int, pydantic.Field(ge=0)]
NonNegativeFloat = Annotated[float, pydantic.Field(ge=0)]
Fraction = Annotated[float, pydantic.Field(ge=0, lt=1)]
Correlation = Literal["cosine", "dot", "euclidean", "manhattan"]


def _written_as_off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


ModalityTables = Annotated[
    Literal["off", "frozen", "tuned"], pydantic.BeforeValidator(_written_as_off)
]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", validate_assignment=True, strict=False)


class TfdsConfig(_Section):
    """What to read of a TFDS dataset (`source.path: tfds:NAME`).

    Args:
        data_dir: Folder of prepared TFDS datasets; None is TFDS's own default.
        split: Split that holds the interactions.
        items: Dataset of the catalogue, such as `movielens/1m-movies`; None takes
            the distinct items of the interactions.
        items_split: Split that holds the catalogue.
    """

    data_dir: str | None = None
    split: str = "train"
    items: str | None = None
    items_split: str = "train"


class SourceConfig(_Section):
    """Where the interactions and the catalogue are.

    Args:
        path: Folder or URI that holds `interactions.*` and `items.*`, or
            `tfds:NAME`: a prepared TFDS dataset's name, or its folder.
        title_column: Catalogue column shown to people.
        image_column: Catalogue column with the path of the picture, relative to
            the folder.
        columns: Own column names by the expected ones, such as
            `{user_id: reviewerID, item_id: asin}`; other catalogue columns can be
            renamed too. A file without the own name keeps the expected one.
        tfds: Further settings of `tfds:` paths.
    """

    path: str | None = None
    title_column: str = "title"
    image_column: str = "image"
    columns: dict[str, str] = {}
    tfds: TfdsConfig = TfdsConfig()


class PrepareConfig(_Section):
    """Filtering and splitting of the interactions.

    Args:
        k_core: Least number of interactions of a kept user and item; 0 keeps all.
        split: `ratio` (per user, the paper's), `leave_last_out` or `global_time`.
        test_fraction: Share of a user's (`ratio`) or of all (`global_time`)
            interactions that become test points.
        pair_sample_size: Item pairs of train sequences kept for the teacher.
        num_shards: Output files; None chooses from the data size, never from
            the number of workers.
        max_rejected_fraction: Share of rejected rows above which the job fails.
    """

    k_core: NonNegativeInt = 5
    split: Literal["ratio", "leave_last_out", "global_time"] = "ratio"
    test_fraction: Fraction = 0.2
    pair_sample_size: PositiveInt = 200_000
    num_shards: PositiveInt | None = None
    max_rejected_fraction: Fraction = 0.05


class TextEncoderConfig(_Section):
    """How the text of an item becomes a vector.

    Args:
        encoder: `embedded` (hashed character n-grams, nothing to download),
            `keras_hub` (a preset name or folder) or `precomputed`.
        template: Joins catalogue columns, such as `"{title}. {genres}"`.
        preset: Keras Hub preset name or local folder (`keras_hub`).
        pooling: How token states become one vector (`keras_hub` backbones).
        max_tokens: Longest token sequence.
        column: Catalogue column with the vector (`precomputed`).
        dim: Vector size of the `embedded` encoder.
        batch_size: Items per encoder call.
    """

    encoder: Literal["embedded", "keras_hub", "precomputed"] = "embedded"
    template: str = "{title}"
    preset: str | None = None
    pooling: Literal["mean", "cls", "last"] = "mean"
    max_tokens: PositiveInt = 256
    column: str = "text_vector"
    dim: PositiveInt = 256
    batch_size: PositiveInt = 64


class ImageEncoderConfig(_Section):
    """How the picture of an item becomes a vector.

    Args:
        encoder: `embedded` (colour and edge statistics, nothing to download),
            `keras_applications`, `keras_hub` or `precomputed`.
        model: Class name in `keras.applications`.
        arguments: Further arguments of that class, such as `{alpha: 0.35}`.
        weights: Weights file of the `keras_applications` model.
        preset: Keras Hub preset name or local folder (`keras_hub`).
        image_size: Side of the square picture the encoder sees, in pixels.
        max_pixels: Pictures with more pixels are rejected before decoding.
        column: Catalogue column with the vector (`precomputed`).
        batch_size: Items per encoder call.
    """

    encoder: Literal["embedded", "keras_applications", "keras_hub", "precomputed"] = "embedded"
    model: str = "MobileNetV2"
    arguments: dict[str, Any] = {}
    weights: str | None = None
    preset: str | None = None
    image_size: PositiveInt = 224
    max_pixels: PositiveInt = 50_000_000
    column: str = "image_vector"
    batch_size: PositiveInt = 32


class EncodeConfig(_Section):
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


class TeachConfig(_Section):
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
        learning_rate: Of the sigmoid autoencoder.
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


class WindowsConfig(_Section):
    """Windows of at most `max_length` inputs.

    Args:
        max_length: Most items of a window and of a history.
        stride: Step between the windows of a long sequence; a train target has
            its loss in the earliest window where at least `max_length - stride`
            items (or all there are) precede it.
        num_shards: Files per split; None chooses from the data size.
    """

    max_length: PositiveInt = 50
    stride: PositiveInt = 25
    num_shards: PositiveInt | None = None


class DistillConfig(_Section):
    """How `distill` works; nothing here changes a byte of what it writes.

    Args:
        vectors_on_disk_limit_bytes: Most bytes of condensed vectors, of all
            modalities together, that a worker's disk holds and maps. Larger ones
            reach each shard through a join by item.
    """

    vectors_on_disk_limit_bytes: NonNegativeInt = 10_000_000_000


class ModelConfig(_Section):
    """The student.

    Args:
        backbone: Key of `kdsr_tf.backbones.BACKBONES`.
        dim: Size d of every embedding.
        num_layers: Blocks of the backbone.
        num_heads: Attention heads.
        dropout: Share of units dropped.
        modality_tables: `off`, `frozen` or `tuned`.
        initial_std: Standard deviation the modality tables start with; None
            keeps the teacher's.
        pooling: `eq6` (long- and short-term head), `last_sum` or `last`.
        short_term: Items q of the short-term part of the head.
        options: Further arguments of the backbone.
    """

    backbone: str = "sasrec"
    dim: PositiveInt = 128
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 2
    dropout: Fraction = 0.2
    modality_tables: ModalityTables = "tuned"
    initial_std: PositiveFloat | None = None
    pooling: Literal["eq6", "last_sum", "last"] = "eq6"
    short_term: PositiveInt = 2
    options: dict[str, Any] = {}


class DistillationConfig(_Section):
    """What the student learns from the teacher.

    Args:
        enabled: Whether there is a teacher at all.
        score_loss: `paper` (Eq. 3) or `frobenius` (published code).
        match: `soft`, or `hard` (no temperature, no sigmoid).
        temperature: τ.
        score_weight: λ1, for every modality.
        code_weight: λ2, for every modality.
        weights: Overrides per term, such as `{image_score: 0.1}`.
        pairs_per_window: Pairs drawn per window and step; None takes all. The
            drawn mean is an unbiased estimate of the mean over all.
        force: Allow distillation into frozen tables.
    """

    enabled: bool = True
    score_loss: Literal["paper", "frobenius"] = "paper"
    match: Literal["soft", "hard"] = "soft"
    temperature: PositiveFloat = 1.5
    score_weight: NonNegativeFloat = 1.0
    code_weight: NonNegativeFloat = 0.5
    weights: dict[str, NonNegativeFloat] = {}
    pairs_per_window: PositiveInt | None = None
    force: bool = False


class TrainConfig(_Section):
    """Fitting the student.

    Args:
        epochs: Most passes over the train windows.
        batch_size: Windows per step.
        learning_rate: ε.
        slow_start_epochs: η; modality tables go from `slow_start_factor`·ε to ε
            over so many epochs, linearly per step. 0 switches it off.
        slow_start_factor: First learning rate of the modality tables over ε.
        weight_decay: Decoupled weight decay.
        clip_norm: Largest gradient norm per group of variables; None is no limit.
        patience: Epochs without a better validation metric before stopping.
        monitor: Validation metric that selects the epoch.
        refit: Train again on train and validation for the chosen epochs.
        checkpoint_steps: Steps between checkpoints; None saves once per epoch.
        jit_compile: XLA.
        deterministic: Bit-identical runs on one machine.
    """

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 1e-3
    slow_start_epochs: NonNegativeInt = 10
    slow_start_factor: PositiveFloat = 0.1
    weight_decay: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    patience: PositiveInt = 5
    monitor: Literal["val_hr_5", "val_hr_20", "val_mrr_5", "val_mrr_20"] = "val_hr_20"
    refit: bool = False
    checkpoint_steps: PositiveInt | None = None
    jit_compile: bool = False
    deterministic: bool = False


class EvaluateConfig(_Section):
    """Full ranking on the test points.

    Args:
        cutoffs: Values of k.
        filter_seen: Remove items of the history from the ranking.
        batch_size: Test points per call.
    """

    cutoffs: Annotated[list[PositiveInt], pydantic.Field(min_length=1)] = [5, 20]
    filter_seen: bool = False
    batch_size: PositiveInt = 512


class ExportConfig(_Section):
    """The SavedModel and its index.

    Args:
        k: Items per answer, fixed in the graph.
        max_exclusions: Most items of a history the index overfetches for.
        num_leaves: Partitions of the ScaNN index; None chooses from the
            catalogue's size.
        num_leaves_to_search: Partitions searched per query; None chooses.
        num_reordering_candidates: Candidates rescored exactly; None chooses.
        similar_items_space: Vectors behind `similar_items`.
        recall_floor: Least recall@k of the index against exact search.
        keep_versions: Versions kept on disk.
    """

    k: PositiveInt = 100
    max_exclusions: NonNegativeInt = 200
    num_leaves: PositiveInt | None = None
    num_leaves_to_search: PositiveInt | None = None
    num_reordering_candidates: PositiveInt | None = None
    similar_items_space: Literal["fused", "image", "text", "id"] = "fused"
    recall_floor: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.99
    keep_versions: PositiveInt = 3


class ServeConfig(_Section):
    """The local server.

    Args:
        model_name: Name clients ask for.
        variant: `scann`, or `exact` (stock TensorFlow operations only).
        host: Interface to listen on.
        grpc_port: Port of gRPC; 0 chooses a free one.
        target: Address `kdsr query` connects to; None is this host and port.
        deadline_seconds: Longest wait of a client for an answer.
    """

    model_name: str = "kdsr"
    variant: Literal["scann", "exact"] = "scann"
    host: str = "127.0.0.1"
    grpc_port: Annotated[int, pydantic.Field(ge=0, le=65535)] = 8500
    target: str | None = None
    deadline_seconds: PositiveFloat = 5.0


class Config(_Section):
    """The whole configuration.

    Args:
        workdir: Folder or URI that receives every artifact.
        seed: Seed of everything random.
    """

    workdir: Annotated[str, pydantic.Field(min_length=1)] = "work"
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31)] = 0
    source: SourceConfig = SourceConfig()
    prepare: PrepareConfig = PrepareConfig()
    encode: EncodeConfig = EncodeConfig()
    teach: TeachConfig = TeachConfig()
    windows: WindowsConfig = WindowsConfig()
    distill: DistillConfig = DistillConfig()
    model: ModelConfig = ModelConfig()
    distillation: DistillationConfig = DistillationConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder, in the order of `MODALITIES`."""
        return tuple(name for name in MODALITIES if getattr(self.encode, name) is not None)

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Config:
        if self.model.dim % self.teach.num_domains:
            raise ValueError(
                "`teach.num_domains` must divide `model.dim`. Received: "
                f"teach.num_domains={self.teach.num_domains}, model.dim={self.model.dim}."
            )
        if self.windows.stride > self.windows.max_length:
            raise ValueError(
                "`windows.stride` must be at most `windows.max_length`. Received: "
                f"windows.stride={self.windows.stride}, "
                f"windows.max_length={self.windows.max_length}."
            )
        if self.distillation.enabled and self.modalities:
            if self.model.modality_tables == "off":
                raise ValueError(
                    "Distillation needs modality tables. Received: "
                    "distillation.enabled=true with model.modality_tables=off. "
                    "Set model.modality_tables=tuned or distillation.enabled=false."
                )
            if self.model.modality_tables == "frozen" and not self.distillation.force:
                raise ValueError(
                    "Distillation cannot move frozen modality tables. Received: "
                    "distillation.enabled=true with model.modality_tables=frozen. "
                    "Set model.modality_tables=tuned, or distillation.force=true."
                )
        terms = [f"{m}_{kind}" for m in self.modalities for kind in ("score", "code")]
        for term in self.distillation.weights:
            if term not in terms:
                raise ValueError(
                    f"`distillation.weights` has no term `{term}`. Valid terms: "
                    f"{', '.join(terms) or 'none (no modality has an encoder)'}."
                )
        return self


def load_config(
    path: str | None = None,
    overrides: Iterable[str] = (),
    workdir: str | None = None,
) -> Config:
    """Read and validate a configuration.

    Args:
        path: YAML file or URI; None starts from the defaults.
        overrides: Assignments `a.b=value`; the value is read as YAML.
        workdir: Replaces `workdir`.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: for a missing file, an unknown key (the nearest valid ones
            are listed), a wrong type or values that exclude each other.

    Example:
        >>> load_config(overrides=["train.epochs=3"]).train.epochs
        3
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_yaml(path)
    for assignment in overrides:
        _assign(values, assignment)
    if workdir is not None:
        values["workdir"] = workdir
    _check_keys(values, Config, ())
    try:
        return Config.model_validate(values)
    except pydantic.ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def dump_config(config: Config) -> str:
    """The configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def select(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """The values of dotted keys, as plain data for manifests and fingerprints."""
    values = config.model_dump(mode="json")
    selected = {}
    for key in keys:
        value: Any = values
        for part in key.split("."):
            value = value[part]
        selected[key] = value
    return selected


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with fsspec.open(path, "r") as file:
            values = yaml.safe_load(file)
    except FileNotFoundError:
        raise ConfigError(f"The configuration file {path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must hold keys and values. Received: {type(values).__name__}.")
    return dict(values)


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"`--set` takes KEY=VALUE. Received: {assignment!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, last = key.strip().split(".")
    section: Any = values
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    section[last] = value


def _check_keys(values: Mapping[str, Any], section: type, path: tuple[str, ...]) -> None:
    fields = section.model_fields
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=3, cutoff=0.4) or list(fields)
            valid = ", ".join(".".join((*path, name)) for name in near)
            name = ".".join((*path, str(key)))
            raise ConfigError(f"Unknown configuration key `{name}`. Did you mean: {valid}?")
        nested = _section_of(fields[key].annotation)
        if nested is not None and isinstance(value, Mapping):
            _check_keys(value, nested, (*path, key))


def _section_of(annotation: Any) -> type | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, _Section):
            return candidate
    return None


def _describe(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not name:
        return message
    return f"`{name}`: {message}. Received: {problem['input']!r}."
