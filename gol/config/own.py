"""The key ``gol`` of a resolved config: what mmdet's tools do not know, as an object."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from gol.config.axes import axis_values
from gol.config.model import Count, Model, Natural, Number, Positive, Text
from gol.errors import UserError, pick, shown, unknown, validated


def _is_scoring(text: str) -> str:
    activation, plus, method = text.partition("+")
    if not activation.isidentifier() or (plus and not method.isidentifier()):
        raise ValueError(f"must be the name of an activation, not {shown(text)}")
    return text


def _is_file_name(text: str) -> str:
    if text in ("", ".", "..") or Path(text).name != text:
        raise ValueError(f"must be the name of a file, not {shown(text)}")
    return text


def _is_experiment(text: str) -> str:
    if not re.fullmatch(r"[\w./@=+-]+", text):
        raise ValueError(f"must be the name of an experiment, not {shown(text)}")
    return text


class Identity(Model):
    """Who a run is; further keys say how it is trained, see :class:`Own`.

    Attributes:
        experiment: its name, or ``NAME@ROW`` for a row of a pipeline.
        label: what tables and legends call it.
        axes: axis to the name of its value.
        compare: the experiment that the published numbers are for, if it is another one; itself
            where they are of another recipe.
        published: metric to the published value in percent points.
        published_note: what to know about these.
        seed: seed of the weights, the order of the images and all that is drawn.
        scorings: activations that turn logits into scores at test time, or
            ACTIVATION+CALIBRATION; the first one is the primary.
        statement: what to bear in mind about the dataset.
    """

    model_config = ConfigDict(extra="ignore")

    experiment: Annotated[str, AfterValidator(_is_experiment)]
    label: Text
    axes: dict[str, str]
    compare: str | None = None
    published: dict[str, Number] | None = None
    published_note: str | None = None
    seed: Natural
    scorings: Annotated[list[Annotated[str, AfterValidator(_is_scoring)]], Field(min_length=1)]
    statement: str | None = None

    @property
    def activations(self) -> list[str]:
        """Those of ``scorings``, each once, without calibrations: what training knows."""
        return list(dict.fromkeys(name.partition("+")[0] for name in self.scorings))


class Weights(Model):
    """Where weights come from: a file, else an address with what is known of it."""

    file: Text | None = None
    url: Text | None = None
    sha256: str | None = None
    bytes: Count | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.file is None and self.url is None:
            raise ValueError("must have a file or a url")
        return self


class BackboneWeights(Weights):
    """A backbone's weights, which may also be a file that only people can get.

    Attributes:
        page: of the web, from which they get it.
        name: of the file in torch.hub's cache, where they put it.
    """

    page: Text | None = None
    name: Annotated[str, AfterValidator(_is_file_name)] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.page is None and self.name is None:
            if self.file is None and self.url is None:
                raise ValueError("must have a file or a url")
        elif None in (self.page, self.name) or self.url is not None:
            raise ValueError("must have page and name together, and no url beside them")
        return self


class Init(Weights):
    """Where a whole detector's weights come from, and the order of its classes.

    Attributes:
        classes: names in the order of its class rows, separated by commas; ``coco`` for COCO's 80,
            ``none`` to leave these rows alone, None for those that the file names.
    """

    classes: Text | None = None


class Own(Identity):
    """All of the key ``gol``.

    Attributes:
        base_batch: images per iteration that the learning rate is for.
        global_batch: images per iteration; the learning rate follows.
        precision: dtype of autocast; ``auto``: settled on the device where a training begins.
        memory_format: of images and weights; None: contiguous, or what ``auto`` settles.
        weights: the backbone's weights; None: from scratch, or from ``init``.
        init: the whole detector's weights that training starts from; None: none.
        checkpoint_interval: iterations between two checkpoints, at most.
        checkpoint_minutes: minutes between two checkpoints, at most.
        threads: CPU threads of a rank.
        workers: ``auto``: as many processes load as the rank has cores beside these; None: as many
            as ``data.workers_per_gpu`` says.
        validate_every: iterations between two validations on the test images; None: no validation.
        patience: validations without a better score after which the training ends; None: never.
    """

    model_config = ConfigDict(extra="forbid")

    base_batch: Count
    global_batch: Count
    precision: Literal["float32", "bfloat16", "float16", "auto"]
    memory_format: Literal["channels_last"] | None = None
    weights: BackboneWeights | None
    init: Init | None = None
    checkpoint_interval: Count
    checkpoint_minutes: Positive
    threads: Annotated[Count, Field(le=1024)]
    workers: Literal["auto"] | None = None
    validate_every: Count | None = None
    patience: Count | None = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.patience and not self.validate_every:
            raise ValueError("has patience, which counts validations, but no validate_every")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.weights and self.init:
            raise ValueError("has weights of a backbone beside the init of a whole detector")
        return self

    def scoring(self, wanted: str | None) -> str:
        """How logits become scores: an activation or ACTIVATION+CALIBRATION; by default the first.

        Raises:
            UserError: the activation is not one of ``scorings``, or there is no such calibration.
        """
        if not wanted:
            return self.scorings[0]
        activation, plus, method = wanted.partition("+")
        if activation not in self.activations:
            raise unknown("scoring", wanted, [*self.scorings], self.experiment)
        if plus:
            pick("calibration", method, axis_values("calibration"))
        return wanted

    def detected(self, wanted: str | None, per_class: int | None, keep: bool) -> str:
        """As :meth:`scoring`, for a detection with these options.

        Raises:
            UserError: as there, or the options do not go together.
        """
        scoring = self.scoring(wanted)
        activation, _, method = scoring.partition("+")
        if keep and per_class:
            raise UserError("--keep-logits keeps what each image has: not with --per-class")
        if keep and method:
            raise UserError(f"--keep-logits keeps what is calibrated later: --scoring {activation}")
        return scoring


def own_part(config: Any, where: str = "") -> Own:
    """The key ``gol`` of a resolved config, checked.

    Args:
        config: an mmcv ``Config``, or its plain content.
        where: its file's name, for the message.

    Raises:
        UserError: a key is missing or wrong.
    """
    values = getattr(config, "_cfg_dict", config)["gol"]
    return validated(Own, _plain(values), where, "gol")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
