"""Starting TensorFlow and Keras without what they import only because it is installed.

The names of their modules are private; they were read in TensorFlow 2.20, Keras 3.15 and tf_keras
2.20. If one is gone, nothing fails: a process starts seconds later, as without this module, and
tests/test_light_imports.py names the framework that is imported again. Then find the module that
imports it (`python -X importtime`) and put it into `_WITHOUT`, or drop the entry.
"""

from __future__ import annotations

import gc
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
"""Frameworks that are not imported, and the modules that would import them."""


class _Finder(importlib.abc.MetaPathFinder):
    """Tells these modules, while they are imported themselves, that a framework is missing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if any(map(_is_starting, _WITHOUT.get(fullname, ()))):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _is_starting(name: str) -> bool:
    # Private in Python's importlib; without it everything is imported as usual.
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


def install() -> None:
    """Let this process start TensorFlow and Keras with about half the processor time.

    They try to import other frameworks, for wrappers and converters that nothing here uses:
    3 of 6.8 seconds (medians of three starts). All other modules find these frameworks as usual.
    Call it in a process of this package's own, before TensorFlow or Keras is imported: the
    wrappers of Keras for scikit-learn, for example, do not work there.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        # Imports make a million objects that stay: after every 700 of them, Python's own
        # choice, looking for garbage took a seventh of the time of the start.
        gc.set_threshold(5_000)
