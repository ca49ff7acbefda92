"""Experiment files: what they may say, and what arms they mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdsr_tf import stages
from kdsr_tf.backbones.catalogue import BACKBONES, find_backbone
from kdsr_tf.errors import ConfigError
from kdsr_tf.experiments.experiment import Experiment, load_experiment, packaged_experiments
from kdsr_tf.experiments.planned_arms import input_locations, plan_arms
from kdsr_tf.experiments.search import load_space
from tests.experiments.planted import config_in, external

GRID = {
    "name": "grid",
    "description": "Which?",
    "variables": {"folder": "where it is"},
    "axes": {
        "codebook": {"vq": ["teach.codebook=vq"], "kmeans": ["teach.codebook=kmeans"]},
        "text": {"a": [], "b": ["encode.text.preset=${folder}"]},
    },
    "reference": "vq-a",
}


def test_arms_of_a_grid_are_its_product_in_order():
    grid = Experiment.model_validate(GRID)
    assert grid.every_arm() == {
        "vq-a": ("teach.codebook=vq",),
        "vq-b": ("teach.codebook=vq", "encode.text.preset=${folder}"),
        "kmeans-a": ("teach.codebook=kmeans",),
        "kmeans-b": ("teach.codebook=kmeans", "encode.text.preset=${folder}"),
    }
    chosen = grid.chosen_arms(["*-b"], {"folder": "here"})
    assert list(chosen) == ["vq-b", "kmeans-b"]
    assert chosen["vq-b"][1] == "encode.text.preset=here"


def test_missing_variable_names_itself_its_meaning_and_its_arms():
    grid = Experiment.model_validate(GRID)
    with pytest.raises(ConfigError, match=r"--var folder=.*where it is \(arms vq-b, kmeans-b\)"):
        grid.chosen_arms()
    assert list(grid.chosen_arms(["vq-a"])) == ["vq-a"]
    with pytest.raises(ConfigError, match=r"no arm vq-c.*vq-a, vq-b"):
        grid.chosen_arms(["vq-a", "vq-c"])
    with pytest.raises(ConfigError, match=r"no variable floder.*folder"):
        grid.chosen_arms(["vq-a"], {"floder": "x"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": "vq"}, "`reference` must be one of the arms vq-a"),
        ({"ids_of": "x"}, "`ids_of` must be one of"),
        ({"arms": {"x": []}}, "either `arms` or `axes`"),
        ({"variables": {}}, "`variables` does not explain"),
        ({"metrics": ["hr"]}, "such as hr_20"),
        ({"metrics": ["hitrate_20"]}, "such as hr_20.*Received: hitrate_20"),
        ({"axes": {"a": {"x": [], "x-y": []}, "b": {"y-z": [], "z": []}}}, "the same name"),
        ({"base": ["workdir=elsewhere"]}, "`workdir` is not an arm's to set"),
        ({"base": ["places={}"]}, "`places` is not an arm's to set"),
        ({"colour": "red"}, "colour"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_file_is_one_clear_error(tmp_path, change, words):
    path = tmp_path / "mine.yaml"
    path.write_text(str(GRID | change))  # a dict's text is YAML
    with pytest.raises(ConfigError, match=words):
        load_experiment(str(path))


def test_an_arm_that_stands_there_twice_is_found(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\ndescription: d\narms:\n  a: []\n  a: []\nreference: a\n")
    with pytest.raises(ConfigError, match=r"key a stands there twice\n.*line 5"):
        load_experiment(str(path))


def test_files_in_the_documentation_are_valid(tmp_path):
    said = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    paths = []
    for text in re.findall(r"```yaml\n(.*?)```", said, re.DOTALL):
        paths.append(tmp_path / f"{len(paths)}.yaml")
        paths[-1].write_text(text)
    experiment, space = paths
    assert len(plan_arms(load_experiment(str(experiment)), config_in(tmp_path), external)) == 4
    load_space(str(space)).check(config_in(tmp_path))


def test_unknown_name_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"There is no ablatoin.*ablation, backbones"):
        load_experiment("ablatoin")


@pytest.mark.parametrize("name", list(packaged_experiments()))
def test_every_packaged_experiment_plans(name, tmp_path):
    """Each arm validates, has a run of its own and is another student than the others."""
    experiment = load_experiment(name)
    assert experiment.name == name
    config = config_in(tmp_path, "model.dim=64")
    values = {name: name for name in experiment.variables}
    arms = plan_arms(experiment, config, external, variables=values)
    assert [arm.name for arm in arms] == list(experiment.every_arm())
    assert len({arm.config.run for arm in arms}) == len(arms)
    students = {stages.fingerprints(arm.config, arm.external)["student"] for arm in arms}
    assert len(students) == len(arms)
    prefixes = [arm.config for arm in arms if not find_backbone(arm.config.model.backbone).causal]
    assert all(config.windows.stride == 1 for config in prefixes), "or training refuses them"


def test_backbones_are_the_whole_registry_and_the_paper_s_method():
    arms = load_experiment("backbones").every_arm()
    assert set(BACKBONES) | {"kdsr", "kdsr-sasrm"} == set(arms)
    for name in BACKBONES:
        assert f"model.backbone={name}" in arms[name]


def test_keys_of_the_command_line_stand_between_the_experiment_and_its_arms(tmp_path):
    experiment = Experiment(
        name="order",
        description="Who wins?",
        base=["train.epochs=3", "train.patience=3"],
        arms={"a": ["model.dropout=0.5"], "b": []},
        reference="a",
        metrics=["hr_10"],
    )
    given = ["train.epochs=2", "model.dropout=0.1"]
    arms = plan_arms(experiment, config_in(tmp_path, *given), external, given)
    found = [(a.config.train.epochs, a.config.train.patience, a.config.model.dropout) for a in arms]
    assert found == [(2, 3, 0.5), (2, 3, 0.1)]
    assert arms[0].config.evaluate.cutoffs == [5, 10, 20], "what is shown is measured"


def test_variables_of_the_base_are_filled_in(tmp_path):
    grid = Experiment.model_validate(GRID | {"base": ["model.dropout=${folder}"]})
    with pytest.raises(ConfigError, match=r"--var folder=.*arms vq-a\)"):
        grid.chosen_arms(["vq-a"])
    arms = plan_arms(grid, config_in(tmp_path), external, (), ["vq-a"], {"folder": "0.25"})
    assert arms[0].config.model.dropout == 0.25


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": {"a": [], "b": ["prepare.split=leave_last_out"]}}, "prepare.split=ratio and"),
        ({"arms": {"a": [], "b": ["evaluate.filter_seen=true"]}}, "evaluate.filter_seen=False and"),
        ({"metrics": ["image_diversity_20"]}, "arm a has no image"),
    ],
)
def test_arms_that_no_table_could_hold_are_refused_before_anything_runs(tmp_path, change, words):
    asked = {"name": "x", "description": "?", "arms": {"a": []}, "reference": "a"}
    with pytest.raises(ConfigError, match=words):
        plan_arms(Experiment.model_validate(asked | change), config_in(tmp_path), external)


def test_arms_share_what_is_equal_before_training(tmp_path):
    """Teachers differ, so examples do; features and sequences are the user's own."""
    arms = plan_arms(load_experiment("quantisation"), config_in(tmp_path), external)
    places = [
        {
            name: stages.location(arm.config, name).removeprefix(f"{tmp_path}/")
            for name in ("sequences", "features/text", "teacher/text", "examples")
        }
        for arm in arms
    ]
    for name in ("sequences", "features/text"):
        assert {one[name] for one in places} == {name}
    for name in ("teacher/text", "examples"):
        assert len({one[name] for one in places}) == len(arms)
    # The configuration's own teacher (k-means, cosine) stays where it is.
    examples = {arm.name: one["examples"] for arm, one in zip(arms, places, strict=True)}
    assert examples.pop("kmeans-cosine") == "examples"
    assert all(place.startswith("variants/examples/") for place in examples.values())


