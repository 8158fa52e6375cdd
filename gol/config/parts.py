"""What single parts of a resolved config may hold; the parts that are not mmcv's or mmdet's own."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from gol.config.model import Count, Model, Number, Positive
from gol.config.own import Own
from gol.errors import field_types, keys_of, shown, validated

Multiplier = Annotated[Number, Field(ge=0)]


class Runner(Model):
    """How long to train, in epochs."""

    type: Literal["EpochBasedRunner"]
    max_epochs: Count


class IterRunner(Model):
    """How long to train, in iterations."""

    type: Literal["IterBasedRunner"]
    max_iters: Count


class GradClip(Model):
    """The largest norm of the gradient."""

    max_norm: Positive
    norm_type: Literal[2] = 2


class OptimizerConfig(Model):
    """Gradient clipping, or none."""

    grad_clip: GradClip | None


class Scaling(Model):
    """Arguments of torch's ``GradScaler``."""

    init_scale: Positive = 65536
    growth_factor: Annotated[Positive, Field(gt=1)] = 2
    backoff_factor: Annotated[Positive, Field(lt=1)] = 0.5
    growth_interval: Count = 2000


class Fp16(Model):
    """The loss scale of float16."""

    loss_scale: Any

    @field_validator("loss_scale")
    @classmethod
    def _scale(cls, value: Any) -> Any:
        if isinstance(value, dict):
            validated(Scaling, value, part="fp16.loss_scale")
        elif value != "dynamic" and not (type(value) in (int, float) and value > 0):
            raise ValueError(f"must be a number above 0, dynamic or keys, not {shown(value)}")
        return value


class Loading(Model):
    """Images of a micro-batch, and processes that load."""

    samples_per_gpu: Count
    workers_per_gpu: Annotated[int, Field(ge=0, le=1024)]


class Multipliers(Model):
    """Of the parameters whose names contain a text."""

    lr_mult: Multiplier = 1
    decay_mult: Multiplier = 1


class Paramwise(Model):
    """mmcv's ``paramwise_cfg``."""

    custom_keys: dict[str, Multipliers] = Field({})
    bias_lr_mult: Multiplier = 1
    bias_decay_mult: Multiplier = 1
    norm_decay_mult: Multiplier = 1
    dwconv_decay_mult: Multiplier = 1
    dcn_offset_lr_mult: Multiplier = 1
    bypass_duplicate: bool = False


#: Dotted key of a part to its model.
PARTS: dict[str, type[Model]] = {
    "gol": Own,
    "runner": Runner,
    "optimizer_config": OptimizerConfig,
    "optimizer.paramwise_cfg": Paramwise,
    "fp16": Fp16,
}
_LOADING = tuple(Loading.model_fields)


def part_of(path: tuple[str, ...]) -> str | None:
    """The part with a model in which a key stands, if there is one."""
    key = ".".join(path)
    if path[0] == "data" and path[-1] in _LOADING:
        return "data"
    return next((name for name in PARTS if f"{key}.".startswith(f"{name}.")), None)


def part_keys(path: tuple[str, ...]) -> list[str]:
    """The keys that may stand in a part with a model."""
    name = part_of(path)
    if name is None or name == "data":
        return []
    return keys_of(PARTS[name], (*path[name.count(".") + 1 :], ""))


def takes_text(path: tuple[str, ...]) -> bool:
    """Whether a key of a part with a model is a text, so that "12" is not the number."""
    name = part_of(path)
    if name in (None, "data", ".".join(path)):
        return False
    kinds = field_types(PARTS[name], path[name.count(".") + 1 :])
    return str in kinds and not any(hasattr(kind, "model_fields") for kind in kinds)  # dict[str, …]


def check_part(config: dict[str, Any], name: str) -> None:
    """Checks a part that was changed.

    Raises:
        UserError: what is wrong, with what is allowed.
    """
    if name == "data":
        found = {key: config["data"][key] for key in _LOADING}
        validated(Loading, found, part=name)
        return
    part: Any = config
    for key in name.split("."):
        part = part[key]
    iterations = name == "runner" and "max_iters" in part
    validated(IterRunner if iterations else PARTS[name], part, part=name)
