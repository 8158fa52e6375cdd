"""The values of a resolved config that training, detection and launching read themselves.

All else is mmcv's and mmdet's, and more may stand beside these.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from gol.config.model import Count, Model, Natural, Text
from gol.config.parts import Fp16, Multiplier
from gol.errors import validated


class _Leaves(Model):
    model_config = ConfigDict(extra="ignore")


def _inner(dataset: Any) -> Any:
    """The dataset itself, where another one repeats its images."""
    return dataset.get("dataset", dataset) if isinstance(dataset, dict) else dataset


class _Dataset(_Leaves):
    ann_file: Text


class _Data(_Leaves):
    samples_per_gpu: Count
    workers_per_gpu: Natural
    train: Annotated[_Dataset, BeforeValidator(_inner)]
    test: Annotated[_Dataset, BeforeValidator(_inner)]


class _Optimizer(_Leaves):
    lr: Multiplier


class _GradClip(_Leaves):
    max_norm: Multiplier | None = None


class _OptimizerConfig(_Leaves):
    grad_clip: _GradClip | None


def _length(runner: Any) -> Any:
    """The runner with iterations in the place of epochs, where it counts these."""
    iterations = isinstance(runner, dict) and "max_iters" in runner
    return {"max_epochs": runner["max_iters"]} if iterations else runner


class _Runner(_Leaves):
    max_epochs: Count


class _Rcnn(_Leaves):
    max_per_img: Count


class _TestCfg(_Leaves):
    rcnn: _Rcnn


class _Model(_Leaves):
    backbone: dict[str, Any]
    roi_head: dict[str, Any]
    test_cfg: _TestCfg


class _Axes(_Leaves):
    backbone: Text


class _Own(_Leaves):
    axes: _Axes


class _Config(_Leaves):
    seed: Natural
    model: _Model
    data: _Data
    optimizer: _Optimizer
    optimizer_config: _OptimizerConfig
    lr_config: dict[str, Any]
    runner: Annotated[_Runner, BeforeValidator(_length)]
    fp16: Fp16 = Fp16(loss_scale="dynamic")
    gol: _Own


def check_leaves(config: Mapping[str, Any], where: str) -> None:
    """Refuses a resolved config that lacks one of them.

    Args:
        config: its plain content.
        where: its file's name, for the message.

    Raises:
        UserError: the first that is missing or wrong.
    """
    validated(_Config, config, where)
