"""Training that starts from a whole detector: equal tensors as they are, class rows by name.

Shapes: C: classes of the model, D: features. A classifier has C rows, or C + 1 with the background
last; a box regressor has 4 C rows and a mask predictor C, unless they ignore classes.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gol.activations import ACTIVATIONS
from gol.errors import UserError, visible
from gol.files.digests import sha256
from gol.models import foreign
from gol.models.state import load_state, mismatches
from gol.sources.weights import weights_path

_PER_CLASS = re.compile(r".*\.(fc_cls|fc_reg|conv_logits)\.(weight|bias)$")
_STATED = "--set gol.init.classes="
_SHOWN = 100  # names in a line of the report
#: Logits of a sigmoid between which an activation of other logits is matched: as likely as not,
#: and as unlikely as the paper lets a fresh classifier find everything.
_EVEN, _RARE = 0.0, -6.5


@dataclass(frozen=True)
class Start:
    """What a detector takes from a file.

    Attributes:
        path: the file.
        tensors: name to the tensor to load, of the model's shape.
        whole: names of those that are the file's as they are.
        classes: the model's classes whose rows are the file's.
        fresh: its other classes, and its other tensors: these keep their first values.
        unused: the file's other classes, and other tensors.
    """

    path: Path
    tensors: dict[str, Tensor]
    whole: list[str]
    classes: list[str]
    fresh: tuple[list[str], list[str]]
    unused: tuple[list[str], list[str]]

    def report(self) -> str:
        """What was taken, what starts afresh and what was not used, one line each."""
        kinds = Counter(map(_kind, self.whole))
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
        total = len(self.classes) + len(self.fresh[0])
        return "\n".join(
            [
                f"starts from {self.path}",
                f"  as they are: {len(self.whole)} tensors ({counts})",
                f"  by name: rows of {len(self.classes)} of {total} classes{_list(self.classes)}",
                f"  from scratch: {_summary(self.fresh)}",
                f"  not used: {_summary(self.unused)}",
            ]
        )


def load_init(
    detector: nn.Module, init: Mapping[str, Any], classes: Sequence[str], scoring: str
) -> Start:
    """Loads what fits of a whole detector's weights; the rest keeps its values.

    Args:
        detector: an mmdet two-stage detector.
        init: {file} or {url}, the ``sha256`` and the ``classes`` of the file, see
            :class:`gol.config.own.Init`.
        classes: the model's C classes, in the order of its labels.
        scoring: activation whose logits the classifier is trained to give.

    Raises:
        UserError: no such file or another than the config names, no checkpoint, another
            architecture, unknown classes, tensors that are not finite.
    """
    path = weights_path(init)
    digest, known = sha256(path), init.get("sha256")
    if known is None:
        raise UserError("gol.init has no sha256: write the config by `gol config --run`")
    if not digest.startswith(known.lower()):
        raise UserError(
            f"{path} is not the file that the run was configured with (SHA-256 "
            f"{known[:8]}…, now {digest[:8]}…): put that one back, or run `gol config`"
        )
    start = compare(path, detector.state_dict(), init.get("classes"), classes, scoring)
    detector.load_state_dict({**detector.state_dict(), **start.tensors})
    return start


def compare(
    path: Path,
    wanted: Mapping[str, Tensor],
    stated: str | None,
    classes: Sequence[str],
    scoring: str,
) -> Start:
    """What of a file fits a model whose state dict is ``wanted``; see :func:`load_init`."""
    state, meta = load_state(path)
    found, notes = foreign.renamed(state, wanted)
    _check_architecture(path, found, wanted)
    foreign.say(path, notes)
    foreign.check_values(path, found, wanted)
    remedy = f"{_STATED}coco (COCO's 80), =dog,cat,… or =none (no class rows)"
    names = file_classes(path, meta, stated, remedy)
    rows = _Rows(path, names, classes, "gol" in meta, scoring)
    taken = {
        name: rows.take(name, value, wanted[name])
        for name, value in found.items()
        if name in wanted and isinstance(value, Tensor)
    }
    tensors = {name: value for name, value in taken.items() if value is not None}
    fresh = [name for name in wanted if name not in tensors]
    unused = [name for name in found if name not in tensors]
    return Start(
        path,
        tensors,
        [name for name, value in tensors.items() if value is found[name]],
        [classes[mine] for mine in rows.pairs],
        ([name for i, name in enumerate(classes) if i not in rows.pairs], fresh),
        ([n for i, n in enumerate(rows.theirs) if i not in rows.pairs.values()], unused),
    )


def _check_architecture(path: Path, found: foreign.State, wanted: Mapping[str, Tensor]) -> None:
    """The backbone has to be the same one; heads may be others."""
    if not found.keys() & wanted.keys():
        hint = "has no tensor by a name of this detector's"
        if "conv1.weight" in found or "patch_embed.proj.weight" in found:
            hint = "holds a backbone alone, which `gol config --weights` takes"
        elif any(name.startswith(("body.", "backbone.body.")) for name in found):
            hint = "is a detector of torchvision, whose layers have other names than mmdet's"
        raise UserError(f"{path} {hint} (it has {next(iter(found), 'nothing')})")
    parts = [
        {k: v for k, v in part.items() if k.startswith("backbone.") and "num_batches" not in k}
        for part in (found, wanted)
    ]
    if problems := mismatches(*parts):
        more = f", and {len(problems) - 1} further differences" if len(problems) > 1 else ""
        raise UserError(f"{path} is of another backbone: {problems[0]}{more}")


def file_classes(path: Path, meta: Mapping[str, Any], stated: str | None, remedy: str) -> list[str]:
    """The classes of a file in the order of its rows: as stated, or as mmdet 2 or 3 wrote them.

    Args:
        path: the file, for messages.
        meta: its ``meta``.
        stated: names separated by commas, ``coco`` for COCO's 80, ``none`` for no names.
        remedy: how a person states them.

    Raises:
        UserError: they are neither stated nor in the file, or mmdet 1 wrote it.
    """
    if re.match("[01]\\.", str(meta.get("mmdet_version") or "")):
        raise UserError(f"{path} was written by mmdet 1, whose class rows begin with background")
    if stated == "none":
        return []
    if stated == "coco":
        from mmdet.core import get_classes

        return list(get_classes("coco"))
    if stated:
        return [name.strip() for name in stated.split(",")]
    dataset = meta.get("dataset_meta")
    places = [meta, dataset if isinstance(dataset, Mapping) else {}]
    for place, key in ((place, key) for place in places for key in ("CLASSES", "classes")):
        names = place.get(key)
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return list(names)
    raise UserError(f"{path} does not name its classes: state their order by {remedy}")


class _Rows:
    """Matches the rows of classes by the classes' names.

    Args:
        path: the file, for messages.
        theirs: its classes.
        mine: the model's.
        ours: whether we wrote the file, so that its logits are of the same activation.
        scoring: see :func:`load_init`.
    """

    def __init__(
        self, path: Path, theirs: list[str], mine: Sequence[str], ours: bool, scoring: str
    ) -> None:
        self.path, self.theirs, self.count = path, theirs, len(mine)
        self.scale = None if ours or scoring == "softmax" else _scale(scoring)
        exact = {name: row for row, name in reversed([*enumerate(theirs)])}
        alike = {_plain(name): row for row, name in reversed([*enumerate(theirs)])}
        found = ((row, exact.get(name, alike.get(_plain(name)))) for row, name in enumerate(mine))
        self.pairs = {row: other for row, other in found if other is not None}

    def take(self, name: str, theirs: Tensor, mine: Tensor) -> Tensor | None:
        """What the model's tensor becomes: the file's, its own with rows of the file's, or None."""
        kind = _PER_CLASS.match(name)
        if kind and self._has_classes(kind[1], name, theirs, mine):
            return self._with_rows(4 if kind[1] == "fc_reg" else 1, name, theirs, mine)
        agnostic = not kind or (kind[1] != "fc_cls" and self.theirs)
        return theirs if agnostic and theirs.shape == mine.shape else None

    def _has_classes(self, layer: str, name: str, theirs: Tensor, mine: Tensor) -> bool:
        """Whether both tensors have rows of classes, of the same length."""
        rows, spare = (1, (0, 1)) if layer == "fc_cls" else (4 if layer == "fc_reg" else 1, (0,))
        known = len(theirs) - rows * len(self.theirs) in spare
        if layer == "fc_cls" and self.theirs and not known:
            raise UserError(
                f"{self.path}: {name} has {len(theirs)} rows for {len(self.theirs)} classes;"
                " allowed: one each, and one for the background"
            )
        fits = len(mine) - rows * self.count in spare and theirs.shape[1:] == mine.shape[1:]
        return bool(self.theirs) and known and fits

    def _with_rows(self, rows: int, name: str, theirs: Tensor, mine: Tensor) -> Tensor:
        background = len(theirs) > rows * len(self.theirs)  # a classifier's alone
        theirs, taken = theirs.to(mine.dtype), mine.clone()
        if background and self.scale is not None:
            theirs = self._against_background(theirs, name.endswith("bias"))
        for row, other in self.pairs.items():
            taken[rows * row : rows * (row + 1)] = theirs[rows * other : rows * (other + 1)]
        if background and len(mine) > rows * self.count:
            taken[-1] = theirs[-1]
        return taken

    def _against_background(self, rows: Tensor, bias: bool) -> Tensor:
        """Logits of a softmax as those of independent classes, each against the background.

        A softmax over two of them is the sigmoid of their difference. Other activations agree with
        that sigmoid at two points.
        """
        scale, shift = self.scale
        return (rows - rows[-1:]) * scale + (shift if bias else 0)


def _scale(scoring: str) -> tuple[float, float]:
    """Factor and summand that make a sigmoid's logits those of another activation."""
    activation = ACTIVATIONS[scoring] if scoring in ACTIVATIONS else ACTIVATIONS["sigmoid"]
    even, rare = (
        activation.bias(float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64))))
        for logit in (_EVEN, _RARE)
    )
    return (even - rare) / (_EVEN - _RARE), even


def _plain(name: str) -> str:
    """A class's name without case, and with one space for what may stand between words."""
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _kind(name: str) -> str:
    return name.removeprefix("roi_head.").partition(".")[0]


def _list(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f": {visible(', '.join(names[:_SHOWN]))}{more}"


def _summary(parts: tuple[list[str], list[str]]) -> str:
    classes, tensors = parts
    return f"{len(classes)} classes{_list(classes)}; {len(tensors)} tensors{_list(tensors)}"
