"""Sequence encoders behind one interface.

`BACKBONES` maps the names of a configuration to classes; it is imported on
first use, so that importing this package stays cheap.
"""

from __future__ import annotations


def __getattr__(name: str):
    if name == "BACKBONES":
        from kdsr_tf.backbones.catalogue import BACKBONES

        return BACKBONES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
