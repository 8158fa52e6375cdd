"""Training that starts from a whole detector: equal tensors as they are, class rows by name.

Shapes: C: classes of the model, D: features. A classifier has C rows, C + 1 with the background
last, or C + 2 with those of "object" and "background" (Seesaw); a box regressor has 4 C rows and a
mask predictor C, unless they ignore classes.
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
from gol.data.imports.values import plain_name
from gol.errors import UserError, plural, visible
from gol.files.digests import sha256
from gol.models import foreign
from gol.models.state import load_state, mismatches
from gol.sources.weights import weights_path

_PER_CLASS = re.compile(r".*\.(fc_cls|fc_reg|conv_logits)\.(weight|bias)$")
_STATED = "--set gol.init.classes="
_SHOWN = 100  # names in a line of the report
#: Logits of a sigmoid at which another activation's are matched: as likely as not, and as
#: unlikely as the paper lets a fresh classifier find everything.
_EVEN, _RARE = 0.0, -6.5
_STARTS_AS = {"apa": "gumbel"}  # an activation that learns its form


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
        logits: what became of the logits' meaning.
    """

    path: Path
    tensors: dict[str, Tensor]
    whole: list[str]
    classes: list[str]
    fresh: tuple[list[str], list[str]]
    unused: tuple[list[str], list[str]]
    logits: str

    def report(self) -> str:
        """What was taken and how, what starts afresh and what was not used, one line each."""
        kinds = Counter(map(_kind, self.whole))
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
        total = len(self.classes) + len(self.fresh[0])
        return "\n".join(
            [
                f"starts from {self.path}",
                f"  as they are: {plural(len(self.whole), 'tensor')} ({counts})",
                f"  by name: rows of {len(self.classes)} of {total} classes{_list(self.classes)}",
                f"  logits: {self.logits}",
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
    found, meta = load_state(path, wanted)
    _check_architecture(path, found, wanted)
    foreign.check_values(path, found, wanted)
    said = meta.get("scoring")  # by us, since version 0.6
    said = said if isinstance(said, str) and said.isidentifier() else None
    known = said or "gol" not in meta
    source = said or (scoring if "gol" in meta else None)
    remedy = f"{_STATED}coco (COCO's 80), =dog,cat,… or =none (no class rows)"
    names = file_classes(path, meta, stated, remedy)
    rows = _Rows(path, names, classes, source, scoring)
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
        rows.changed or _kept(rows, bool(known)),
    )


def _kept(rows: "_Rows", known: bool) -> str:
    """What became of logits that nothing was changed in."""
    if not rows.pairs:
        return "of no class taken"
    return "as they are" if known else "as they are, of an activation that it does not say"


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
        source: the activation of the file's logits; None: another program's, so a softmax where
            the background has a row, and a sigmoid where not.
        target: that of the model's.

    Attributes:
        pairs: the model's rows to the file's of the same class.
        changed: from which activation's logits to which they were made, if they were.
    """

    def __init__(
        self,
        path: Path,
        theirs: list[str],
        mine: Sequence[str],
        source: str | None,
        target: str,
    ) -> None:
        self.path, self.theirs, self.count = path, theirs, len(mine)
        self.source, self.target, self.changed = source, target, ""
        exact = {name: row for row, name in reversed([*enumerate(theirs)])}
        alike = {plain_name(name): row for row, name in reversed([*enumerate(theirs)])}
        named = ((row, exact.get(n, alike.get(plain_name(n)))) for row, n in enumerate(mine))
        self.pairs = {row: other for row, other in named if other is not None}

    def take(self, name: str, theirs: Tensor, mine: Tensor) -> Tensor | None:
        """What the model's tensor becomes: the file's, its own with rows of the file's, or None."""
        if ".loss_cls." in name and mine.ndim:
            return None  # what a loss has counted of its classes, which begins anew
        kind = _PER_CLASS.match(name)
        if kind and self._has_classes(kind[1], name, theirs, mine):
            if kind[1] == "fc_cls":
                return self._classifier(theirs.to(mine.dtype), mine, bias=kind[2] == "bias")
            return self._with_rows(4 if kind[1] == "fc_reg" else 1, theirs.to(mine.dtype), mine)
        agnostic = not kind or (kind[1] != "fc_cls" and self.theirs)
        return theirs if agnostic and theirs.shape == mine.shape else None

    def _has_classes(self, layer: str, name: str, theirs: Tensor, mine: Tensor) -> bool:
        """Whether both tensors have rows of classes, of the same length."""
        rows, spare = (1, (0, 1, 2)) if layer == "fc_cls" else (4 if layer == "fc_reg" else 1, (0,))
        known = len(theirs) - rows * len(self.theirs) in spare
        if layer == "fc_cls" and self.theirs and not known:
            raise UserError(
                f"{self.path}: {name} has {plural(len(theirs), 'row')} for "
                f"{plural(len(self.theirs), 'class')};"
                " allowed: one each, and one for the background or two for objectness"
            )
        fits = len(mine) - rows * self.count in spare and theirs.shape[1:] == mine.shape[1:]
        return bool(self.theirs) and known and fits

    def _with_rows(self, rows: int, theirs: Tensor, mine: Tensor) -> Tensor:
        taken = mine.clone()
        for row, other in self.pairs.items():
            taken[rows * row : rows * (row + 1)] = theirs[rows * other : rows * (other + 1)]
        return taken

    def _classifier(self, theirs: Tensor, mine: Tensor, bias: bool) -> Tensor:
        """The rows of classes and background, with logits that mean the same to the model.

        A softmax over a class and the background is the sigmoid of the difference of their logits.
        Other activations agree with that sigmoid at two points.
        """
        spare, room = len(theirs) - len(self.theirs), len(mine) - self.count
        source = self.source or ("softmax" if spare else "sigmoid")
        if spare == 2 != room:
            self.changed = "as they are, of Seesaw's classes, which compete among themselves alone"
        elif source != self.target:
            self.changed = f"of {source}, made those of {self.target}"
            if source == "softmax" and spare == 1:
                theirs = theirs - theirs[-1:]
            (slope, even), (wanted, middle) = _line(source), _line(self.target)
            theirs = theirs * (wanted / slope)
            theirs += middle - even * wanted / slope if bias else 0
        taken = self._with_rows(1, theirs, mine)
        if room == 1 and source != self.target == "softmax":
            taken[-1] = 0  # the logit against which each class was calibrated
        elif spare and spare == room:
            taken[-spare:] = theirs[-spare:]
        return taken


def _line(scoring: str) -> tuple[float, float]:
    """Slope and summand that make a sigmoid's logits those of an activation."""
    scoring = _STARTS_AS.get(scoring, scoring)
    if scoring == "softmax" or scoring not in ACTIVATIONS:  # class_relative has two kinds of logits
        return 1.0, 0.0
    activation = ACTIVATIONS[scoring]
    even, rare = (
        activation.bias(float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64))))
        for logit in (_EVEN, _RARE)
    )
    return (even - rare) / (_EVEN - _RARE), even


def _kind(name: str) -> str:
    return name.removeprefix("roi_head.").partition(".")[0]


def _list(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f": {visible(', '.join(names[:_SHOWN]))}{more}"


def _summary(parts: tuple[list[str], list[str]]) -> str:
    classes, tensors = parts
    counts = plural(len(classes), "class"), plural(len(tensors), "tensor")
    return f"{counts[0]}{_list(classes)}; {counts[1]}{_list(tensors)}"
