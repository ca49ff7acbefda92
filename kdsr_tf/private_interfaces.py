"""The check behind every use of a private name of another package.

Private names are used in these modules only, so that an upgrade is one reading of each:

- `kdsr_tf.keras_internals` and `kdsr_tf.light_imports`: Keras, and how TensorFlow imports;
- `kdsr_tf.export.tfrs_internals`: TensorFlow Recommenders and ScaNN;
- `beam_pipelines.beam_internals`: Apache Beam;
- `serving.internals`: TensorFlow's sessions and gRPC's statistics.

Each says in which version the names were read, what relies on them, what happens if they are
gone and what to do then. A test of each fails if a name is gone.
"""

from __future__ import annotations

from kdsr_tf.errors import KDSRError


def require(owner: object, *names: str, read_in: str) -> None:
    """Refuse to go on without private names of a class, module or object of another package.

    `read_in` is the package and the version in which they were read.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        shown = getattr(owner, "__name__", type(owner).__name__)
        raise KDSRError(
            f"{shown} has no {', '.join(missing)}. KDSR-TF uses it although it is private; it was "
            f"read in {read_in}. Install that version, or adapt the module that asks for it "
            "(kdsr_tf/private_interfaces.py lists them)."
        )
