"""An annotation file that is mapped into memory instead of parsed.

``gol preprocess`` writes it once, beside the JSON. A rank that opens it reads only the header;
pages are loaded when an image is asked for, and all processes on a machine share them.

One file, little-endian: magic, version, length and CRC-32 of the header; the header (JSON: the
categories, the length of each array, checksums of its blocks, a digest of all content); the arrays
of ``_LAYOUT``, each at a multiple of 64 bytes. N images, A annotations, P parts of segmentations
(see ``gol.data.packing``). The header is checked when the file is opened, a block when it is first
read. Version 1, of 0.3.0, has the digest alone, and is read to its end when it is opened.
"""

import hashlib
import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from gol.data.blocks import CheckedArray, checksums
from gol.data.packing import offsets, pack, unpack
from gol.errors import UserError
from gol.files import atomic_path, read_json
from gol.files.digests import sha256

_MAGIC, _VERSION = b"GOLSTORE", 2
_START, _HEADER_CHECKSUM = struct.Struct("<8sII"), struct.Struct("<I")
_ALIGN = 64
_LAYOUT = {
    "image_id": "<i8",  # (N)
    "image_size": "(2,)<i8",  # (N) width and height in pixels
    "name_first": "<i8",  # (N + 1) where each file name begins in names
    "names": "u1",
    "first": "<i8",  # (N + 1) each image's first annotation
    "id": "<i8",  # (A)
    "category_id": "<i8",  # (A)
    "bbox": "(4,)<f8",  # (A) x, y, width, height in pixels
    "area": "<f8",  # (A) in pixels
    "iscrowd": "?",  # (A)
    "ignore": "?",  # (A) mmdet's own mark
    "part_first": "<i8",  # (A + 1)
    "part_form": "u1",  # (P)
    "byte_first": "<i8",  # (P + 1)
    "bytes": "u1",
}


class AnnotationStore:
    """Images, annotations and categories of one split, in the order of the file.

    Attributes:
        categories: as in the file.
        image_id: (N) int64.
        image_size: (N, 2) int64, width and height in pixels.
        first: (N + 1) int64; image i has the annotations ``first[i]`` to ``first[i + 1] - 1``.
        category_id: (A) int64.
    """

    def __init__(self, categories: list[dict], arrays: Mapping[str, Any]) -> None:
        self.categories, self._arrays = categories, arrays
        self.image_id, self.image_size = arrays["image_id"][:], arrays["image_size"][:]
        self.first, self.category_id = arrays["first"][:], arrays["category_id"][:]
        self._opened: tuple[Path, str] | None = None  # the file, and its digest

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Maps a store that :meth:`save` wrote, or reads a JSON file of the COCO schema.

        Raises:
            UserError: the file is missing, truncated, damaged or of another kind or version.
        """
        path = Path(path)
        if path.suffix == ".json":
            return cls.from_annotations(read_json(path), path)
        with _reading(path) as file:  # once: the file may be replaced at any time
            header, begin = _read_header(file, path)
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        places = _places(header["lengths"], begin)[0]
        arrays = {
            name: np.frombuffer(content, _LAYOUT[name], header["lengths"][name], place)
            for name, place in places.items()
        }
        if "blocks" not in header:
            _check_digest(header, arrays, path)
        else:
            blocks, damaged = header["blocks"], _damaged(path)
            arrays = {k: CheckedArray(array, blocks[k], damaged) for k, array in arrays.items()}
        store = cls(header["categories"], arrays)
        store._opened = path, header["digest"]
        return store

    @classmethod
    def from_annotations(cls, data: Mapping[str, Any], path: str | Path = "annotations") -> Self:
        """Holds the content of an annotation file of the COCO or LVIS schema.

        Args:
            data: ``images`` with ``file_name``, ``annotations`` and ``categories``. As in mmdet,
                annotations of unknown images are left out.
            path: its name for error messages.

        Raises:
            UserError: a key is missing or of the wrong type.
        """
        try:
            return cls(list(data["categories"]), _columns(data))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}: not of the COCO schema ({type(error).__name__}: {error})"
            ) from error

    def save(self, path: str | Path) -> None:
        """Writes the store as one file, atomically.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        arrays = {k: np.ascontiguousarray(self._arrays[k][:], _base(k)) for k in _LAYOUT}
        header: dict[str, Any] = {
            "categories": self.categories,
            "lengths": {name: len(array) for name, array in arrays.items()},
        }
        header["digest"] = _digest(header, arrays)
        header["blocks"] = {name: checksums(array) for name, array in arrays.items()}
        text = json.dumps(header).encode()
        start = _START.pack(_MAGIC, _VERSION, len(text)) + _HEADER_CHECKSUM.pack(zlib.crc32(text))
        begin = _aligned(len(start) + len(text))
        places, end = _places(header["lengths"], begin)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            file.write(start + text)
            for name, place in places.items():
                file.seek(place)
                file.write(arrays[name])
            file.truncate(end)

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self.image_id)

    def image(self, index: int) -> dict[str, Any]:
        """An image's ``id``, ``width``, ``height`` and ``file_name``."""
        start, end = self._arrays["name_first"][index : index + 2].tolist()
        width, height = self.image_size[index].tolist()
        return {
            "id": self.image_id[index].item(),
            "width": width,
            "height": height,
            "file_name": self._arrays["names"][start:end].tobytes().decode(),
        }

    def image_categories(self, index: int) -> list[int]:
        """The ``category_id`` of each annotation of an image."""
        return self.category_id[self.first[index] : self.first[index + 1]].tolist()

    def annotations(self, index: int) -> list[dict[str, Any]]:
        """An image's annotations as in the file, with numbers of boxes and areas as floats."""
        first, last = self.first[index : index + 2].tolist()
        columns = {
            key: self._arrays[key][first:last].tolist()
            for key in ("id", "category_id", "bbox", "area", "ignore")
        }
        columns["iscrowd"] = self._arrays["iscrowd"][first:last].astype(int).tolist()
        parts = self._arrays["part_first"][first : last + 1].tolist()
        low, high = parts[0], parts[-1]
        forms = self._arrays["part_form"][low:high].tolist()
        ends = self._arrays["byte_first"][low : high + 1].tolist()
        content = memoryview(self._arrays["bytes"][ends[0] : ends[-1]])
        ends = [end - ends[0] for end in ends]
        columns["segmentation"] = [
            unpack(forms[a - low : b - low], ends[a - low : b - low + 1], content)
            for a, b in pairwise(parts)
        ]
        image_id = self.image_id[index].item()
        return [
            {"image_id": image_id, **dict(zip(columns, row, strict=True))}
            for row in zip(*columns.values(), strict=True)
        ]

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Category ids (M,) and the boxes' centres (M, 2) as shares of the image's size.

        Of all annotations that are not to be ignored.
        """
        counted = ~self._arrays["ignore"][:]
        size = np.repeat(self.image_size, np.diff(self.first), axis=0)[counted]
        box = self._arrays["bbox"][:][counted]
        return self.category_id[counted], (box[:, :2] + box[:, 2:] / 2) / size

    def dataset(self) -> dict[str, list[dict]]:
        """The whole content in the COCO schema."""
        rows = range(len(self))
        return {
            "images": [self.image(index) for index in rows],
            "annotations": [entry for index in rows for entry in self.annotations(index)],
            "categories": self.categories,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file itself; only a store without a file carries its arrays."""
        return {"opened": self._opened} if self._opened else self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "opened" in state:
            path, digest = state["opened"]
            state = AnnotationStore.open(path).__dict__
            if state["_opened"][1] != digest:
                raise UserError(f"{path} was replaced while it was in use")
        self.__dict__.update(state)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a store's content, which its header holds, or of a JSON file.

    Raises:
        UserError: the file cannot be read or is not a store.
    """
    path = Path(path)
    if path.suffix == ".json":
        return sha256(path)
    with _reading(path) as file:
        return _read_header(file, path)[0]["digest"]


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The checked header, and where the arrays begin."""
    start = file.read(_START.size)
    if start[: len(_MAGIC)] != _MAGIC or len(start) < _START.size:
        raise UserError(f"{path} is not an annotation store: write one with `gol preprocess`")
    _, version, length = _START.unpack(start)
    if version not in (1, _VERSION):
        raise UserError(
            f"{path} is an annotation store of version {version}, not {_VERSION}: "
            "write it again with `gol preprocess`"
        )
    size, checksum = os.fstat(file.fileno()).st_size, b""
    if version > 1:
        checksum = file.read(_HEADER_CHECKSUM.size)
    text = file.read(min(length, size))
    begin = _aligned(_START.size + len(checksum) + length)
    try:
        if version > 1 and _HEADER_CHECKSUM.pack(zlib.crc32(text)) != checksum:
            raise ValueError
        header = json.loads(text)
        end = _places(header["lengths"], begin)[1]
        if not (isinstance(header["digest"], str) and isinstance(header["categories"], list)):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(_damaged(path)) from error
    if size != end:
        raise UserError(_damaged(path))
    return header, begin


