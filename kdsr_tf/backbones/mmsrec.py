"""MMSRec: features supervise the states through a tower of items."""

from __future__ import annotations

import keras

from kdsr_tf.backbones.sasrec import SASRec
from kdsr_tf.layers.auxiliaries import ItemTower
from kdsr_tf.layers.seeding import seeded_part


@keras.saving.register_keras_serializable(package="kdsr_tf")
class MMSRec(SASRec):
    """Two towers: a sequence of items, and the features of the next one.

    The sequence tower is SASRec over ids and features. In training a second tower
    encodes items from their features alone, and the term `contrast` asks that the state
    after t items find the next one among those of the batch (`ItemTower`): features
    supervise, at the level of states and not of input embeddings. The baseline freezes
    its tables.

    Simplified against the paper: the towers share no weights and the item tower is a
    small network in place of a transformer; ids enter beside the features, and the
    served score stays P · e_v; the next item in place of masked ones; the batch
    gives the negatives in place of the whole catalogue; no pre-training that aligns
    modalities across data sets.

    Args:
        *args: Those of `Backbone`, with its keywords, call and result.
        contrast_weight: Weight of the contrast, >= 0; 0 leaves it out. The authors
            fine-tune on it alone; here it stands beside `next_item`, at par.
        contrast_temperature: τ of the contrast, > 0; the authors take 0.05.

    Example:
        >>> import numpy as np
        >>> backbone = MMSRec(dim=4, max_length=3, modalities=("text",))
        >>> items, ids = np.array([[3, 5, 0]]), np.ones((1, 3, 4), "float32")
        >>> embeddings = {"items": items, "ids": ids, "text": ids, "text_present": items > 0}
        >>> tuple(backbone(embeddings).shape)
        (1, 3, 4)
        >>> backbone.make_auxiliary().term_weights
        {'contrast': 1.0}

    Reference:
        - [MMSRec, arXiv 2304.13277](https://arxiv.org/abs/2304.13277).
    """

    def __init__(
        self,
        *args,
        contrast_weight: float = 1.0,
        contrast_temperature: float = 0.05,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.contrast_weight = contrast_weight
        self.contrast_temperature = contrast_temperature

    def make_auxiliary(self) -> ItemTower | None:
        if not self.modalities or not self.contrast_weight:
            return None
        weighing = (self.contrast_weight, self.contrast_temperature)
        return ItemTower(self.dim, self.modalities, *weighing, **seeded_part(self, "item_tower"))
