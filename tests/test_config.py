from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kdsr_tf.config import Config, dump_config, load_config, methods, override, select
from kdsr_tf.config.loading import UniqueKeyLoader
from kdsr_tf.errors import ConfigError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def test_defaults_are_the_designs():
    config = load_config()
    assert (config.windows.max_length, config.windows.stride) == (50, 25)
    assert (config.teach.num_domains, config.teach.num_codes) == (8, 100)
    assert (config.model.dim, config.train.batch_size) == (128, 512)
    assert (config.distillation.temperature, config.train.slow_start_epochs) == (1.5, 10)
    assert config.modalities == ()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configuration_is_valid_and_survives_a_dump(path, tmp_path):
    config = load_config(str(path))
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config))
    assert load_config(str(copy)) == config
    assert config.modalities


def test_dump_is_readable_in_every_script():
    assert "workdir: Läden/店" in dump_config(load_config(workdir="Läden/店"))


def test_shipped_configurations_name_no_folder():
    for path in CONFIGS:
        config = load_config(str(path))
        assert config.source.path is None
        for modality in config.modalities:
            section = getattr(config.encode, modality)
            assert getattr(section, "weights", None) is None and section.preset is None


IISAN = ["model.method=iisan", "encode.text.states.groups=2"]


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["train.epoch=3"], ["Unknown", "`train.epoch`", "train.epochs"]),
        (["trian.epochs=3"], ["Unknown", "`trian`", "train"]),
        (["encode.text.encodr=embedded"], ["`encode.text.encodr`", "encode.text.encoder"]),
        (["train.epochs=many"], ["`train.epochs`", "integer", "'many'"]),
        (["train.epochs=0"], ["`train.epochs`", "greater than 0", "0"]),
        (["encode.text.max_tokens=2"], ["`encode.text.max_tokens`", "equal to 3", "2"]),
        (["train=3"], ["`train`", "3"]),
        (["teach.correlation=sine"], ["`teach.correlation`", "cosine", "'sine'"]),
        (["model.dim=100"], ["teach.num_domains", "divide", "model.dim=100"]),
        (["model.backbone=sasreck"], ["model.backbone", "gru4rec", "Did you mean sasrec?"]),
        (["model.num_heads=3"], ["num_heads=3", "divide", "model.dim", "dim=128"]),
        (["model.backbone=nova", "model.options.fusio=add"], ["no option `fusio`", "fusion"]),
        (
            ["model.backbone=nova", "model.options.fusion=sum"],
            ["model.options.fusion", "'gating'", "'sum'"],
        ),
        (["model.backbone=sasrm"], ["sasrm", "needs modality tables", "encode.text.encoder"]),
        (
            ["model.last_item=true"],
            ["model.output=ids", "no modality", "model.last_item=false"],
        ),
        (["model.method=iisan"], ["no modality has one", "encode.text.encoder"]),
        (
            [*IISAN, "encode.image={}"],
            ["encode.image.states=null", "encode.image.states.groups=6"],
        ),
        ([*IISAN, "model.output=fused"], ["model.output=fused", "model.method=kdsr"]),
        ([*IISAN, "model.modality_tables=frozen"], ["model.modality_tables=frozen", "Leave it"]),
        ([*IISAN, "model.tied=false"], ["model.tied=False", "Leave it out"]),
        ([*IISAN, "model.backbone=sasrm"], ["sasrm", "model.backbone=sasrec"]),
        ([*IISAN, "side.towers=[inter]"], ["two modalities", "for text only"]),
        ([*IISAN, "side.towers=[]"], ["`side.towers`", "null"]),
        ([*IISAN, "train.negatives=9"], ["train.negatives=9", "model.method=kdsr"]),
        ([*IISAN, "train.lazy_tables=true"], ["side.ids=false", "train.lazy_tables=false"]),
        (
            [*IISAN, "side.distil=true", "distillation.enabled=false"],
            ["side.distil=true", "distillation.enabled=false"],
        ),
        (["windows.stride=60"], ["windows.stride", "windows.max_length=50"]),
        (
            ["encode.text.encoder=embedded", "model.modality_tables=off"],
            ["distillation.enabled=true", "model.modality_tables=off", "tuned"],
        ),
        (
            ["encode.text.encoder=embedded", "model.modality_tables=frozen"],
            ["frozen", "distillation.force=true"],
        ),
        (
            ["encode.text.encoder=embedded", "distillation.weights.image_score=1"],
            ["image_score", "text_score"],
        ),
        (
            ["train.label_smoothing=0.1", "train.negatives=9"],
            ["label_smoothing=0.1", "train.negatives=null"],
        ),
        (["train.epochs"], ["KEY=VALUE", "'train.epochs'"]),
        (["evaluate.cutoffs=[]"], ["`evaluate.cutoffs`", "at least 1"]),
        (["serve.grpc_port=99999"], ["`serve.grpc_port`", "65535", "99999"]),
        (["workdir="], ["`workdir`", "at least 1"]),
    ],
)
def test_mistake_is_named_with_its_remedy(assignments, words):
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=assignments)
    for word in words:
        assert word in str(caught.value)


def test_every_wrong_type_is_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["train.epochs=x", "model.dim=y"])
    assert "`train.epochs`" in str(caught.value) and "`model.dim`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "not valid YAML"),
        ("seed: 1\nseed: 2", "seed stands there twice"),
        ("- 1", "Received: list"),
        (b"\xff\xfe\xfa", "not valid YAML"),
    ],
)
def test_broken_file_is_a_config_error(tmp_path, text, word):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=word) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value)


