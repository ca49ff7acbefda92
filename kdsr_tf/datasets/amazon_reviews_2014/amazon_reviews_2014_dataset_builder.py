"""Amazon reviews of 2014, 5-core, as interactions and catalogue.

    tfds build --imports=kdsr_tf.datasets.builders \\
        amazon_reviews_2014/beauty amazon_reviews_2014/beauty_items
    kdsr run --config configs/beauty.yaml --set source.path=tfds:amazon_reviews_2014/beauty
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kdsr_tf.datasets import building
from kdsr_tf.datasets.published import amazon

_URL = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_CATEGORIES = {
    "beauty": "Beauty",
    "clothing": "Clothing_Shoes_and_Jewelry",
    "sports": "Sports_and_Outdoors",
    "toys": "Toys_and_Games",
}
_ITEMS = "_items"


class Builder(tfds.core.GeneratorBasedBuilder):
    """Per category: `NAME` (every review) and `NAME_items` (the reviewed items)."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "Initial release.",
        "2.0.0": "Tags of HTML are taken out of texts.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Nothing is required. To work without a network, put reviews_CATEGORY_5.json.gz and "
        f"meta_CATEGORY.json.gz ({_URL}) here, CATEGORY being one of "
        f"{', '.join(_CATEGORIES.values())}. To have pictures, put them here as "
        "images/ASIN.jpg."
    )
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=name + kind, description=f"{category}: {what}.")
        for name, category in _CATEGORIES.items()
        for kind, what in (("", "reviews of the 5-core"), (_ITEMS, "reviewed items"))
    ]
    CATALOGUES: ClassVar[dict[str, str]] = {name: name + _ITEMS for name in _CATEGORIES}

    def _info(self) -> tfds.core.DatasetInfo:
        features = building.interaction_features()
        if self._is_catalogue:
            text = tfds.features.Text
            features = building.item_features(
                description=text(),
                brand=text(),
                categories=tfds.features.Sequence(text()),
                price=np.float32,
                image_url=text(),
            )
        return tfds.core.DatasetInfo(
            builder=self,
            features=features,
            disable_shuffling=True,  # records keep the order of the published file
            description="Amazon reviews until July 2014 of users and items with 5 or more each.",
            homepage="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
            license="Research use; see the home page.",
            citation=(
                "@inproceedings{mcauley2015image, title={Image-based Recommendations on Styles "
                "and Substitutes}, author={McAuley, Julian and Targett, Christopher and Shi, "
                "Qinfeng and van den Hengel, Anton}, booktitle={SIGIR}, year={2015}}"
            ),
        )

    @property
    def _is_catalogue(self) -> bool:
        return self.builder_config.name.endswith(_ITEMS)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        category = _CATEGORIES[self.builder_config.name.removesuffix(_ITEMS)]
        names = {"reviews": f"reviews_{category}_5.json.gz"}
        if self._is_catalogue:
            names["meta"] = f"meta_{category}.json.gz"
        by_hand = building.given_by_hand(dl_manager)
        found = {
            key: by_hand / name
            for key, name in names.items()
            if by_hand and (by_hand / name).exists()
        }
        rest = {key: _URL + name for key, name in names.items() if key not in found}
        paths = {
            key: os.fspath(path)
            for key, path in (found | (dl_manager.download(rest) if rest else {})).items()
        }
        piece = amazon.reviews_of(paths["reviews"])
        if self._is_catalogue:
            piece = amazon.items_of(paths["meta"], piece)
        images = building.picture_names(by_hand)
        return {building.SPLIT: self._generate_examples(piece, images)}

    def _generate_examples(
        self, piece: Any, images: dict[str, str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from building.examples(piece, self.info.features, images)
