"""The student of KDSR: item tables, a backbone, a head and a sum of vectors as the score."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import keras
import numpy as np

from kdsr_tf.backbones.catalogue import create_backbone
from kdsr_tf.items.item_tables import ItemTables
from kdsr_tf.layers.configured_layer import arguments_of
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.layers.seeding import derive_seed
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.schema import IDS
from kdsr_tf.scoring.sum_scorer import SumScorer

MODALITY_TABLES = ("off", "frozen", "tuned")
OUTPUTS = ("ids", "fused")


@keras.saving.register_keras_serializable(package="kdsr_tf")
class Student(Recommender):
    """A recommender with item tables, described by plain arguments.

    It is complete without a teacher: `KDSR` adds what exists in training
    only, so the served model costs what its backbone costs. Item 0 is padding,
    histories are right-padded, oldest item first.

    Args:
        num_items: Items N, > 0.
        dim: Size d of embeddings and representations, > 0.
        max_length: Longest history, > 0.
        backbone: Key of `kdsr_tf.BACKBONES`, or the dotted path of a class.
        num_layers: Blocks of the backbone, > 0.
        num_heads: Attention heads.
        dropout: Share of units dropped in training, in [0, 1).
        modalities: Modalities that have a table.
        modality_tables: `off` (ids only), `frozen` or `tuned`.
        pooling: `eq6`, `last_sum` or `last`; see `PredictionHead`.
        short_term: Items q of the short-term part, > 0.
        tied: Whether items enter the backbone by the id table that scores them.
        output: What P is compared with: `ids`, the e_v of an item (the paper), or `fused`,
            e_v + Σ_m W_m e_m over its modalities, which tells items apart that were
            rarely taken.
        logit_scale: None scores items by P · v (the paper); a number, > 0, by their cosine
            times this, as P and v then have length 1 and `logit_scale`.
        last_item: Whether P gets a term of the last item alone, in the space in which items
            are scored: what looks and reads like it comes first from the first step on; see
            `LastItemTerm`. Use it with the `fused` output.
        seed: Seed of all weights and of dropout.
        backbone_options: Arguments that only this backbone has.

    Call arguments:
        items: Ints `(batch, length)`, `length <= max_length`.
        training: Whether to drop units.

    Returns:
        The representation P of the prefix that ends at each position, floats
        `(batch, length, dim)`; zeros at padding.

    Raises:
        ValueError: for an unknown backbone, option, pooling, output or kind of tables.

    Example:
        >>> student = Student(num_items=9, dim=4, max_length=5)
        >>> histories = np.array([[3, 5, 0], [1, 0, 0]])
        >>> tuple(student(histories).shape), tuple(student.scores(histories).shape)
        ((2, 3, 4), (2, 10))

    Reference:
        - [KDSR, arXiv 2401.07257](https://arxiv.org/abs/2401.07257), section 3.
    """

    def __init__(
        self,
        num_items: int,
        dim: int = 128,
        max_length: int = 50,
        backbone: str = "sasrec",
        num_layers: int = 2,
        num_heads: int = 2,
        dropout: float = 0.2,
        modalities: Sequence[str] = (),
        modality_tables: str = "tuned",
        pooling: str = "eq6",
        short_term: int = 2,
        tied: bool = True,
        output: str = "ids",
        logit_scale: float | None = None,
        last_item: bool = False,
        seed: int = 0,
        backbone_options: dict | None = None,
        **kwargs,
    ):
        arguments = arguments_of(locals()) | {
            "modalities": list(modalities),
            "backbone_options": dict(backbone_options or {}),
        }
        for name, value, known in (
            ("modality_tables", modality_tables, MODALITY_TABLES),
            ("output", output, OUTPUTS),
        ):
            if value not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. Received: {name}={value!r}."
                )
        used = () if modality_tables == "off" else tuple(modalities)
        policy = keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        tables = ItemTables(
            num_items,
            dim,
            used,
            trainable_modalities=modality_tables == "tuned",
            tied=tied,
            seed=derive_seed(seed, "tables"),
            dtype=policy,
            name="tables",
        )
        sequence = create_backbone(
            backbone,
            backbone_options,
            dim=dim,
            max_length=max_length,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout=dropout,
            modalities=used,
            seed=derive_seed(seed, "backbone"),
            dtype=policy,
            name="backbone",
        )
        head = PredictionHead(
            dim, pooling, short_term, derive_seed(seed, "head"), dtype=policy, name="head"
        )
        scorer = SumScorer(
            dim,
            (IDS, *(used if output == "fused" else ())),
            logit_scale,
            last_item,
            dropout,
            seed,
            dtype=policy,
            name="scorer",
        )
        super().__init__(tables, sequence, head, scorer, max_length, **kwargs)
        self._arguments = arguments
        self.modalities = used
        self.modality_tables = modality_tables
        self.seed = seed

    @property
    def tables(self) -> ItemTables:
        """The item encoder."""
        return self.item_encoder

    def modality_table(self, modality: str) -> keras.Variable:
        """The variable `(num_items + 1, dim)` of a modality."""
        return self.tables.modality_table(modality)

    def set_modality_vectors(
        self,
        modality: str,
        vectors: np.ndarray,
        present: np.ndarray,
        initial_std: float | None = None,
    ) -> None:
        """Start a modality table from the teacher; see `ItemTables.set_modality_vectors`."""
        self.tables.set_modality_vectors(modality, vectors, present, initial_std)

    def get_config(self) -> dict:
        return {**keras.Model.get_config(self), **self._arguments}

    @classmethod
    def from_config(cls, config: dict) -> Student:
        """As Keras does it, but a saved file does not choose what is imported."""
        if "first_order" in config:  # as it was called in files of version 0.1
            config = {**config, "last_item": config["first_order"]}
            del config["first_order"]
        module, _, _ = config.get("backbone", "").rpartition(".")
        if module and module not in sys.modules:
            raise ValueError(
                f"This student's backbone is in the module `{module}`. If you trust the file, "
                f"import that module before you load it."
            )
        return cls(**config)
