"""IISAN-Versa from a configuration: side networks over the states of frozen encoders."""

from __future__ import annotations

from kdsr_tf.backbones.catalogue import create_backbone
from kdsr_tf.config import Config
from kdsr_tf.errors import ConfigError
from kdsr_tf.items.side_items import SideItems
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.layers.side_network import SideNetwork, SideOptions
from kdsr_tf.methods.configured_kdsr import (
    distillation_arguments,
    distillation_weights,
    train_counts,
)
from kdsr_tf.methods.kdsr import distillation_of
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.backbone_auxiliary import BackboneAuxiliary
from kdsr_tf.objectives.in_batch_next_item import InBatchNextItem
from kdsr_tf.objectives.next_item import NEXT_ITEM
from kdsr_tf.objectives.objective import Objective
from kdsr_tf.scoring.sum_scorer import SumScorer


def build_iisan(config: Config, read: TrainingInputs, steps_per_epoch: int) -> TrainingModel:
    """The recommender of a configuration inside its model; see `registry.build_model`.

    Raises:
        ConfigError: for a backbone that is not causal.
    """
    policy = config.train.precision
    recommender = _recommender(config, read)
    if not recommender.backbone.causal:
        raise ConfigError(
            f"`model.method=iisan` compares the targets of whole windows, and the backbone "
            f"{config.model.backbone} learns from prefixes. Take a causal one, such as "
            "model.backbone=sasrec or gru4rec."
        )
    next_item = InBatchNextItem(read.num_items, dtype=policy, name=NEXT_ITEM)
    objectives: list[Objective] = [next_item]
    auxiliary = recommender.backbone.make_auxiliary()
    if auxiliary is not None:
        objectives.append(BackboneAuxiliary(auxiliary, dtype=policy, name="auxiliary"))
    if config.needs.pairs:
        arguments = distillation_arguments(config, read.teachers)
        objectives.append(distillation_of(config.model.dim, arguments, policy))
    built = TrainingModel(
        recommender, objectives, distillation_weights(config, steps_per_epoch), dtype=policy
    )
    next_item.set_popularity(train_counts(config))
    return built


def _recommender(config: Config, read: TrainingInputs) -> Recommender:
    model, side, seed = config.model, config.side, config.training_seed
    policy = config.train.precision
    options = SideOptions(
        towers=None if side.towers is None else tuple(side.towers),
        hidden=side.hidden,
        activation=side.activation,
        gate_temperature=side.gate_temperature,
        first=side.first,
        normalise=side.normalise,
        head=side.head,
        width=side.width,
        dtl_rank=side.dtl_rank,
    )
    network = SideNetwork(
        model.dim,
        {m: statistics.sizes for m, statistics in read.states.items()},
        options,
        side.modality_dropout,
        derive_seed(seed, "side"),
        dtype=policy,
        name="side",
    )
    items = SideItems(
        read.num_items,
        network,
        side.ids,
        {m: getattr(config.encode, m).states.dtype for m in read.states},
        seed=derive_seed(seed, "tables"),
        dtype=policy,
        name="items",
    )
    backbone = create_backbone(
        model.backbone,
        model.options,
        dim=model.dim,
        max_length=config.windows.max_length,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        dropout=model.dropout,
        modalities=(),
        seed=derive_seed(seed, "backbone"),
        dtype=policy,
        name="backbone",
    )
    head = PredictionHead(
        model.dim,
        model.pooling,
        model.short_term,
        derive_seed(seed, "head"),
        dtype=policy,
        name="head",
    )
    scorer = SumScorer(model.dim, items.sources, model.logit_scale, dtype=policy, name="scorer")
    made = Recommender(items, backbone, head, scorer, config.windows.max_length, dtype=policy)
    for modality, statistics in read.states.items():
        network.levels[modality].set_statistics(statistics.mean, statistics.deviation)
    return made
