"""Items as the page shows them: each title and each small picture is in it once."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from kdsr_tf.console import cut
from kdsr_tf.errors import InputError
from kdsr_tf.evaluation.evaluation_inputs import ItemCatalogue
from kdsr_tf.rules import MAX_PIXELS
from kdsr_tf.sources.image_files import UnreadableImage, read_image
from kdsr_tf.sources.image_values import readable_formats

MAX_SIDE = 120
"""Of an embedded picture, in pixels."""

_MOST_BYTES = 12_000_000
"""Of all pictures together; what comes later goes without."""

_QUALITY = 48
_LONGEST_TITLE = 400
"""Characters; a tile has room for fewer, and the page repeats titles for every mention."""

_NARROWEST, _WIDEST = 0.66, 1.5


class PageItems:
    """Collects the items that a page mentions.

    `folders` are declared folders and URIs: where web addresses may redirect to.
    """

    def __init__(self, catalogue: ItemCatalogue, folders: Sequence[str] = ()) -> None:
        self._folders = folders
        self._catalogue = catalogue
        self._bytes_left = _MOST_BYTES
        self._ratios: list[float] = []
        self.items: dict[int, dict[str, str | None]] = {}

    def show(self, item: int) -> int:
        """Note that an item is mentioned; gives its index back."""
        item = int(item)
        if item not in self.items:
            self.items[item] = {
                "id": self._catalogue.item_ids[item],
                "title": cut(self._catalogue.titles[item], _LONGEST_TITLE),
                "picture": self._read(self._catalogue.images[item]),
            }
        return item

    @property
    def ratio(self) -> float:
        """Width over height of a typical picture; 1 where there is none."""
        return float(np.clip(np.median(self._ratios), _NARROWEST, _WIDEST)) if self._ratios else 1.0

    @property
    def num_pictures(self) -> int:
        """Items with a picture."""
        return len(self._ratios)

    @property
    def are_few(self) -> bool:
        """Whether most items lack a picture, so that rows of titles say more than tiles."""
        return 2 * self.num_pictures < len(self.items)

    def _read(self, path: str | None) -> str | None:
        """A WebP picture in base64."""
        if path is None or self._bytes_left <= 0:
            return None
        try:
            data = read_image(path, self._folders)
            with Image.open(io.BytesIO(data), formats=readable_formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                image.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))
                small = ImageOps.exif_transpose(image).convert("RGB")
                small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        except (UnreadableImage, InputError, OSError, Image.DecompressionBombError):
            # The encode stage has counted it among its rejected rows already.
            return None
        self._ratios.append(small.width / small.height)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=_QUALITY, method=4)
        text = base64.b64encode(buffer.getvalue()).decode()
        self._bytes_left -= len(text)
        return text
