"""The teacher of a modality: its errors, its scores, and every code for the explorer."""

from __future__ import annotations

import json
from typing import Any

import fsspec
import numpy as np

from kdsr_tf import stages
from kdsr_tf.artifacts import join
from kdsr_tf.config import Config
from kdsr_tf.report import plots
from kdsr_tf.report.page_items import PageItems


def describe(config: Config, modality: str, pictures: PageItems) -> dict[str, Any]:
    """What the page says of the teacher of a modality; `pictures` gets items of example pairs."""
    with fsspec.open(join(stages.location(config, f"teacher/{modality}"), "report.json")) as file:
        teacher = json.load(file)
    codebook, histogram = teacher["codebook"], teacher["scores"]["histogram"]
    total = sum(code["count"] for code in codebook["codes"]) or 1
    codes = [
        {
            "code": code["code"],
            "share": code["count"] / total,
            "mean": float(np.mean(code["profile"])),
            "profile": [round(value, 3) for value in code["profile"]],
            "pairs": [[pictures.show(item) for item in pair] for pair in code["pairs"]],
        }
        for code in codebook["codes"]
    ]
    # From alike in everything to unlike in everything.
    codes.sort(key=lambda code: -code["mean"])
    profiles = [code["profile"] for code in codes]
    return {
        "modality": modality,
        "codes": codes,
        "largest": float(np.abs(profiles).max(initial=0)) or 1.0,
        "most_used": max((code["share"] for code in codes), default=0) or 1.0,
        "unexplained": teacher["reconstruction"]["unexplained_share"],
        "code_error": codebook["unexplained_share"],
        "used_share": codebook["used_share"],
        "perplexity": codebook["perplexity"],
        "plots": _plots(modality, histogram, codes),
    }


def _plots(
    modality: str, histogram: dict[str, Any], codes: list[dict[str, Any]]
) -> list[dict[str, str]]:
    if not histogram["counts"]:
        return []
    shares = sorted((100 * code["share"] for code in codes), reverse=True)
    used = plots.bars(
        np.arange(0.5, len(shares) + 1), shares, f"Use of the {modality} codes", "codes by use"
    )
    scores = plots.bars(
        histogram["edges"], histogram["counts"], f"Scores of {modality} pairs", "score"
    )
    return [
        {
            "title": "Scores",
            "say": "How alike two items of one history are; number of sampled pairs.",
            "svg": scores,
        },
        {"title": "Use of the codes", "say": "% of the sampled pairs per code.", "svg": used},
    ]
