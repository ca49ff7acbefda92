"""The whole configuration."""

from __future__ import annotations

from typing import Annotated

import pydantic

from kdsr_tf.config.backbone_rules import check_backbone, needs_modalities
from kdsr_tf.config.data_sections import (
    DistillConfig,
    EncodeConfig,
    PrepareConfig,
    SourceConfig,
    TeachConfig,
    WindowsConfig,
)
from kdsr_tf.config.learning_sections import (
    DistillationConfig,
    EvaluateConfig,
    ModelConfig,
    SideConfig,
    TrainConfig,
)
from kdsr_tf.config.methods import NEEDS, OPTIONS, Needs, needs_of
from kdsr_tf.config.section import PathText, Section, Seed
from kdsr_tf.config.serving_sections import ExportConfig, ServeConfig
from kdsr_tf.config.side_rules import check_side
from kdsr_tf.rules import check_drawn_pairs, check_smoothing
from kdsr_tf.schema import MODALITIES

SharedArtifact = Annotated[
    str,
    pydantic.Field(
        pattern=r"^(sequences|examples|windows|(features|teacher|content|states)/(image|text))$"
    ),
]
FolderBelow = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][\w-]*(/[A-Za-z0-9][\w-]*)*$")]


class Config(Section):
    """The whole configuration.

    Args:
        workdir: Folder or URI that receives every artifact.
        run: Name of one of several students of a working directory. What is made from
            `examples/` on goes to `runs/<run>/`; what comes before is shared.
        artifact_folders: Folders below `workdir` of artifacts that are not at their usual place,
            by name, such as `{teacher/text: variants/teacher/text/1a2b}`. `kdsr
            experiment` and `kdsr search` set it, so that runs with teachers of their own
            share a working directory.
        seed: Seed of everything random.
    """

    workdir: Annotated[PathText, pydantic.Field(min_length=1)] = "work"
    run: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    artifact_folders: dict[SharedArtifact, FolderBelow] = pydantic.Field(default_factory=dict)
    seed: Seed = 0
    source: SourceConfig = SourceConfig()
    prepare: PrepareConfig = PrepareConfig()
    encode: EncodeConfig = EncodeConfig()
    teach: TeachConfig = TeachConfig()
    windows: WindowsConfig = WindowsConfig()
    distill: DistillConfig = DistillConfig()
    model: ModelConfig = ModelConfig()
    distillation: DistillationConfig = DistillationConfig()
    side: SideConfig = SideConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder, in the order of `MODALITIES`."""
        return tuple(name for name in MODALITIES if getattr(self.encode, name) is not None)

    @property
    def needs(self) -> Needs:
        """What training reads, as its method says."""
        return needs_of(self)

    @property
    def run_directory(self) -> str:
        """Folder or URI of the student and of what is made from it."""
        if self.run is None:
            return self.workdir
        return f"{self.workdir.rstrip('/')}/runs/{self.run}"

    @property
    def training_seed(self) -> int:
        """Seed of the student's weights, batches, dropout and drawn pairs."""
        return self.seed if self.train.seed is None else self.train.seed

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Config:
        if self.model.dim % self.teach.num_domains:
            raise ValueError(
                "`teach.num_domains` must divide `model.dim`. Received: "
                f"teach.num_domains={self.teach.num_domains}, model.dim={self.model.dim}."
            )
        if self.windows.stride > self.windows.max_length:
            raise ValueError(
                "`windows.stride` must be at most `windows.max_length`. Received: "
                f"windows.stride={self.windows.stride}, "
                f"windows.max_length={self.windows.max_length}."
            )
        model = self.model
        check_backbone(model.backbone, model.dim, model.num_heads, model.options)
        if model.method == "kdsr":
            self._check_tables()
        if "side" in self.needs.sections:
            check_side(self)
        if "distillation" in self.needs.sections:
            self._check_distillation()
        self._check_training()
        return self

    def _check_tables(self) -> None:
        model = self.model
        has_tables = self.modalities and model.modality_tables != "off"
        if needs_modalities(model.backbone) and not has_tables:
            raise ValueError(
                f"The backbone {model.backbone} needs modality tables. Received: "
                f"encoders for {', '.join(self.modalities) or 'no modality'}, "
                f"model.modality_tables={model.modality_tables}. Set an encoder "
                "(encode.text.encoder) and model.modality_tables=frozen or tuned, or take "
                "model.backbone=sasrec."
            )
        if model.last_item and (model.output != "fused" or not has_tables):
            raise ValueError(
                "`model.last_item` compares items by their modalities, where they are scored "
                "by them. Received: model.last_item=true with "
                f"model.output={model.output}, model.modality_tables={model.modality_tables} and "
                f"encoders for {', '.join(self.modalities) or 'no modality'}. Set "
                "model.output=fused and modality tables, or model.last_item=false."
            )

    def _check_distillation(self) -> None:
        if self.distillation.enabled and self.modalities and self.model.method == "kdsr":
            if self.model.modality_tables == "off":
                raise ValueError(
                    "Distillation needs modality tables. Received: "
                    "distillation.enabled=true with model.modality_tables=off. "
                    "Set model.modality_tables=tuned or distillation.enabled=false."
                )
            if self.model.modality_tables == "frozen" and not self.distillation.force:
                raise ValueError(
                    "Distillation cannot move frozen modality tables. Received: "
                    "distillation.enabled=true with model.modality_tables=frozen. "
                    "Set model.modality_tables=tuned, or distillation.force=true."
                )
        check_drawn_pairs(self.distillation.pairs_per_window, self.distillation.score_loss)
        terms = [f"{m}_{kind}" for m in self.modalities for kind in ("score", "code")]
        for term in self.distillation.weights:
            if term not in terms:
                raise ValueError(
                    f"`distillation.weights` has no term `{term}`. Valid terms: "
                    f"{', '.join(terms) or 'none (no modality has an encoder)'}."
                )

    def _check_training(self) -> None:
        train = self.train
        if train.refit and train.selection == "test_oracle":
            raise ValueError(
                "`train.selection=test_oracle` trains on train and validation already. "
                "Received: train.refit=true. Set train.refit=false or train.selection=validation."
            )
        for key in OPTIONS:
            value, unused = getattr(train, key), TrainConfig.model_fields[key].default
            if value != unused and key not in self.needs.options:
                users = [name for name, needs in NEEDS.items() if key in needs(self).options]
                raise ValueError(
                    f"`train.{key}` is not used by model.method={self.model.method}. Received: "
                    f"train.{key}={value}. Leave it out, or set model.method={' or '.join(users)}."
                )
        check_smoothing(train.label_smoothing, train.negatives)
        self._check_lazy_tables()
        if train.deterministic and train.jit_compile:
            raise ValueError(
                "`train.deterministic` switches XLA off. Received: train.deterministic=true "
                "with train.jit_compile=true. Set one of them to false."
            )
        if train.strategy != "single" and (train.jit_compile or train.accumulation_steps > 1):
            raise ValueError(
                "`train.jit_compile` and `train.accumulation_steps` work on one replica only. "
                f"Received: train.strategy={train.strategy} with "
                f"train.jit_compile={str(train.jit_compile).lower()}, "
                f"train.accumulation_steps={train.accumulation_steps}. Set train.strategy=single, "
                "or train.jit_compile=false and train.accumulation_steps=1."
            )

    def _check_lazy_tables(self) -> None:
        train = self.train
        decays = train.weight_decay
        moves_all = {
            "train.negatives": not train.negatives and not self.needs.reads_few_rows,
            "train.weight_decay": any(decays.values()) if isinstance(decays, dict) else decays,
            "train.accumulation_steps": train.accumulation_steps > 1,
            "train.strategy": train.strategy != "single",
            "train.jit_compile": train.jit_compile,
            "train.precision": train.precision == "mixed_float16",
        }
        wrong = [key for key, is_wrong in moves_all.items() if is_wrong]
        if train.lazy_tables and wrong:
            key, value = wrong[0], getattr(train, wrong[0].removeprefix("train."))
            raise ValueError(
                "`train.lazy_tables` moves only the rows of a step: it needs train.negatives, "
                "one device without XLA, float32 or bfloat16, and no weight decay or accumulation. "
                f"Received: {key}={value}. Change it, or set train.lazy_tables=false."
            )
