"""Starting TensorFlow and Keras without what they import only because it is installed."""

from __future__ import annotations

import importlib.abc
import sys

_WITHOUT = {
    "jax": ("keras.src.callbacks.orbax_checkpoint", "tensorflow.lite.python.util"),
    "matplotlib": (
        "keras.src.visualization.plot_bounding_box_gallery",
        "keras.src.visualization.plot_image_gallery",
    ),
    "pandas": (
        "keras.src.trainers.data_adapters.array_slicing",
        "tf_keras.src.engine.data_adapter",
    ),
    "sklearn": ("keras.src.wrappers",),
}
"""What is not imported, and by which modules, of TensorFlow 2.20, Keras 3.15 and tf_keras 2.20."""


class _Finder(importlib.abc.MetaPathFinder):
    """Tells those modules, while they are imported themselves, that it is not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if any(map(_is_starting, _WITHOUT.get(fullname, ()))):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _is_starting(name: str) -> bool:
    # Where Python has no such attribute, everything is imported as usual.
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


def install() -> None:
    """Let this process start TensorFlow and Keras with about half the processor time.

    They try to import other frameworks, for wrappers and converters that nothing here uses:
    3 of 6.8 seconds (medians of three starts). Everybody else finds these frameworks as usual.
    Call it in a process of this package's own, before TensorFlow or Keras is imported: the
    wrappers of Keras for scikit-learn, for example, do not work there.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
