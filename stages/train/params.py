"""Sections `train` and `runtime`: how the model is trained, and how the training is logged and saved."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from stages.core.params import FilePath, Section


class TrainParams(Section):
    """Everything that affects the trained model or its learning curve."""

    auto_keys: ClassVar[frozenset[str]] = frozenset({
        "max_steps", "batch_size", "window_size", "lr", "lr_embedding", "lr_head", "weight_decay", "warmup_steps",
        "eval_every", "max_tokens",
    })  # fmt: skip

    seed: int = Field(default=1337, ge=0)
    max_steps: int = Field(default=1200, ge=1)
    batch_size: int = Field(default=1, ge=1)
    window_size: int = Field(default=0, ge=0)
    grad_accum_steps: int = Field(default=1, ge=1)
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = Field(default=0.02, gt=0.0)
    lr_embedding: float = Field(default=0.02, gt=0.0)
    lr_head: float = Field(default=0.003, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    warmup_steps: int = Field(default=20, ge=0)
    lr_decay_fraction: float = Field(default=0.5, ge=0.0, le=1.0)
    grad_clip: float = Field(default=0.0, ge=0.0)
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    compile: Literal["auto", "on", "off"] = "auto"
    eval_every: int = Field(default=100, ge=1)
    eval_windows: int = Field(default=8, ge=1)
    max_seconds: float = Field(default=0.0, ge=0.0)
    patience: int = Field(default=0, ge=0)
    keep: Literal["last", "best"] = "last"
    held_out_fraction: float = Field(default=0.0, ge=0.0, lt=0.5)
    init_from: FilePath | None = None
    max_tokens: int = Field(default=0, ge=0)
    processes: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if self.held_out_fraction and self.keep == "last" and not self.patience:
            raise ValueError(
                f"held_out_fraction is {self.held_out_fraction}, but nothing uses the held-out text: set keep to best, "
                "or patience to a number of points, or held_out_fraction to 0"
            )
        return self


class RuntimeParams(Section):
    """Settings that do not change the model: no stage of dvc.yaml depends on them."""

    log_every: int = Field(default=50, ge=1)
    checkpoint_every_seconds: float = Field(default=5.0, ge=0.0)
    checkpoint_every_steps: int = Field(default=0, ge=0)
    sample_every: int = Field(default=0, ge=0)
    trackers: list[Literal["dvclive", "tensorboard", "mlflow", "wandb"]] = Field(default=[])
