"""Sections of training and evaluation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from kdsr_tf.config.methods import NEEDS
from kdsr_tf.config.section import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    Seed,
)
from kdsr_tf.rules import Precision
from kdsr_tf.schema import SelectionMetric


def _written_as_off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


ModalityTables = Annotated[
    Literal["off", "frozen", "tuned"], pydantic.BeforeValidator(_written_as_off)
]


class ModelConfig(Section):
    """The student.

    Args:
        method: Parts that the student is made of, and what it learns (docs/methods.md).
        backbone: Key of `kdsr_tf.BACKBONES`, or the dotted path of a class of
            one's own (docs/backbones.md).
        dim: Size d of every embedding.
        num_layers: Blocks of the backbone.
        num_heads: Attention heads; where there are any, a divisor of `dim`.
        dropout: Share of units dropped.
        modality_tables: `off`, `frozen` or `tuned`.
        initial_std: Standard deviation the modality tables start with; None
            keeps the teacher's.
        pooling: `eq6` (long- and short-term head), `last_sum` or `last`.
        short_term: Items q of the short-term part of the head.
        tied: Whether items enter the backbone by the id table that scores them.
        output: What the head's result is compared with: `ids`, the id table (the paper), or
            `fused`, which adds each modality's table times a learnt matrix. Without
            modality tables they are the same.
        logit_scale: None scores items by a product (the paper), a number by their cosine
            times it, which keeps frequent items from winning only by their length.
        last_item: Whether the last item adds a term of its own to the head's result, in
            the space in which items are scored: what looks and reads like it comes first,
            until training knows better. Needs `output: fused`.
        options: Further arguments of the backbone.
    """

    method: str = "kdsr"
    backbone: str = "sasrec"
    dim: PositiveInt = 128
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 2
    dropout: Fraction = 0.2
    modality_tables: ModalityTables = "tuned"
    initial_std: PositiveFloat | None = None
    pooling: Literal["eq6", "last_sum", "last"] = "eq6"
    short_term: PositiveInt = 2
    tied: bool = True
    output: Literal["ids", "fused"] = "ids"
    logit_scale: PositiveFloat | None = None
    last_item: bool = False
    options: dict[str, Any] = pydantic.Field(default_factory=dict)

    @pydantic.field_validator("method")
    @classmethod
    def _known(cls, method: str) -> str:
        if method not in NEEDS:
            raise ValueError(f"must be one of {', '.join(NEEDS)}")
        return method


class AnnealConfig(Section):
    """How distillation fades.

    Args:
        epochs: Epochs over which the weights change linearly, per step.
        final: Share of every weight that is left then.
    """

    epochs: PositiveInt
    final: NonNegativeFloat = 0.1


class DistillationConfig(Section):
    """What the student learns from the teacher.

    Args:
        enabled: Whether the student learns the teacher's pairs. Modality tables start from the
            teacher in any case.
        score_loss: `paper` (Eq. 3) or `frobenius` (published code).
        match: `soft`, or `hard` (no temperature, no sigmoid).
        temperature: τ.
        score_weight: λ1, for every modality.
        code_weight: λ2, for every modality.
        weights: Overrides per term, such as `{image_score: 0.1}`.
        anneal: Weights of all distillation terms go from their value to a share of
            it; None keeps them.
        pairs_per_window: Pairs drawn per window and step; None takes all. The
            drawn mean is an unbiased estimate of the mean over all, which `frobenius`,
            a norm of all pairs, does not have.
        force: Allow distillation into frozen tables.
    """

    enabled: bool = True
    score_loss: Literal["paper", "frobenius"] = "paper"
    match: Literal["soft", "hard"] = "soft"
    temperature: PositiveFloat = 1.5
    score_weight: NonNegativeFloat = 1.0
    code_weight: NonNegativeFloat = 0.5
    weights: dict[str, NonNegativeFloat] = pydantic.Field(default_factory=dict)
    anneal: AnnealConfig | None = None
    pairs_per_window: PositiveInt | None = None
    force: bool = False


class SideConfig(Section):
    """The side network of `model.method: iisan` (docs/iisan.md).

    Args:
        towers: `intra`, one per modality; `inter`, one over both modalities; or both. None is
            all that the modalities allow.
        hidden: Units of an adapter.
        activation: Activation of an adapter, a name that Keras knows.
        gate_temperature: Divisor of a gate's weight; gates learn faster the smaller it is.
        first: `gated` (the published code) or `plain` (the paper's figure): what enters the
            first adapter of a modality.
        normalise: `level` brings the states of every level to one scale; `none` is the paper.
        head: `merged`, one matrix per tower, or `paper`, several one after the other.
        width: Width that all levels are mapped to. None keeps the levels of an encoder that are
            of one width, and maps those of an encoder with several to `model.dim`.
        dtl_rank: Inner width of the maps of the wider of two encoders; None for whole matrices.
        modality_dropout: Share of the items of a batch with two modalities that lose one of them.
        ids: Whether an item also has a row of its own.
        learning_rate: Learning rate of the adapters; None is `train.learning_rate`.
        distil: Whether the towers within modalities also learn what `distillation` says.
    """

    towers: list[Literal["intra", "inter"]] | None = None
    hidden: PositiveInt = 64
    activation: str = "relu"
    gate_temperature: PositiveFloat = 0.1
    first: Literal["gated", "plain"] = "gated"
    normalise: Literal["level", "none"] = "level"
    head: Literal["merged", "paper"] = "merged"
    width: PositiveInt | None = None
    dtl_rank: PositiveInt | None = None
    modality_dropout: Fraction = 0.0
    ids: bool = False
    learning_rate: PositiveFloat | None = None
    distil: bool = False


class TrainConfig(Section):
    """Fitting the student.

    Args:
        epochs: Most passes over the train windows.
        batch_size: Windows per step; for backbones that are not causal, targets with
            the items before them.
        learning_rate: ε.
        slow_start_epochs: η; modality tables go from `slow_start_factor`·ε to ε
            over so many epochs, linearly per step. 0 switches it off.
        slow_start_factor: First learning rate of the modality tables over ε.
        warmup_steps: Steps over which ε rises linearly from its first step's share.
        decay: Decay of ε after warm-up, to 0 at the end of `epochs`: `none`, `linear` or
            `cosine`.
        weight_decay: Decoupled weight decay; for all variables, or per group, such as
            `{rest: 0.01}`. The groups are `modality_tables` (or `side`) and `rest`.
        clip_norm: Largest gradient norm of each group, or per group; None is no limit.
        negatives: Items a target is compared with in training, drawn per step and
            shared by its batch; None compares it with all. For large catalogues.
        negative_distribution: `uniform`, or `popularity`: log-uniform over the rank by
            train interactions.
        lazy_tables: Whether a step moves only those rows of the item tables that it has read
            (lazy Adam). A step then costs what it compares, not what the catalogue holds.
            Needs `negatives`.
        label_smoothing: Probability that the target shares among all items; not together
            with `negatives`.
        patience: Epochs without a better validation metric before stopping.
        monitor: Metric that selects the epoch.
        selection: Points on which it is measured: `validation`, or on the test points, as the
            paper's authors do (`test_oracle`, which then also trains on the validation
            targets). Oracle figures flatter the model; every output that holds them
            says so.
        refit: Train again on train and validation for the chosen epochs.
        checkpoint_steps: Steps between checkpoints; None saves once per epoch.
        precision: Precision of the arithmetic: `float32`, `mixed_float16` (with a dynamic loss
            scale) or `mixed_bfloat16`. Variables and the saved student are float32.
        accumulation_steps: Batches per update, whose gradients are averaged. That is
            the update of one joint batch where all of them hold equally many targets
            and windows; learning rates count batches.
        strategy: `single` device, `mirrored` over the GPUs of this machine (over its
            logical CPUs where there is none), or `multi_worker`: `kdsr train` runs on
            every machine that `TF_CONFIG` names. `batch_size` counts all replicas.
        jit_compile: XLA.
        deterministic: Bit-identical runs on one machine.
        seed: Seed of the student, of its batches and of dropout; None is `seed`.
            What comes before training does not depend on it.
    """

    epochs: PositiveInt = 50
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 1e-3
    slow_start_epochs: NonNegativeInt = 10
    slow_start_factor: PositiveFloat = 0.1
    warmup_steps: NonNegativeInt = 0
    decay: Literal["none", "linear", "cosine"] = "none"
    weight_decay: NonNegativeFloat | dict[str, NonNegativeFloat] = 0.0
    clip_norm: PositiveFloat | dict[str, PositiveFloat] | None = None
    negatives: PositiveInt | None = None
    negative_distribution: Literal["uniform", "popularity"] = "uniform"
    lazy_tables: bool = False
    label_smoothing: Fraction = 0.0
    patience: PositiveInt = 5
    monitor: SelectionMetric = "hr_20"
    selection: Literal["validation", "test_oracle"] = "validation"
    refit: bool = False
    checkpoint_steps: PositiveInt | None = None
    precision: Precision = "float32"
    accumulation_steps: PositiveInt = 1
    strategy: Literal["single", "mirrored", "multi_worker"] = "single"
    jit_compile: bool = False
    deterministic: bool = False
    seed: Seed | None = None


class EvaluateConfig(Section):
    """Full ranking on the test points.

    Args:
        cutoffs: Values of k.
        filter_seen: Remove items of the history from the ranking.
        batch_size: Points per call, also where training measures an epoch.
        head_share: Share of the items, those most often seen in training, whose test
            points are the slice `head`; the others are `tail`.
        cold_below: Items with fewer train interactions are the slice `cold`.
    """

    cutoffs: Annotated[list[PositiveInt], pydantic.Field(min_length=1)] = pydantic.Field(
        default=[5, 20]
    )
    filter_seen: bool = False
    batch_size: PositiveInt = 512
    head_share: Fraction = 0.2
    cold_below: PositiveInt = 5
