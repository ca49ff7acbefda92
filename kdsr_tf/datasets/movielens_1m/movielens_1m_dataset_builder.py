"""MovieLens-1M as interactions and catalogue.

tfds build kdsr_tf/datasets/movielens_1m
kdsr run --config configs/ml1m.yaml --set source.path=tfds:movielens_1m
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from kdsr_tf.datasets import building
from kdsr_tf.datasets.published import movielens

_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"


class Builder(tfds.core.GeneratorBasedBuilder):
    """`interactions` (every rating) and `items` (every movie), from the official archive."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Nothing is required. To work without a network, put ml-1m.zip ({_URL}) here. To have "
        "posters, put them here as images/MOVIE_ID.jpg."
    )
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="interactions", description="Ratings with their time."),
        tfds.core.BuilderConfig(name="items", description="Movies with titles and genres."),
    ]
    CATALOGUES: ClassVar[dict[str, str]] = {"interactions": "items"}

    def _info(self) -> tfds.core.DatasetInfo:
        features = building.interaction_features()
        if self.builder_config.name == "items":
            genres = tfds.features.Sequence(tfds.features.Text())
            features = building.item_features(genres=genres)
        return tfds.core.DatasetInfo(
            builder=self,
            features=features,
            disable_shuffling=True,  # records keep the order of the published file
            description="1,000,209 ratings of 3,706 movies by 6,040 users, in their order.",
            homepage="https://grouplens.org/datasets/movielens/1m/",
            license="Research use, no redistribution; see the archive's README.",
            citation=(
                "@article{harper2015movielens, title={The MovieLens Datasets: History and "
                "Context}, author={Harper, F. Maxwell and Konstan, Joseph A.}, "
                "journal={ACM Transactions on Interactive Intelligent Systems}, volume={5}, "
                "number={4}, year={2015}}"
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = os.fspath(dl_manager.download_and_extract(_URL) / "ml-1m")
        ratings, movies = (os.path.join(folder, name) for name in ("ratings.dat", "movies.dat"))
        images = building.picture_names(building.given_by_hand(dl_manager))
        if self.builder_config.name == "items":
            piece = movielens.movies_of(movies)
        else:
            piece = movielens.ratings_of(ratings)
        return {building.SPLIT: self._generate_examples(piece, images)}

    def _generate_examples(
        self, piece: Any, images: dict[str, str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from building.examples(piece, self.info.features, images)
