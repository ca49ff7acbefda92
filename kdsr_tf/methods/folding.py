"""One vector per item in place of several, where they meet before the backbone."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from kdsr_tf.backbones.catalogue import BACKBONES
from kdsr_tf.items.materialised_items import MaterialisedItems, scored_key
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.schema import IDS

_ITEMS_PER_CHUNK = 65_536


def fold(recommender: Recommender) -> Recommender:
    """A recommender with one vector per item and the same user vectors.

    Where features enter a backbone only as x = W [e_v; e_a; e_b] + b, x is a function of
    the item. It is computed once, and the backbone is one that reads nothing else: the cost
    of a request is then that of a model of ids. What the last item adds to P
    (`LastItemTerm`) is computed once, too, and becomes what its items are scored by. Take
    scores from the `item_vectors()` of the given recommender, not of the folded one.

    Args:
        recommender: One whose items are looked up; it is not changed.

    Returns:
        The folded recommender, or the given one where nothing can be folded.

    Example:
        >>> from kdsr_tf.methods.student import Student
        >>> student = Student(num_items=9, dim=4, max_length=5, modalities=("text",))
        >>> histories = np.array([[3, 5, 0]])
        >>> folded = fold(student)
        >>> np.allclose(folded.user_vectors(histories), student.user_vectors(histories), atol=1e-5)
        True
    """
    backbone, scorer = recommender.backbone, recommender.scorer
    if not backbone.modalities or backbone.folded is None:
        return recommender
    known = recommender.known_items
    items = np.arange(recommender.num_items + 1, dtype="int32")
    chunks = np.split(items, range(_ITEMS_PER_CHUNK, len(items), _ITEMS_PER_CHUNK))
    fused = [backbone.fuse(dict(recommender.entering(known(chunk[None]))))[0] for chunk in chunks]
    vectors = {IDS: ops.convert_to_numpy(ops.concatenate(fused, axis=0))}
    if scorer.reads_last:
        scorer, last = scorer.folded(known.catalogue(scorer.sources))
        vectors[scored_key(IDS)] = ops.convert_to_numpy(last)
    config = {key: backbone.get_config()[key] for key in _SHARED_ARGUMENTS}
    other = Recommender(
        MaterialisedItems.of((IDS,), vectors),
        BACKBONES[backbone.folded](**config, dtype=backbone.dtype_policy, name=backbone.name),
        recommender.head,
        scorer,
        recommender.max_length,
    )
    values = {_name(backbone, weight): weight for weight in backbone.weights}
    for weight in other.backbone.weights:
        weight.assign(values[_name(backbone, weight)])
    return other


def _name(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """Path below a layer."""
    return variable.path.partition(f"{layer.name}/")[2]


_SHARED_ARGUMENTS = ("dim", "max_length", "num_layers", "num_heads", "dropout", "seed")
"""Arguments that all backbones have, but for the modalities."""
