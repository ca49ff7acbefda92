"""The goods of the demo boutique: what exists, what it is called, what it costs.

Every name is invented. A product is a shape, a colour, a pattern and a
background; its words and its picture tell the same story in two modalities.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np


class _Kind(NamedTuple):
    """What products of a shape are called, what they are made of, and their mean price."""

    nouns: tuple[str, str]
    materials: tuple[str, str]
    price: int


_KINDS = {
    "suit": _Kind(("Blazer", "Suit Jacket"), ("wool", "linen"), 289),
    "shirt": _Kind(("Shirt", "Button Shirt"), ("cotton", "poplin"), 69),
    "tie": _Kind(("Tie", "Necktie"), ("silk", "knitted silk"), 45),
    "trousers": _Kind(("Trousers", "Chinos"), ("twill", "cotton"), 95),
    "shoes": _Kind(("Oxford Shoes", "Derby Shoes"), ("calf leather", "suede"), 179),
    "hat": _Kind(("Fedora Hat", "Brim Hat"), ("felt", "straw"), 79),
    "coat": _Kind(("Overcoat", "Winter Coat"), ("wool", "cashmere blend"), 329),
    "scarf": _Kind(("Scarf", "Fringed Scarf"), ("wool", "modal"), 49),
    "dress": _Kind(("Dress", "Evening Dress"), ("crepe", "viscose"), 149),
    "handbag": _Kind(("Handbag", "Top-Handle Bag"), ("grained leather", "canvas"), 199),
    "heels": _Kind(("Heels", "Court Heels"), ("suede", "patent leather"), 159),
    "sweater": _Kind(("Sweater", "Knit Pullover"), ("merino", "lambswool"), 99),
    "sneakers": _Kind(("Sneakers", "Low Trainers"), ("canvas", "mesh"), 119),
    "cap": _Kind(("Cap", "Peaked Cap"), ("cotton", "twill"), 29),
    "backpack": _Kind(("Backpack", "Day Pack"), ("canvas", "ripstop"), 109),
}
SHAPES = tuple(_KINDS)
"""Kinds of product, in the order of the shopping habit: suit, then shirt, then tie."""

COLOURS = {
    "red": (("crimson", "ruby"), (196, 40, 54)),
    "orange": (("apricot", "amber"), (236, 128, 44)),
    "yellow": (("saffron", "honey"), (240, 196, 60)),
    "green": (("moss", "fern"), (72, 130, 72)),
    "teal": (("lagoon", "petrol"), (26, 142, 146)),
    "blue": (("cornflower", "azure"), (66, 122, 206)),
    "navy": (("midnight", "ink"), (38, 48, 96)),
    "purple": (("plum", "violet"), (122, 64, 148)),
    "pink": (("blush", "peony"), (236, 132, 168)),
    "brown": (("walnut", "cocoa"), (132, 88, 58)),
}
"""Colour family: shade names and an RGB value."""

PATTERNS = {"plain": "Plain", "stripe": "Striped", "dot": "Dotted", "check": "Checked"}

BACKGROUNDS = {
    "paper": (246, 244, 240),
    "mist": (226, 231, 236),
    "sand": (238, 228, 212),
    "sage": (222, 230, 220),
    "rose": (242, 228, 228),
    "slate": (198, 204, 212),
}
"""Studio backdrops; they say nothing about a product, as in life."""

_FIRST = ("Vel", "Ost", "Tal", "Brin", "Quil", "Sor", "Mar", "Eld", "Fen", "Jun", "Hax", "Lum")
_LAST = ("drune", "renno", "vikka", "dlowe", "mirre", "vantu", "quessa", "worrin")
_DETAILS = (
    "Finished by hand.",
    "Easy to care for.",
    "Made in small batches.",
    "Soft from day one.",
    "For many years.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """One product of the shop; its colour, pattern and background are keys of the tables above."""

    item_id: str
    title: str
    description: str | None
    shape: str
    colour: str
    pattern: str
    price: int
    background: str
    has_picture: bool


def make_catalogue(num_items: int, seed: int) -> list[Product]:
    """Invent products.

    Shapes, colours and patterns are combined evenly: any 600 consecutive
    products hold every combination once, in an order drawn from the seed.
    About one product in 50 lacks its picture, one in 40 its description.
    """
    rng = np.random.default_rng([seed, 1])
    combinations = list(itertools.product(SHAPES, COLOURS, PATTERNS))
    order = np.concatenate(
        [rng.permutation(len(combinations)) for _ in range(-(-num_items // len(combinations)))]
    )
    pictureless, wordless = _drawn(rng, num_items, 50), _drawn(rng, num_items, 40)
    products = []
    for index, combination in enumerate(order[:num_items]):
        shape, colour, pattern = combinations[combination]
        kind = _KINDS[shape]
        noun, material = rng.choice(kind.nouns), rng.choice(kind.materials)
        shade = rng.choice(COLOURS[colour][0])
        brand = f"{rng.choice(_FIRST)}{rng.choice(_LAST)}"
        adjective = PATTERNS[pattern]
        description = (
            f"{adjective} {noun.lower()} in {shade} {colour} {material}. {rng.choice(_DETAILS)}"
        )
        products.append(
            Product(
                item_id=f"KB{index + 1:05d}",
                shape=shape,
                colour=colour,
                pattern=pattern,
                background=str(rng.choice(list(BACKGROUNDS))),
                title=f"{brand} {adjective} {noun} in {str(shade).title()}",
                description=None if index in wordless else description,
                price=round(kind.price * rng.uniform(0.75, 1.35)),
                has_picture=index not in pictureless,
            )
        )
    return products


def _drawn(rng: np.random.Generator, num_items: int, one_in: int) -> set[int]:
    return set(rng.choice(num_items, size=num_items // one_in, replace=False).tolist())
