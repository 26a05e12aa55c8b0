"""`train:`, how the model learns."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.core.params import Section


class TrainParams(Section):
    """Steps, batches, optimizer and schedule."""

    seed: int = Field(ge=0, lt=2**63)
    max_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["muon", "adamw"]
    lr: float = Field(gt=0.0)
    lr_embedding: float = Field(gt=0.0)
    lr_head: float = Field(gt=0.0)
    weight_decay: float = Field(ge=0.0)
    warmup_steps: int = Field(ge=0)
    decay_fraction: float = Field(ge=0.0, le=1.0)
    clip_norm: float = Field(ge=0.0)
    accumulate: int = Field(ge=1)
    average: float = Field(ge=0.0, lt=1.0)
    compile: Literal["auto", "on", "off"]
    eval_every: int = Field(ge=1)
    eval_windows: int = Field(ge=1)
    log_every: int = Field(ge=1)
    checkpoint_every: float = Field(ge=0.0)
    checkpoint_steps: int = Field(ge=0)
    max_seconds: float = Field(ge=0.0)
    patience: int = Field(ge=0)
    keep: Literal["last", "best"]
    sample_every: int = Field(ge=0)
    init_from: str | None
    track: list[Literal["tensorboard", "mlflow", "wandb"]]
    processes: int = Field(ge=1, le=1024)
    shard: bool

    @model_validator(mode="after")
    def _possible_in_parts(self) -> Self:
        if self.shard and self.sample_every:
            raise ValueError(
                f"sample_every is {self.sample_every}, but shard is on: no process holds a model to write; set it to 0"
            )
        if self.shard and self.compile == "on":
            raise ValueError("compile is on, and so is shard: a model in parts is not compiled; set compile to auto")
        return self
