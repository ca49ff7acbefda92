"""Modality-aware sequential recommendation with knowledge distillation.

The names below are imported on first use: `import kdsr_tf` imports neither Keras
nor TensorFlow, and none of the names needs TensorFlow when Keras runs on JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "Backbone": "kdsr_tf.backbones.base",
    "BACKBONES": "kdsr_tf.backbones.catalogue",
    "CodeLoss": "kdsr_tf.losses.code_loss",
    "CorrelationHead": "kdsr_tf.layers.correlation_head",
    "DIFSR": "kdsr_tf.backbones.dif_sr",
    "FeatureFusion": "kdsr_tf.layers.feature_fusion",
    "grouped_adam": "kdsr_tf.training.rates",
    "GRU4Rec": "kdsr_tf.backbones.gru4rec",
    "HitRate": "kdsr_tf.metrics.ranking_metric",
    "ItemTables": "kdsr_tf.items.item_tables",
    "KDSR": "kdsr_tf.methods.kdsr",
    "MeanReciprocalRank": "kdsr_tf.metrics.ranking_metric",
    "MMSR": "kdsr_tf.backbones.mmsr",
    "MMSRec": "kdsr_tf.backbones.mmsrec",
    "NextItemLoss": "kdsr_tf.losses.next_item_loss",
    "NOVA": "kdsr_tf.backbones.nova",
    "Pearson": "kdsr_tf.metrics.pearson",
    "PredictionHead": "kdsr_tf.layers.prediction_head",
    "SampledLogits": "kdsr_tf.objectives.sampled_logits",
    "SASRec": "kdsr_tf.backbones.sasrec",
    "SASRM": "kdsr_tf.backbones.sasrm",
    "ScoreLoss": "kdsr_tf.losses.score_loss",
    "SRGNN": "kdsr_tf.backbones.sr_gnn",
    "Student": "kdsr_tf.methods.student",
    "Teacher": "kdsr_tf.teacher.teacher",
    "Trans2D": "kdsr_tf.backbones.trans2d",
    "variable_groups": "kdsr_tf.training.rates",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
