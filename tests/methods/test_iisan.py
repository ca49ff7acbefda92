"""The method `iisan` as a configuration asks for it."""

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdsr_tf import schema, stage_frame, stages
from kdsr_tf.config import load_config, override
from kdsr_tf.data.examples import Examples
from kdsr_tf.errors import ConfigError
from kdsr_tf.methods.registry import build_model
from kdsr_tf.methods.training_inputs import read_training_inputs
from kdsr_tf.training.rates import variable_groups
from kdsr_tf.training.warm_start import WarmStart
from tests import factories

OVERRIDES = (
    "model.method=iisan",
    "encode.text.states.groups=2",
    "encode.image.states.groups=1",
    "model.dim=8",
    "model.num_layers=1",
    "windows.max_length=12",
    "windows.stride=12",
    "teach.num_codes=6",
    "side.hidden=4",
    "side.distil=true",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    made = load_config(overrides=OVERRIDES, workdir=str(tmp_path_factory.mktemp("iisan")))
    factories.write_workdir(made)
    return made


@pytest.fixture(scope="module")
def read(config):
    return read_training_inputs(config, stage_frame.read_inputs(config, "student"))


def test_the_network_has_the_statistics_and_every_option_of_the_configuration(config, read):
    other = override(config, ["side.towers=[intra]", "side.head=paper", "side.width=5"])
    network = build_model(other, read).recommender.item_encoder.network
    assert network.options._asdict() == {
        "towers": ("intra",),
        "hidden": 4,
        "activation": "relu",
        "gate_temperature": 0.1,
        "first": "gated",
        "normalise": "level",
        "head": "paper",
        "width": 5,
        "dtl_rank": None,
    }
    assert network.sizes == {"image": (3, 5), "text": (8, 8, 8)}
    for m, levels in network.levels.items():
        assert np.allclose(levels.mean, read.states[m].mean)
        assert np.allclose(levels.scale, 1 / read.states[m].deviation)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_step_learns_the_next_item_and_the_pairs_of_the_teacher(config, read, precision):
    model = build_model(override(config, [f"train.precision={precision}"]), read)
    assert set(variable_groups(model)) == {"side", "rest"}
    terms = {"next_item", "image_score", "image_code", "text_score", "text_code"}
    assert set(model.term_weights) == terms
    folder = stages.location(config, stages.windows_of(config))
    examples = Examples(folder, 12, config.needs.pairs, content=read.content)
    model.compile(keras.optimizers.Adam(0.01))
    batch = next(iter(examples.train_batches(64, 1, seed=0)))
    before = {v.path: np.array(v) for v in model.trainable_variables}
    logs = model.train_on_batch(batch, return_dict=True)
    assert all(np.isfinite(logs[term]) and logs[term] > 0 for term in terms)
    still = [v.path for v in model.trainable_variables if np.array_equal(v, before[v.path])]
    # What no item of the batch lacks is not missed.
    assert all(path.endswith("absent") for path in still)


def test_a_later_student_must_be_of_the_same_network(config, read, tmp_path):
    model = build_model(config, read)
    path = str(tmp_path / "student.keras")
    model.recommender.save(path)
    items = {schema.ITEM_ID: [f"item{k:04d}" for k in range(1, 41)]}
    pq.write_table(pa.table(items), str(tmp_path / "items.parquet"))
    start = WarmStart(path, ["item0001", "item0007"])
    start.apply(build_model(override(config, ["seed=3"]), read).recommender)
    other = build_model(override(config, ["side.activation=gelu"]), read).recommender
    with pytest.raises(ConfigError, match=r"another kind\. `network` there"):
        start.apply(other)


def test_a_backbone_of_prefixes_is_refused(config, read):
    with pytest.raises(ConfigError, match="sr_gnn learns from prefixes"):
        build_model(override(config, ["model.backbone=sr_gnn"]), read)
