"""A method of one file: items are one dense layer over their text vectors, without a table."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.config import Config
from kdsr_tf.config.methods import NEEDS, Needs
from kdsr_tf.items.computed_items import ComputedItems
from kdsr_tf.items.content import ContentSpec
from kdsr_tf.items.known_items import ItemVectors
from kdsr_tf.layers.prediction_head import PredictionHead
from kdsr_tf.methods.registry import METHODS
from kdsr_tf.methods.training_inputs import TrainingInputs
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.training_model import TrainingModel
from kdsr_tf.objectives.next_item import NextItem
from kdsr_tf.schema import ITEMS, present_key
from kdsr_tf.scoring.sum_scorer import SumScorer
from kdsr_tf.types import Tensor

METHOD, ITEM, TEXT = "dense", "item", "text"


@keras.saving.register_keras_serializable(package="kdsr_tf_tests")
class DenseItems(ComputedItems):
    """W x + b of the text vector x of an item; b alone for an item without one."""

    sources = (ITEM,)

    def __init__(self, num_items: int, size: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.num_items, self.size, self.dim = num_items, size, dim
        self._dense = keras.layers.Dense(
            dim, kernel_initializer=keras.initializers.GlorotUniform(seed=1), name="dense"
        )

    def build(self, input_shape=None) -> None:
        self._dense.build((None, self.size))
        self.built = True

    def content_spec(self) -> dict[str, ContentSpec]:
        return {
            TEXT: ContentSpec((self.size,), "float32"),
            present_key(TEXT): ContentSpec((), "bool"),
        }

    def call(
        self, items: Tensor, content: Mapping[str, Tensor], training: bool | None = None
    ) -> ItemVectors:
        has = ops.cast(content[present_key(TEXT)], content[TEXT].dtype)[:, None]
        return {ITEMS: items, ITEM: self._dense(content[TEXT] * has)}

    def get_config(self) -> dict:
        own = {"num_items": self.num_items, "size": self.size, "dim": self.dim}
        return {**super().get_config(), **own}


def recommender(num_items: int, size: int, dim: int, max_length: int) -> Recommender:
    """One that is not trained."""
    return Recommender(
        DenseItems(num_items, size, dim, name="items"),
        SASRec(dim, max_length, num_layers=1, num_heads=1, dropout=0.0, name="backbone"),
        PredictionHead(dim, name="head"),
        SumScorer(dim, (ITEM,), name="scorer"),
        max_length,
    )


def build(config: Config, read: TrainingInputs, steps_per_epoch: int) -> TrainingModel:
    """The model of a configuration."""
    (size,) = read.content.spec[TEXT].shape
    made = recommender(read.num_items, size, config.model.dim, config.windows.max_length)
    return TrainingModel(made, [NextItem(name="next_item")])


def register() -> None:
    """Make `model.method: dense` known."""
    METHODS[METHOD] = build
    NEEDS[METHOD] = lambda config: Needs(content=(TEXT,))
