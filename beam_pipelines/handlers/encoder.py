"""The encoder interface, and what text and image encoders share.

`docs/encoders.md` shows how to plug in an encoder of your own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from beam_pipelines.handlers.decode_pictures import read_picture
from beam_pipelines.handlers.hidden_states import StateChoice, States
from beam_pipelines.handlers.kept_pictures import KeptPictures
from kdsr_tf.errors import ConfigError
from kdsr_tf.rules import MAX_PIXELS
from kdsr_tf.sources.image_files import UnreadableImage, is_far, read_image

LONGEST_TEXT = 100_000
"""Characters of a text above which it is taken for broken data."""

_READERS = 8
"""Most pictures decoded ahead side by side: as many where they lie far away, one per processor
where they do not, because more threads that only decode would wait for Python's lock."""

_models: dict[str, Any] = {}
_models_lock = threading.Lock()


class Unusable(Exception):
    """An element that cannot be encoded; the message is the reason, equal for equal causes."""


class Encoder(ModelHandler[Any, np.ndarray | Unusable, Any]):
    """A Beam model handler that turns contents into vectors.

    `identify` and `prepare` see single contents, so that a bad one is set aside
    alone; `encode` sees sound elements only.
    Instances are pickled to the workers: keep plain values in `self` and load
    everything else in `build`.

    Args:
        batch_size: Elements per call of the model, > 0.
    """

    name = "encoder"
    """Short name for the manifest."""

    origin: dict[str, Any] | None = None
    """What the configuration says of a class of one's own; part of the digest."""

    chosen: StateChoice | None = None
    """Which states are kept beside the vectors, set by the job; None keeps none."""

    group_size = 1024
    """Elements the job hands to `encode` together, about. Groups are sets of contents
    with equal hashes, not what Beam's `BatchElements` happens to see together: the
    same whatever the number of workers, and with them the calls that `encode` cuts
    them into and every byte of the vectors."""

    def __init__(self, batch_size: int = 64):
        super().__init__(max_batch_size=batch_size)
        self.batch_size = batch_size

    def identify(self, content: Any) -> bytes:
        """Bytes that are equal exactly for contents to encode once.

        Raises:
            Unusable: if the content cannot be read at all.
        """
        raise NotImplementedError

    def prepare(self, content: Any) -> Any:
        """One element of an `encode` batch.

        Raises:
            Unusable: if the content cannot be encoded.
        """
        return content

    def build(self) -> Any:
        """Load the model. Called once per process."""
        raise NotImplementedError

    def size(self, model: Any) -> int:
        """Length of the vectors of a built model."""
        raise NotImplementedError

    def encode(self, batch: Sequence[Any], model: Any) -> np.ndarray:
        """Vectors of prepared elements, float32 `[len(batch), size]`.

        With `chosen` states, each row is the vector, then the states of `states`, side by side.
        """
        raise NotImplementedError

    def states(self, model: Any) -> States | None:
        """The states of `chosen` that a built model gives; None if none are asked for.

        Raises:
            ConfigError: if this encoder has none, or not those.
        """
        if self.chosen is None:
            return None
        raise self.chosen.refuse(f"the encoder {self.name}", "it has no layers to look into")

    def parameters(self) -> dict[str, Any]:
        """Plain values that change the vectors or who gets one; part of the digest."""
        return {}

    def merge(self, vectors: np.ndarray) -> np.ndarray:
        """One vector of an item with several contents: the mean of `[count, size]`."""
        return vectors.mean(axis=0, dtype=np.float64).astype(np.float32)

    def files(self) -> list[str]:
        """Local files whose content changes the vectors; part of the digest."""
        return []

    def digest(self) -> str:
        """16 hexadecimal digits over the name, the parameters and the weights.

        May load the model, where a preset name stands for the weights.
        """
        return self.identity()

    def identity(self) -> str:
        """16 hexadecimal digits over the name, the parameters and local files.

        What planning compares: never loads the model.
        """
        described = [self.name, self.parameters(), *([self.origin] if self.origin else [])]
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        for path in self.files():
            digest.update(os.path.basename(path).encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()[:16]

    def load_model(self) -> Any:
        """The model, built once per process and kept until another one is asked for.

        The same files, written anew, make another one.
        """
        stats = [(path, os.stat(path)) for path in self.files()]
        files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        described = [type(self).__qualname__, self.parameters(), self.origin, files]
        key = f"{json.dumps(described, sort_keys=True)} {self.chosen}"
        with _models_lock:
            if key not in _models:
                _models.clear()
                _models[key] = self.build()
            return _models[key]

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[np.ndarray | Unusable]:
        """For Beam's `RunInference`: each content's vector, or why it has none.

        Prepared elements, such as decoded pictures, never leave this call, so that no
        runner can come to copy them between two transforms.

        Raises:
            ConfigError: if `encode` does not return one vector per element.
        """
        return self._encoded(self._prepared(batch), model)

    def _encoded(self, prepared: Sequence[Any], model: Any) -> list[np.ndarray | Unusable]:
        """Vectors in the places of prepared elements; what is unusable stays."""
        sound = [element for element in prepared if not isinstance(element, Unusable)]
        vectors = self.encode(sound, model) if sound else ()
        if len(vectors) != len(sound):
            raise ConfigError(
                f"`encode` of {type(self).__qualname__} must return one vector per element. "
                f"Received: {len(vectors)} for {len(sound)}."
            )
        rows = iter(vectors)
        return [e if isinstance(e, Unusable) else next(rows) for e in prepared]

    def _prepared(self, batch: Sequence[Any]) -> list[Any]:
        """Every content prepared, or the reason why it is not."""
        return [self._prepare_one(content) for content in batch]

    def _prepare_one(self, content: Any) -> Any:
        try:
            return self.prepare(content)
        except Unusable as reason:
            return reason


class TextEncoder(Encoder):
    """Base of encoders whose contents are texts."""

    def identify(self, content: str) -> bytes:
        try:
            return content.encode()
        except UnicodeEncodeError:
            raise Unusable("text is not valid Unicode") from None

    def prepare(self, content: str) -> str:
        if len(content) > LONGEST_TEXT:
            raise Unusable(f"text is longer than {LONGEST_TEXT} characters")
        return content


class ImageEncoder(Encoder):
    """Base of encoders whose contents are pictures: paths, URIs or the bytes of files.

    `prepare` decodes and resizes, on several threads: `encode` sees uint8
    `[image_size, image_size, 3]`.
    Files larger than `image_files.LARGEST_BYTES` are refused before they are read.

    Args:
        image_size: Side of the square picture, in pixels.
        max_pixels: Pictures with more pixels are refused before decoding.
        batch_size: Elements per call of the model, > 0.
    """

    group_size = 512

    folders: Sequence[str] = ()
    """Folders and URIs that the user declared: where web addresses may redirect to."""

    kept: KeptPictures | None = None
    """Remote pictures that `identify` has read and `prepare` will need; set by the job."""

    def __init__(self, image_size: int = 224, max_pixels: int = MAX_PIXELS, batch_size: int = 32):
        super().__init__(batch_size)
        self.image_size = image_size
        self.max_pixels = max_pixels

    def parameters(self) -> dict[str, Any]:
        # A smaller limit must not keep vectors of pictures that it refuses.
        return {"image_size": self.image_size, "max_pixels": self.max_pixels}

    def identify(self, content: str | bytes) -> bytes:
        data = self._read(content)
        if self.kept is not None and is_far(content):
            self.kept.keep(str(content), data)
        return data

    @contextlib.contextmanager
    def preparing(self, batch: Sequence[str | bytes]) -> Iterator[list[Future]]:
        """Every content being prepared on several threads: futures of elements or `Unusable`."""
        far = any(map(is_far, batch))
        with ThreadPoolExecutor(_READERS if far else min(os.cpu_count() or 1, _READERS)) as pool:
            try:
                yield [pool.submit(self._prepare_one, content) for content in batch]
            finally:
                # After an error the rest is not waited for.
                pool.shutdown(cancel_futures=True)

    def _prepared(self, batch: Sequence[str | bytes]) -> list[Any]:
        with self.preparing(batch) as elements:
            return [element.result() for element in elements]

    def prepare(self, content: str | bytes) -> np.ndarray:
        kept = None
        if self.kept is not None and is_far(content):
            kept = self.kept.take(str(content))
        data = self._read(content) if kept is None else kept
        try:
            return read_picture(data, self.image_size, self.max_pixels)
        except ValueError as error:
            raise Unusable(str(error)) from None

    def _read(self, content: str | bytes) -> bytes:
        try:
            return read_image(content, self.folders)
        except UnreadableImage as reason:
            raise Unusable(str(reason)) from None