def test_sizes_share_the_features_of_an_encoder_and_encoders_the_sequences(tmp_path):
    config = config_in(tmp_path)
    values = {"t5": "x"}
    found = plan_arms(
        load_experiment("encoders"), config, external, only=["t5-*", "embedded-d64"],
        variables=values,
    )  # fmt: skip
    by_name = {arm.name: arm.config for arm in found}
    features = {name: stages.location(c, "features/text") for name, c in by_name.items()}
    assert features["embedded-d64"] == f"{tmp_path}/features/text"
    assert features["t5-d64"] == features["t5-d128"] != features["embedded-d64"]
    assert len({input_locations(c) for c in by_name.values()}) == 4


def test_arm_that_cannot_run_is_named_before_anything_runs(tmp_path):
    def missing(config):
        if config.encode.text.encoder == "keras_hub":
            raise ConfigError("The preset x does not exist.")
        return external(config)

    arguments = {"only": ["embedded-d64", "t5-d64"], "variables": {"t5": "x"}}
    with pytest.raises(ConfigError, match=r"arm t5-d64 .*cannot run.*preset x"):
        plan_arms(load_experiment("encoders"), config_in(tmp_path), missing, **arguments)
    with pytest.raises(ConfigError, match=r"arm full .*cannot run: The backbone sasrm"):
        plan_arms(
            load_experiment("ablation"), config_in(tmp_path), external,
            ["model.backbone=sasrm", "encode.text=null"],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"train.selection": {"choices": ["validation", "test_oracle"]}}, "cannot be searched"),
        ({"prepare.k_core": {"low": 0, "high": 5, "integer": True}}, "cannot be searched"),
        ({"places": {"choices": [1, 2]}}, "cannot be searched"),
        ({"model.dropout": {"low": 0.9, "high": 0.1}}, "`low` must be < `high`"),
        ({"train.learning_rate": {"low": 0, "high": 1, "log": True}}, "`log` needs `low` > 0"),
        ({}, "at least 1"),
    ],
)
def test_wrong_space_is_one_clear_error(tmp_path, parameters, words):
    path = tmp_path / "space.yaml"
    path.write_text(str({"name": "mine", "parameters": parameters}).replace("True", "true"))
    with pytest.raises(ConfigError, match=words):
        load_space(str(path))


def test_packaged_space_is_valid_to_its_edges_and_an_invalid_edge_is_found(tmp_path):
    space, config = load_space(), config_in(tmp_path)
    space.check(config)
    assert {"distillation.score_weight", "train.slow_start_epochs"} <= set(space.parameters)
    wrong = space.model_copy(
        update={"parameters": {"model.dropout": space.parameters["train.slow_start_epochs"]}}
    )
    with pytest.raises(ConfigError, match=r"cannot set model\.dropout.*less than 1"):
        wrong.check(config)
