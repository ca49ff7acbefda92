"""Plots as inline SVG that take their colours from the page, light or dark."""

from __future__ import annotations

import dataclasses
import html
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

Numbers: TypeAlias = Sequence[float] | np.ndarray

NUM_COLOURS = 6
"""Of the custom properties `--c1`, `--c2`, ... of the style sheet."""

_INK = "#010203"
_COLOURS = tuple(f"#0102{number:02x}" for number in range(0xA0, 0xA0 + NUM_COLOURS))
_DASHES = ("-", (0, (4, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1, 2)), (0, (7, 3)))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.alpha": 0.16,
    "grid.linewidth": 0.7,
    "grid.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.7,
    "lines.solid_capstyle": "round",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot; a y of None leaves a gap.

    `colour` is the number of one of the page's colours, `dash` that of a dash pattern (0 is solid),
    `mark` the abscissa of a point to stress.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0
    dash: int = 0
    mark: float | None = None


def lines(
    curves: Sequence[Curve],
    title: str,
    xlabel: str,
    ylabel: str = "",
    logarithmic: Sequence[str] = (),
    notes: Sequence[tuple[float, float, str]] = (),
) -> str:
    """Curves with a legend above them, as an `<svg>` element.

    `logarithmic` names axes, among `x` and `y`; `notes` are abscissa, ordinate and text of remarks.
    The page prints the title above the plot.
    """

    def draw(axes: Axes) -> None:
        for curve in curves:
            colour = _COLOURS[curve.colour % NUM_COLOURS]
            known = np.array([np.nan if v is None else v for v in curve.y], float)
            axes.plot(
                curve.x,
                known,
                color=colour,
                linestyle=_DASHES[curve.dash % len(_DASHES)],
                linewidth=1.9,
                marker="o" if len(known) < 2 else None,
                markerfacecolor="none",
                # A dollar sign would begin a formula.
                label=curve.name.replace("$", r"\$"),
            )
            if curve.mark is not None and curve.mark in curve.x:
                place = list(curve.x).index(curve.mark)
                axes.plot(curve.mark, known[place], "o", color=colour, markersize=6)
        for axis in logarithmic:
            getattr(axes, f"set_{axis}scale")("log")
            _label_decades(getattr(axes, f"{axis}axis"))
        if xlabel == "epoch":
            axes.locator_params(axis="x", integer=True)
        for x, y, text in notes:
            axes.annotate(text, (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        axes.margins(y=0.12)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if len(curves) > 1:
            columns = 2 if max(len(curve.name) for curve in curves) > 12 else 3
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderpad=0)

    ends = [
        f"{curve.name} from {known[0]:.4g} to {known[-1]:.4g}"
        for curve in curves
        if (known := [value for value in curve.y if value is not None])
    ]
    return _svg(draw, title, f"{title}: {'; '.join(ends)}.")


def _label_decades(axis: Axis) -> None:
    """Label powers of ten, and 2 and 5 times them where there are few; plainly where short."""
    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_power)


def _power(value: float, _: float) -> str:
    if 0.0001 <= value < 10_000:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if mantissa == "1" else rf"${mantissa}\times {power}$"


def bars(edges: Numbers, heights: Numbers, title: str, xlabel: str) -> str:
    """A histogram as an `<svg>` element, from the edges of its bins and their heights."""

    def draw(axes: Axes) -> None:
        axes.bar(edges[:-1], heights, 0.9 * np.diff(edges), align="edge", color=_COLOURS[0])
        axes.set_xlabel(xlabel)
        axes.yaxis.set_major_formatter("{x:,.10g}")

    return _svg(draw, title, f"{title}, as a histogram over {xlabel}.")


def curves_of_runs(
    runs: Sequence[tuple[str, Sequence[float], Mapping[str, Sequence[float | None]], float | None]],
) -> list[Curve]:
    """Curves of one plot: colours tell series apart, or runs where there are two.

    A run is its name, its epochs, its series by name, and the epoch to stress.
    """
    several = len(runs) > 1
    dashes = {
        name: n for n, name in enumerate(dict.fromkeys(itertools.chain(*(r[2] for r in runs))))
    }
    return [
        Curve(
            name=f"{series}, {run}" if several else series,
            x=epochs,
            y=values,
            colour=number if several else dashes[series],
            dash=dashes[series] if several else 0,
            mark=best,
        )
        for number, (run, epochs, by_name, best) in enumerate(runs)
        for series, values in by_name.items()
    ]


def _svg(draw: Callable[[Axes], None], title: str, description: str) -> str:
    # The salt makes the ids of clip paths differ between the plots of a page.
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    for number, colour in enumerate(_COLOURS, start=1):
        text = text.replace(colour, f"var(--c{number})")
    # The page sets the size and the font; the view box keeps the proportions.
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
