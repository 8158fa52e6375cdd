"""ImageNet weights of the backbones, matched in full."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gol.errors import UserError
from gol.files.digests import sha256
from gol.models.foreign import check_values
from gol.models.state import listing, load_state, mismatches
from gol.sources.download import Source
from gol.sources.weights import elsewhere, weights_path

#: What a classifier has and a detector's backbone does not: ResNet's and Swin's last layers, and
#: Swin's attention masks, which follow from the image's size.
_UNUSED = re.compile(r"(fc|head)\.|norm\.(weight|bias)$|.*\.attn_mask$")
#: What old files lack (batch counts), what a detector adds (Swin's norms of each output) and what
#: follows from the window's size. These keep their values of a new backbone.
_OWN = re.compile(r".*num_batches_tracked$|norm\d\.(weight|bias)$|.*relative_position_index$")


def load_backbone(
    backbone: torch.nn.Module, weights: Mapping[str, Any], name: str = "NAME"
) -> None:
    """Loads ImageNet weights into a backbone of mmdet, every tensor of it.

    Args:
        backbone: ResNet (also with gates), ResNeXt or SwinTransformer of mmdet.
        weights: as for :func:`gol.sources.weights.weights_path`. The file must be there; it may be
            of torchvision, open-mmlab or a backbone's authors, or of a whole detector.
        name: of the backbone, for the message that says how to get the file.

    Raises:
        UserError: no such file, or one that is damaged, lacks a tensor, has one too many, or one of
            another shape or that is not finite.
    """
    path = weights_path(weights)
    if "file" not in weights and not path.exists():
        fetched = (
            "" if weights.get("page") else f"`gol weights {name}` fetches it; without network, "
        )
        raise UserError(f"no file {path}: {fetched}{elsewhere(weights)}")
    _check_published(path, weights, name)
    wanted = backbone.state_dict()
    found, _ = load_state(path, wanted)
    if any(key.startswith("layers.") for key in found):  # names of Swin's authors
        found = _convert_swin(path, found)
    spare = (_UNUSED, _OWN)
    found = {k: v for k, v in found.items() if k in wanted or not any(r.match(k) for r in spare)}
    needed = {k: v for k, v in wanted.items() if k in found or not _OWN.match(k)}
    check_values(path, found, needed)
    problems = mismatches(found, needed)
    if problems:
        raise UserError(f"{path} does not fit the {type(backbone).__name__}: {listing(problems)}")
    backbone.load_state_dict({**wanted, **found})


def _convert_swin(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Swin's authors' names and orders of channels as mmdet's."""
    from mmdet.models.utils.ckpt_convert import swin_converter

    try:
        converted = swin_converter(state)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = "has names of Swin's authors' files, but other tensors"
        raise UserError(f"{path} {reason}") from error
    return {key.removeprefix("backbone."): value for key, value in converted.items()}


def _check_published(path: Path, weights: Mapping[str, Any], name: str) -> None:
    """Compares a file of the cache with what was published of its digest, if anything was."""
    wanted = Source.of(weights).sha256 if weights.get("url") and not weights.get("file") else None
    if wanted and not sha256(path).startswith(wanted.lower()):
        raise UserError(
            f"{path} is damaged or another file than the published one, whose SHA-256 begins with "
            f"{wanted[:8]}: move it away, and `gol weights {name}` fetches it again"
        )
