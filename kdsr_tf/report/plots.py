"""Plots as inline SVG that follow the page's light or dark colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#3b7dd8", "#e07b39", "#3a9d6e", "#a35cc2", "#d64f6f", "#b08d2a", "#5b6b7f")
"""Readable on a white and on a nearly black page."""

_INK = "#010203"
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "grid.color": _INK,
    "legend.frameon": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
}


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    mark: float | None = None,
    logarithmic: bool = False,
) -> str:
    """Curves over epochs.

    Args:
        x: Epochs.
        series: Values per curve; None leaves a gap.
        title: What is shown; the page prints it above the plot.
        mark: Epoch to mark with a vertical line.
        logarithmic: Logarithmic ordinate.

    Returns:
        An `<svg>` element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        for name, values in series.items():
            known = np.array([np.nan if v is None else v for v in values], float)
            axes.plot(x, known, marker="o", markersize=3, linewidth=1.8, label=name)
        if mark is not None:
            axes.axvline(mark, color=_INK, alpha=0.45, linestyle=":", linewidth=1.2)
        if logarithmic:
            axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=9)
        return _svg(figure, title)


def histogram(edges: Sequence[float], counts: Sequence[int], xlabel: str, colour: str) -> str:
    """A histogram from its bins.

    Args:
        edges: Edges of the bins, one more than counts.
        counts: Pairs per bin.
        xlabel: What is shown.
        colour: Fill.

    Returns:
        An `<svg>` element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("pairs")
        return _svg(figure, xlabel)


def usage(counts: Sequence[int], colour: str) -> str:
    """How often each code is used, the most frequent first.

    Args:
        counts: Pairs per code.
        colour: Fill.

    Returns:
        An `<svg>` element.
    """
    shares = 100 * np.sort(np.asarray(counts, float))[::-1] / max(1, np.sum(counts))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        axes.bar(np.arange(1, len(shares) + 1), shares, 0.9, color=colour)
        axes.axhline(100 / len(shares), color=_INK, alpha=0.45, linestyle=":", linewidth=1.2)
        axes.set_xlabel("codes, most used first (dotted: all alike)")
        axes.set_ylabel("% of pairs")
        return _svg(figure, "usage")


def durations(names: Sequence[str], seconds: Sequence[float]) -> str:
    """A bar per stage.

    Args:
        names: Stages, first on top.
        seconds: Wall seconds.

    Returns:
        An `<svg>` element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(height=0.34 * len(names) + 0.8)
        axes.barh(names, seconds, color=PALETTE[0], height=0.62)
        for row, value in enumerate(seconds):
            axes.annotate(
                f"{value:,.1f} s",
                (value, row),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.14)
        axes.set_xlabel("seconds")
        return _svg(figure, "stages")


def _axes(height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # The page sets the size; the view box keeps the proportions.
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
