"""What a fitted teacher looks like: `report.json` of `teacher/<modality>/`."""

from __future__ import annotations

from typing import Any

import numpy as np

_BINS = 40
_EXAMPLES_PER_CODE = 3


def describe_scores(scores: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation and histogram of the sample's scaled scores `(pairs,)`."""
    if not len(scores):
        return {"mean": 0.0, "std": 0.0, "histogram": {"edges": [], "counts": []}}
    counts, edges = np.histogram(scores, _BINS)
    return {
        "mean": float(scores.mean()),
        "std": float(scores.std()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def describe_codebook(
    vectors: np.ndarray, codes: np.ndarray, codebook: np.ndarray, pairs: np.ndarray
) -> dict[str, Any]:
    """Usage of the codes by the pair sample.

    Args:
        vectors: Scaled correlation vectors `(pairs, num_domains)`.
        codes: Their codes `(pairs,)`.
        codebook: Codewords `(codes, num_domains)`.
        pairs: Item indices `(pairs, 2)`.

    Returns:
        `used_share` (codes that occur), `perplexity` (the exponential of the
        codes' entropy), `quantisation_error` (mean squared distance),
        `unexplained_share` (that error over the vectors' variance), and `codes`:
        per code its sub-vector profile, count and the pairs nearest to it.
    """
    counts = np.bincount(codes, minlength=len(codebook))
    shares = counts[counts > 0] / max(len(codes), 1)
    distances = _distances(vectors, codes, codebook)
    error = quantisation_error(vectors, codes, codebook)
    variance = float(vectors.var(0).sum()) if len(codes) else 0.0
    order = np.lexsort((distances, codes))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return {
        "used_share": float((counts > 0).mean()),
        "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
        "quantisation_error": error,
        "unexplained_share": error / variance if variance > 0 else 0.0,
        "codes": [
            {
                "code": code,
                "count": int(counts[code]),
                "profile": codebook[code].tolist(),
                "pairs": pairs[
                    order[starts[code] : starts[code + 1]][:_EXAMPLES_PER_CODE]
                ].tolist(),
            }
            for code in range(len(codebook))
        ],
    }


def quantisation_error(vectors: np.ndarray, codes: np.ndarray, codebook: np.ndarray) -> float:
    """Mean squared distance between vectors and their codewords; 0 without vectors."""
    return float(_distances(vectors, codes, codebook).mean()) if len(codes) else 0.0


def _distances(vectors: np.ndarray, codes: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    return np.square(vectors - codebook[codes]).sum(-1, dtype=np.float64)


def collapse_warnings(modality: str, num_codes: int, codebook: dict[str, Any]) -> list[str]:
    """Sentences for a person when fewer codes work than were asked for.

    Args:
        modality: Named in the sentences.
        num_codes: Codes asked for.
        codebook: Result of `describe_codebook`.
    """
    size = len(codebook["codes"])
    if not any(code["count"] for code in codebook["codes"]):
        return [
            f"{modality}: no pair of the sample has two items with this modality, so there is "
            "nothing to distil. Bring longer sequences, or items that have it."
        ]
    found = []
    if size < num_codes:
        found.append(
            f"{modality}: the pair sample holds only {size} distinct correlation vectors, "
            f"so there are {size} codes instead of {num_codes}."
        )
    if codebook["used_share"] < 0.9:
        found.append(
            f"{modality}: only {codebook['used_share']:.0%} of the codes are used. "
            "Lower `teach.num_codes` or raise `prepare.pair_sample_size`."
        )
    if codebook["perplexity"] < size / 3:
        found.append(
            f"{modality}: the codes collapse, a perplexity of {codebook['perplexity']:.1f} "
            f"with {size} codes. Lower `teach.num_codes`, or check the encoder."
        )
    return found
