"""Outlines of the demo products, on a canvas of 100 × 100 units, y downwards.

A drawing is a list of parts from back to front. Every part is a polygon with a
role that says how the painter fills it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

Role = Literal["fabric", "lining", "trim", "light", "metal", "line"]
Points = str | np.ndarray | Sequence[tuple[float, float]]
"""Corners, as numbers or written as in SVG: `"31,17 22,22"`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A filled polygon or a stroke, of corners in canvas units.

    `fabric` takes the product's colour and pattern; `lining` and `trim` a darker tone of the
    colour; `light` and `metal` are neutral; `line` is a stroke of some width.
    """

    points: np.ndarray
    role: Role
    width: float = 0.0


def _corners(points: Points) -> np.ndarray:
    if isinstance(points, str):
        return np.array([corner.split(",") for corner in points.split()], float)
    return np.asarray(points, float)


def _curve(points: Points, closed: bool = True) -> np.ndarray:
    """A smooth curve through the points (Catmull-Rom); a doubled point is a corner."""
    p = _corners(points)
    ends = (p[-1:], p[:2]) if closed else (p[:1], p[-1:])
    padded = np.concatenate([ends[0], p, ends[1]])
    a, b, c, d = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    t = np.linspace(0, 1, 12, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    sides = np.any(b != c, axis=-1)[:, 0]
    return np.concatenate([curve[sides].reshape(-1, 2), p[-1:]])


def _mirrored(points: Points) -> np.ndarray:
    """A left half, from top to bottom, completed by its mirror image."""
    left = _corners(points)
    return np.concatenate([left, _flipped(left)[::-1]])


def _flipped(points: Points) -> np.ndarray:
    return _corners(points) * (-1, 1) + (100, 0)


def _fill(points: Points, role: Role = "fabric", smooth: bool = False) -> Part:
    return Part(points=_curve(points) if smooth else _corners(points), role=role)


def _line(points: Points, width: float = 0.9, role: Role = "line", smooth: bool = False) -> Part:
    path = _curve(points, closed=False) if smooth else _corners(points)
    return Part(points=path, role=role, width=width)


def _dot(x: float, y: float, radius: float, role: Role = "line") -> Part:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return Part(
        points=np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1), role=role
    )


def _moved(parts: Sequence[Part], dx: float, dy: float) -> list[Part]:
    return [dataclasses.replace(part, points=part.points + np.array([dx, dy])) for part in parts]


def _sleeves(left: Points, role: Role = "fabric") -> list[Part]:
    return [_fill(left, role), _fill(_flipped(left), role)]


_LEG = "30,8 26,50 27,92 43,93 49,36 50,8"
_OXFORD = [
    _fill("16,36 30,33 38,38 52,50 70,54 84,60 86,68 50,69 18,68 16,68 14,52", smooth=True),
    _fill("15,68 86,68 87,72 36,72 36,75 15,75", "trim"),
    _fill("14,37 30,32 33,36 18,41", "lining"),
    _line("66,53 62,60 65,68", 0.8, smooth=True),
    *(_line([(36 + 5 * k, 40 + 4 * k), (32 + 5 * k, 45 + 4 * k)], 1.2) for k in range(4)),
    _line("33,40 28,52 42,60", 0.8, smooth=True),
]
_FRINGE = [
    _line([(x, 82 + 3 * (x > 50)), (x, 91 + 3 * (x > 50))], 1.3, "lining")
    for x in (32, 35.3, 38.6, 42, 45.3, 55, 58.3, 61.6, 65, 68)
]

DRAWINGS: dict[str, list[Part]] = {
    "suit": [
        *_sleeves("31,17 22,22 14,78 23,81 33,40"),
        _fill("40,12 60,12 58,50 50,56 42,50", "light"),
        _fill("47.5,18 52.5,18 53.5,46 50,54 46.5,46", "trim"),
        _fill("40,10 30,17 29,50 26,88 46,92 52,86 50,54"),
        _fill("60,10 70,17 71,50 74,88 54,92 49,86 50,54"),
        _fill("40,10 33,26 38,29 36,32 50,55", "lining"),
        _fill("60,10 67,26 62,29 64,32 50,55", "lining"),
        _line("50,55 50.5,88"),
        _line("30,66 42,67", 1.4),
        _line("58,67 70,66", 1.4),
        _dot(52.5, 61, 1.4),
        _dot(52.5, 70, 1.4),
    ],
    "shirt": [
        *_sleeves("34,17 21,24 12,74 22,77 33,44"),
        *_sleeves("12,74 22,77 21.5,81 11.2,78", "lining"),
        _fill(_mirrored("43,12 31,18 30,50 28,88 50,91")),
        _fill("43,11 57,11 50,20", "light"),
        _fill("43,10 38,16 44,25 50,19", "lining"),
        _fill("57,10 62,16 56,25 50,19", "lining"),
        _line("50,20 50,91"),
        *(_dot(52, y, 1.1, "light") for y in (28, 39, 50, 61, 72, 83)),
        _line("57,36 57,46 67,46 67,36 57,36", 0.7),
    ],
    "tie": [
        _fill("41,22 33,16 40,9 60,9 67,16 59,22", "lining"),
        _fill("47,22 53,22 64,78 50,94 36,78"),
        _fill("43,10 57,10 54,24 46,24"),
        _line("46,24 54,24", 1.2),
    ],
    "trousers": [
        *_sleeves(_LEG),
        _fill(_mirrored("30,8 29.4,15"), "lining"),
        _line("50,15 50,36"),
        _line("31,17 38,27", 1.1),
        _line("69,17 62,27", 1.1),
        _line("37,30 35,91", 0.6),
        _line("63,30 65,91", 0.6),
        _dot(50, 11.5, 1.3, "metal"),
    ],
    "shoes": [*_moved(_OXFORD, -3, -13), *_moved(_OXFORD, 3, 11)],
    "hat": [
        _fill("6,64 24,58 50,56 76,58 94,64 78,74 50,77 22,74", "fabric", smooth=True),
        _fill("26,66 29,36 38,25 50,30 62,25 71,36 74,66 50,70", smooth=True),
        _fill("26.5,55 50,60 73.5,55 74.5,65 50,70 25.5,65", "trim"),
        _line("41,28 50,42 59,28", 0.9, smooth=True),
    ],
    "coat": [
        *_sleeves("32,16 22,21 12,70 22,74 34,40"),
        _fill(_mirrored("41,9 30,16 31,46 23,93 50,95")),
        _fill("41,9 59,9 50,24", "light"),
        _fill("41,8 32,17 36,30 47,36 50,23", "lining"),
        _fill("59,8 68,17 64,30 53,36 50,23", "lining"),
        _fill(_mirrored("31,49 30.5,55"), "trim"),
        _fill("46,48 54,48 54,56 46,56", "metal"),
        _line("50,36 50,95"),
        *(_dot(x, y, 1.5) for y in (42, 64, 76) for x in (45, 55)),
        _line("31,68 40,66", 1.4),
        _line("69,68 60,66", 1.4),
    ],
    "scarf": [
        *_FRINGE,
        _fill("30,83 33,40 44,34 47,83"),
        _fill("53,86 52,40 65,34 70,86"),
        _fill("26,30 34,16 50,10 66,16 74,30 68,44 50,50 32,44", smooth=True),
        _fill("37,27 50,20 63,27 50,34", "lining", smooth=True),
        _line("29,35 50,44 71,33", 1.0, smooth=True),
    ],
    "dress": [
        _line("40,8 39,18", 2.2, "trim"),
        _line("60,8 61,18", 2.2, "trim"),
        _fill(
            "37,17 37,17 44,22 50,21 56,22 63,17 63,17 61,38 60,46 70,68 82,90 82,90 50,94 "
            "18,90 18,90 30,68 40,46 39,38",
            smooth=True,
        ),
        _fill("39.4,42 60.6,42 60.4,47 39.6,47", "trim"),
        _line("42,48 34,91", 0.8),
        _line("50,48 50,93", 0.8),
        _line("58,48 66,91", 0.8),
    ],
    "handbag": [
        _line("34,44 36,22 50,13 64,22 66,44", 3.4, "trim", smooth=True),
        _fill("20,42 80,42 88,84 84,88 16,88 12,84"),
        _fill("20,41 20,41 80,41 80,41 76,58 50,66 24,58", "lining", smooth=True),
        _fill("45,58 55,58 55,68 45,68", "metal"),
        _line("15,83 85,83", 0.8),
        _dot(34, 44, 1.8, "metal"),
        _dot(66, 44, 1.8, "metal"),
    ],
    "heels": [
        _fill("12,42 22,46 19,84 15,84", "trim"),
        _fill(
            "11,26 18,30 30,46 50,62 66,62 82,72 90,80 86,83 66,82 50,78 32,64 20,54 11,48",
            smooth=True,
        ),
        _fill("20,34 30,46 50,62 64,62 48,68 30,54", "lining", smooth=True),
        _line("21,55 33,65 50,79 66,83.5 88,83.5", 1.8, "trim", smooth=True),
    ],
    "sweater": [
        *_sleeves("33,18 20,27 11,76 24,79 34,46"),
        *_sleeves("11,74 24.5,77 23.5,85 10,82", "lining"),
        _fill(_mirrored("40,13 31,19 28,34 29,60 29,86 29,86 50,87"), smooth=True),
        _fill(_mirrored("29,82 29.5,90"), "lining"),
        _fill("40,12 50,17 60,12 58,19 50,23 42,19", "lining", smooth=True),
        *(_line([(33 + 3.4 * k, 83), (33 + 3.4 * k, 89.5)], 0.6) for k in range(11)),
    ],
    "sneakers": [
        _fill("12,38 22,34 34,38 46,50 64,56 82,62 90,70 88,76 50,78 12,76 10,56", smooth=True),
        _fill("9,73 9,73 50,75 90,72 92,78 86,83 50,84 14,83 9,80", "light", smooth=True),
        _fill("10,48 18,47 20,64 10,64", "lining"),
        _fill("70,58 82,62 90,71 68,73 66,64", "lining", smooth=True),
        *(
            _line([(34 + 6 * k, 40 + 4.6 * k), (30 + 6 * k, 48 + 3.6 * k)], 1.8, "light")
            for k in range(5)
        ),
        _line("24,66 40,54 46,68", 2.2, "light", smooth=True),
        _line("12,79.5 89,78.5", 0.7),
    ],
    "cap": [
        _fill("16,62 19,42 34,27 52,26 68,38 72,62 44,66", smooth=True),
        _fill("42,61 58,57 72,59 90,64 96,71 84,72 64,69 46,68", "lining", smooth=True),
        _line("47,26 42,44 42,63", 0.9, smooth=True),
        _line("47,26 64,42 68,58", 0.9, smooth=True),
        _line("45,26 26,42 20,63", 0.9, smooth=True),
        _dot(47, 25.5, 2.4, "trim"),
    ],
    "backpack": [
        _line("42,16 44,7 56,7 58,16", 3.0, "trim", smooth=True),
        _fill("24,46 16,52 16,78 24,82", "lining"),
        _fill("76,46 84,52 84,78 76,82", "lining"),
        _fill(_mirrored("42,12 29,18 24,36 23,64 24,86 30,92 44,93"), smooth=True),
        _fill(_mirrored("31,58 31,84 34,87"), "lining"),
        _line("28,40 50,46 72,40", 1.4, smooth=True),
        _line("31,64 69,64", 1.2, "metal"),
        _fill("47,44 53,44 53,52 47,52", "metal"),
    ],
}
"""How each shape of the catalogue is drawn."""
