"""Kept logits on disk: a folder with a file for each batch, and an index that is written last.

Shapes: as in :mod:`gol.models.keep`; B: images of a file.
"""

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from gol.errors import UserError
from gol.files import atomic_path, read_model, write_json
from gol.files.digests import sha256
from gol.models.keep import Kept

_DAMAGE = (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile)
_PARTS = ("logits", "rows", "labels", "boxes")
_WRITER = "gol detect --keep-logits"


class KeptIndex(BaseModel):
    """What a folder of kept logits holds.

    Attributes:
        fingerprint: of the run's configuration.
        weights: SHA-256 of the weights.
        scoring: activation that turns the logits into scores.
        categories: ids of the C classes, in the order of the labels.
        files: number of files.
        images: number of images in them.
        channels: K.
        views: how the candidates were chosen.
        proposals: number of proposals of which mean and variance are.
        mean: (K,) of their logits.
        variance: (K,) of their logits.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    fingerprint: str
    weights: str
    scoring: str
    categories: list[int]
    files: Annotated[int, Field(ge=0)]
    images: Annotated[int, Field(ge=0)]
    channels: Annotated[int, Field(ge=1)]
    views: list[str]
    proposals: int
    mean: list[float]
    variance: list[float]


class KeptFolder:
    """Kept logits of some images.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def _index(self) -> Path:
        return self.path / "index.json"

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06}.npz"

    def clear(self) -> None:
        """Removes it, so that the files of two detections never mix."""
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def exists(self) -> bool:
        """Whether it is complete."""
        return self._index.is_file()

    def holds(self, weights: str | Path) -> bool:
        """Whether it is complete and of these weights."""
        return self.exists and self.read_index().weights == sha256(weights)

    def read_index(self) -> KeptIndex:
        """What it holds.

        Raises:
            UserError: it is not there, not complete, or damaged.
        """
        if not self.exists:
            raise UserError(
                f"{self.path} has no kept logits: `gol detect RUN --keep-logits` writes them"
            )
        return read_model(self._index, KeptIndex)

    def write_index(self, index: KeptIndex) -> None:
        """Completes it."""
        write_json(self._index, index.model_dump(), writer=_WRITER)

    def write(self, number: int, image_ids: Sequence[int], images: Sequence[Kept]) -> None:
        """Writes the file of one batch.

        Raises:
            UserError: it cannot be written.
        """
        arrays = {part: torch.cat([getattr(each, part) for each in images]) for part in _PARTS}
        arrays |= {"rows": arrays["rows"].int(), "labels": arrays["labels"].int()}
        content: dict[str, Any] = {part: array.numpy() for part, array in arrays.items()}
        content["image_id"] = np.array(image_ids, np.int64)
        content["largest"] = np.array([each.largest for each in images], np.float64)
        content["proposals_of"] = np.array([len(each.logits) for each in images], np.int64)
        content["candidates_of"] = np.array([len(each.rows) for each in images], np.int64)
        if images and images[0].masks is not None:
            masks = [mask for each in images for mask in each.masks or ()]
            counts = [mask["counts"].encode() for mask in masks]  # type: ignore[union-attr]
            content["mask_size"] = np.array([mask["size"] for mask in masks]).reshape(-1, 2)
            content["mask_of"] = np.array([len(each) for each in counts], np.int64)
            content["masks"] = np.frombuffer(b"".join(counts), np.uint8)
        with atomic_path(self._file(number)) as temporary, open(temporary, "wb") as file:
            np.savez(file, **content)

    def images(self, index: KeptIndex) -> Iterator[tuple[int, Kept]]:
        """Id and content of every image, in the order of the detections.

        Raises:
            UserError: a file is missing or damaged.
        """
        for number in range(index.files):
            path = self._file(number)
            try:
                with np.load(path, allow_pickle=False) as file:
                    content = {name: file[name] for name in file.files}
                yield from list(_images(content, index))
            except _DAMAGE as error:
                raise UserError(
                    f"{path} is missing or damaged: `{_WRITER}` writes it anew"
                ) from error


def _images(content: dict[str, np.ndarray], index: KeptIndex) -> Iterator[tuple[int, Kept]]:
    tensors = {part: torch.from_numpy(content[part]) for part in _PARTS}
    _check(tensors, index)
    proposals, candidates = _bounds(content["proposals_of"]), _bounds(content["candidates_of"])
    masks = _masks(content)
    for number, image in enumerate(content["image_id"].tolist()):
        own, chosen = slice(*proposals[number]), slice(*candidates[number])
        rows = tensors["rows"][chosen].long()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < own.stop - own.start:
            raise ValueError("rows")
        yield (
            image,
            Kept(
                tensors["logits"][own],
                rows,
                tensors["labels"][chosen].long(),
                tensors["boxes"][chosen],
                float(content["largest"][number]),
                None if masks is None else masks[chosen],
            ),
        )


def _check(tensors: dict[str, torch.Tensor], index: KeptIndex) -> None:
    labels = tensors["labels"]
    if tensors["logits"].shape[1] != index.channels or tensors["boxes"].shape[1] != 4:
        raise ValueError("shapes")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(index.categories):
        raise ValueError("labels")


def _masks(content: dict[str, np.ndarray]) -> list[dict[str, Any]] | None:
    if "masks" not in content:
        return None
    text = content["masks"].tobytes()
    places = zip(content["mask_size"].tolist(), _bounds(content["mask_of"]), strict=True)
    return [{"size": size, "counts": text[a:b].decode("ascii")} for size, (a, b) in places]


def _bounds(lengths: np.ndarray) -> list[tuple[int, int]]:
    return list(pairwise([0, *np.cumsum(lengths).tolist()]))