def _damaged(path: Path) -> str:
    return f"{path} is truncated or damaged: write it again with `gol preprocess`"


def _check_digest(header: dict[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> None:
    if _digest({key: header[key] for key in ("categories", "lengths")}, arrays) != header["digest"]:
        raise UserError(_damaged(path))


def _digest(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of categories, lengths and arrays."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for array in arrays.values():
        digest.update(array)
    return digest.hexdigest()


def _places(lengths: Mapping[str, int], begin: int) -> tuple[dict[str, int], int]:
    """Where each array begins, and where the file ends."""
    places = {}
    end = begin
    for name, dtype in _LAYOUT.items():
        if type(lengths[name]) is not int or lengths[name] < 0:
            raise ValueError(f"length of {name}")
        places[name] = _aligned(end)
        end = places[name] + lengths[name] * np.dtype(dtype).itemsize
    return places, end


def _aligned(place: int) -> int:
    return math.ceil(place / _ALIGN) * _ALIGN


def _base(name: str) -> np.dtype:
    return np.dtype(_LAYOUT[name]).base


def _columns(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    images = data["images"]
    row = {image["id"]: index for index, image in enumerate(images)}
    annotations = [a for a in data["annotations"] if a["image_id"] in row]
    owner = np.array([row[a["image_id"]] for a in annotations], np.int64)
    order = np.argsort(owner, kind="stable").tolist()
    annotations = [annotations[index] for index in order]
    names = [image["file_name"].encode() for image in images]
    columns = {
        "image_id": [image["id"] for image in images],
        "image_size": [(image["width"], image["height"]) for image in images],
        "name_first": offsets(list(map(len, names))),
        "names": np.frombuffer(b"".join(names), np.uint8),
        "first": offsets(np.bincount(owner, minlength=len(images))),
        "id": [a["id"] for a in annotations],
        "category_id": [a["category_id"] for a in annotations],
        "bbox": [a["bbox"] for a in annotations],
        "area": [a["area"] for a in annotations],
        "iscrowd": [bool(a.get("iscrowd")) for a in annotations],
        "ignore": [bool(a.get("ignore")) for a in annotations],
    }
    arrays = {
        name: np.array(values, _base(name)).reshape(-1, *np.dtype(_LAYOUT[name]).shape)
        for name, values in columns.items()
    }
    return arrays | pack([a.get("segmentation") for a in annotations])
