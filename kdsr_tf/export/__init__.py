"""Export of a student for serving: the only importer of TensorFlow Recommenders.

TFRS 0.7.7 needs Keras 2 behind `tf.keras`, which TensorFlow decides when it is first
imported. Importing this package before TensorFlow sees to that; `indexes` refuses to load
where it came too late.
"""

import os
import sys

if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
