"""The public names fit a student on JAX, from batches in memory, with no TensorFlow."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from kdsr_tf import stages
from kdsr_tf.config import Config
from kdsr_tf.data.arrays import write_arrays
from tests import factories

ON_JAX = """
    from kdsr_tf import light_imports; light_imports.install()
    import json, sys
    import kdsr_tf
    undocumented = [name for name in kdsr_tf.__all__ if not getattr(kdsr_tf, name).__doc__]
    import keras, numpy as np
    from kdsr_tf import KDSR, Student, grouped_adam, variable_groups
    from kdsr_tf.data.arrays import ArrayBatches, WindowArrays
    from kdsr_tf.training.rates import current_rates

    folder, backbone = sys.argv[1:]
    vectors, present = (np.load(f"{folder}/teacher/text/{n}.npy") for n in ("vectors", "present"))
    student = Student(
        num_items=40, dim=8, max_length=6, backbone=backbone, num_layers=1, num_heads=1,
        modalities=("text",),
    )
    student.set_modality_vectors("text", vectors, present)
    prefixes = not student.backbone.causal
    train = ArrayBatches(WindowArrays(f"{folder}/train.npz"), 16, 6, seed=0, prefixes=prefixes)
    validation = ArrayBatches(WindowArrays(f"{folder}/validation.npz"), 16, 6)
    model = KDSR(student, num_codes=5, pairs_per_window=8)
    table = np.array(student.modality_table("text"))
    optimizer = grouped_adam(variable_groups(model), 0.01, slow_start_steps=1000)
    model.compile(optimizer=optimizer)
    epochs = 2 if prefixes else 8
    history = model.fit(train, validation_data=validation, epochs=epochs, verbose=0).history
    print(json.dumps({
        "backend": keras.backend.backend(),
        "undocumented": undocumented,
        "imported": [m for m in ("tensorflow", "apache_beam") if m in sys.modules],
        "steps": epochs * len(train),
        "loss": history["loss"],
        "code": history["text_code"],
        "validation": history["val_hr_20"],
        "rates": current_rates(optimizer),
        "moved": float(np.abs(np.array(student.modality_table("text")) - table).max()),
    }))
"""


@pytest.mark.parametrize("backbone", ["sasrec", pytest.param("sr_gnn", marks=pytest.mark.slow)])
def test_fit_on_jax(tmp_path, backbone):
    config = Config(
        workdir=str(tmp_path),
        encode={"text": {}},
        windows={"max_length": 6, "stride": 4},  # few lengths: each is compiled
        model={"dim": 8},
        teach={"num_codes": 5},
    )
    factories.write_workdir(config, num_users=64)
    for split in ("train", "validation"):
        examples = stages.location(config, "examples")
        write_arrays(examples, split, str(tmp_path / f"{split}.npz"))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ON_JAX), str(tmp_path), backbone],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["backend"] == "jax"
    assert result["undocumented"] == result["imported"] == []
    assert result["loss"][-1] < 0.98 * result["loss"][0]
    assert result["code"][-1] < result["code"][0]
    assert all(0 <= value <= 1 for value in result["validation"])
    # From a tenth of 0.01 towards 0.01, over 1000 steps.
    expected = 0.001 + 0.009 * result["steps"] / 1000
    assert abs(result["rates"]["modality_tables"] - expected) < 1e-6
    assert result["moved"] > 0