def test_merged_keys_may_be_replaced_wherever_the_mapping_stands():
    text = "base: &base {a: 1, b: 2}\ndeep: {own: &own {<<: *base, b: 3}}\nother: {<<: *own, c: 4}"
    merged = yaml.load(text, UniqueKeyLoader)
    assert merged["deep"]["own"] == {"a": 1, "b": 3}
    assert merged["other"] == {"a": 1, "b": 3, "c": 4}


def test_overrides_win_over_the_file_and_the_last_one_wins(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("train: {epochs: 5, batch_size: 7}\n")
    config = load_config(str(path), ["train.epochs=6", "train.epochs=8"], workdir="gs://b/w")
    assert (config.train.epochs, config.train.batch_size, config.workdir) == (8, 7, "gs://b/w")


def test_select_gives_plain_data():
    config = Config(seed=3)
    assert select(config, ("seed", "evaluate.cutoffs")) == {"seed": 3, "evaluate.cutoffs": [5, 20]}


@pytest.mark.parametrize(
    "text",
    ["2024-05-01", "007", "1e3", "Item #{title}", "a: b", "[x]", " two ", "yes", "~x", '"q"', "#"],
)
def test_text_of_an_override_is_taken_as_typed(text):
    keys = ["encode.text.template", "source.columns.item_id", "serve.version_labels.stable"]
    config = load_config(overrides=[f"{keys[0]}={text}", f"{keys[1]}={text}", f"{keys[2]}=3"])
    assert (config.encode.text.template, config.source.columns["item_id"]) == (text, text)
    assert config.serve.version_labels == {"stable": 3}


def test_text_that_may_be_null_takes_names_and_null():
    for text in ("2024-05-01", "007"):
        assert load_config(overrides=[f"run={text}"]).run == text
    assert load_config(overrides=["source.path=data/shop #2"]).source.path == "data/shop #2"
    for text in ("null", ""):
        assert load_config(overrides=["run=a", f"run={text}"]).run is None


def test_other_overrides_are_yaml_in_which_a_text_keeps_its_hash():
    given = ["encode.text.arguments.name=shop #2", "encode.text.arguments.quoted='a #1'"]
    given += ["encode.text.arguments.size=3", "evaluate.cutoffs=[5, 10]", "train.weight_decay=0.1"]
    config = load_config(overrides=given)
    expected = {"name": "shop #2", "quoted": "a #1", "size": 3}
    assert config.encode.text.arguments == expected
    assert (config.evaluate.cutoffs, config.train.weight_decay) == ([5, 10], 0.1)


def test_number_in_a_file_where_a_text_belongs_names_the_quotes(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("run: 007\n")
    with pytest.raises(ConfigError, match=r"`run`: .*Received: 7\. .* in quotes\."):
        load_config(str(path))


def test_overrides_of_texts_need_no_quotes():
    texts = ["encode.text.template={title}", "source.columns.user_id=1", "source.path=2024"]
    config = load_config(overrides=[*texts, "encode.text.preset=null"])
    assert (config.encode.text.template, config.encode.text.preset) == ("{title}", None)
    assert (config.source.columns, config.source.path) == ({"user_id": "1"}, "2024")
    others = ["source.image_folders=[gs://a]", "encode.text.arguments={letters: aeiou}"]
    config = load_config(overrides=others)
    assert config.source.image_folders == ["gs://a"]
    assert config.encode.text.arguments == {"letters": "aeiou"}


def test_what_kdsr_needs_is_not_asked_of_another_method(monkeypatch):
    monkeypatch.setitem(methods.NEEDS, "own", lambda config: methods.Needs())
    overrides = ["encode.text.encoder=embedded", "model.modality_tables=off"]
    with pytest.raises(ConfigError, match="Distillation needs modality tables"):
        load_config(overrides=overrides)
    assert load_config(overrides=[*overrides, "model.method=own"]).model.method == "own"
    assert (
        load_config(overrides=["model.backbone=sasrm", "model.method=own"]).needs == methods.Needs()
    )
    with pytest.raises(ConfigError, match=r"train.negatives=9. Leave it out, or set .*kdsr"):
        load_config(overrides=["model.method=own", "train.negatives=9"])


def test_iisan_reads_states_and_tables_only_if_it_is_told():
    needs = load_config(overrides=[*IISAN, "side.learning_rate=0.5"]).needs
    assert needs.states == ("text",) and needs.sections == ("side",)
    assert not needs.pairs and not needs.teachers and not needs.content
    assert needs.learning_rates == {"side": 0.5}
    needs = load_config(overrides=[*IISAN, "side.distil=true"]).needs
    assert needs.pairs == needs.teachers == ("text",) and not needs.learning_rates
    assert needs.sections == ("side", "distillation")
    lazy = load_config(overrides=[*IISAN, "side.ids=true", "train.lazy_tables=true"])
    assert lazy.train.lazy_tables


def test_keys_of_earlier_files_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "encode: {text: {}}\nmodel: {output: fused, first_order: true}\n"
        "places: {sequences: shared}\n"
    )
    read = load_config(str(path))
    assert read.model.last_item and read.artifact_folders == {"sequences": "shared"}
    assert not override(read, ["model.first_order=false"]).model.last_item
    assert "first_order" not in dump_config(read) and "places" not in dump_config(read)

    path.write_text("encode: {text: {}}\nmodel: {last_item: true, first_order: true}\n")
    with pytest.raises(ConfigError, match=r"`model.first_order` .* `model.last_item`, and both"):
        load_config(str(path))
