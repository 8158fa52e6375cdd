"""The files of an export, and what a reader makes of them."""

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from PIL import Image

from gol.data.images import IMAGE_SUFFIXES
from gol.errors import UserError

#: Folders of VOC whose pictures are labels.
MASK_FOLDERS = ("SegmentationClass", "SegmentationObject")
_ORIENTATION, _SIDEWAYS = 0x0112, 5  # Exif tag; from this value on width and height are swapped
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass
class Labels:
    """What a reader found for one split, as lists of the COCO schema that may have gaps.

    Ids are whatever the file has. An image may lack its size, an annotation its ``id``, ``bbox``
    and ``area``; one with a ``bbox`` and no ``segmentation`` is a box without a mask. Coordinates
    are pixels of the image file.

    Attributes:
        source: the file or folder of the labels, relative to the export.
        split: train, val, test, or None if nothing says so.
        images: the images.
        annotations: the objects.
        categories: the classes.
        has_ids: whether the format numbers annotations and states their boxes and areas, so that
            it is worth a word where these are missing.
    """

    source: PurePosixPath
    split: str | None
    images: list[Any] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    categories: list[Any] = field(default_factory=list)
    has_ids: bool = False

    def add_image(self, name: str, **keys: Any) -> dict[str, Any]:
        """Adds an image with the next id."""
        image = {"id": len(self.images) + 1, "file_name": name, **keys}
        self.images.append(image)
        return image

    def add(self, image: dict[str, Any], name: str, **keys: Any) -> None:
        """Adds an object of the class ``name``, which is its id until all classes are known."""
        self.annotations.append({"image_id": image["id"], "category_id": name.strip(), **keys})

    def name_classes(self, names: Iterable[str]) -> "Labels":
        """Sets the classes, in the order of ``names``; annotations name theirs."""
        names = dict.fromkeys(name.strip() for name in names)
        ids = {name: number for number, name in enumerate(names, 1)}
        self.categories = [{"id": number, "name": name} for name, number in ids.items()]
        for annotation in self.annotations:
            annotation["category_id"] = ids[annotation["category_id"]]
        return self


class Export:
    """A folder with label files and images.

    Args:
        root: the folder.
        only: the one label file to read, or None.
        images: folder of the images; None: ``root``.
        without: a folder to leave out, the output.
    """

    def __init__(
        self, root: Path, only: Path | None, images: Path | None, without: Path | None
    ) -> None:
        self.root, self.images = root, images or root
        self.paths = [only] if only else sorted(_walk(root, without))
        self.pictures = sorted(_walk(self.images, without)) if only or images else self.paths
        self.pictures = [path for path in self.pictures if _is_photo(path)]
        self._json: dict[Path, Any] = {}
        self._xml: dict[Path, Any] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        #: Label files that could not be read, and why.
        self.unreadable: dict[Path, str] = {}
        #: Files that a format reads beside those with labels: the classes, the images of a split.
        self.read_too: set[Path] = set()
        #: Images that labels name, as :meth:`image` finds them.
        self.named: set[str] = set()

    def files(self, *suffixes: str) -> list[Path]:
        """The label files with one of these suffixes, which are in lower case."""
        return [path for path in self.paths if path.suffix.lower() in suffixes]

    def name(self, path: Path) -> PurePosixPath:
        """A file's or folder's path relative to the export."""
        return PurePosixPath(path.relative_to(self.root).as_posix())

    def image_name(self, path: Path) -> PurePosixPath:
        """An image's path relative to the image folder."""
        return PurePosixPath(path.relative_to(self.images).as_posix())

    def size(self, name: str) -> tuple[int, int]:
        """Width and height of an image in pixels, turned as its Exif data says; read once.

        Raises:
            UserError: it cannot be read.
        """
        if name not in self._sizes:
            self._sizes[name] = _size(self.images / name)
        return self._sizes[name]

    def json(self, path: Path) -> Any:
        """The content of a JSON file, read once; None if it is not valid JSON."""
        if path not in self._json:
            try:
                content = json.loads(path.read_bytes())  # UTF-8, 16 or 32, with a BOM or without
            except (OSError, ValueError, RecursionError) as error:
                content = None
                self.unreadable[path] = f"{path} is not valid JSON (truncated?): {error}"
            if isinstance(content, dict):
                content.pop("imageData", None)  # LabelMe's copy of the image
            self._json[path] = content
        return self._json[path]

    def xml(self, path: Path) -> ElementTree.Element | None:
        """The root of an XML file, read once; None if it is not XML or declares a DOCTYPE."""
        if path not in self._xml:
            parser = ElementTree.XMLParser(target=_Builder())
            try:
                self._xml[path] = root = ElementTree.parse(path, parser).getroot()
                if any(map(_has_stray_text, root.iter())):
                    raise ValueError("text between its elements")  # was one of them
            except (OSError, ElementTree.ParseError, ValueError, LookupError, UserError) as error:
                self._xml[path] = None
                self.unreadable[path] = f"{path} is not valid XML (truncated?): {error}"
        return self._xml[path]

    def is_turned(self, name: str, stated: tuple[int | None, ...]) -> bool:
        """Whether an image has the stated sides only without the turn that its Exif data ask for.

        Raises:
            UserError: it cannot be read.
        """
        size = self.size(name)
        if stated == size or stated[::-1] != size:
            return False
        with Image.open(self.images / name) as image:
            return image.size == stated

    @cached_property
    def _index(self) -> tuple[dict[str, list[PurePosixPath]], ...]:
        """The images by name, alone and with a folder; without a suffix; in small letters."""
        names, stems, small = defaultdict(list), defaultdict(list), defaultdict(list)
        for path in self.pictures:
            name = self.image_name(path)
            names[_composed(name.name)].append(name)
            names[_composed(f"{name.parent.name}/{name.name}")].append(name)
            stems[_composed(name.stem)].append(name)
            small[_composed(name.name).lower()].append(name)
        return names, stems, small

    def image(self, name: str, labels: Labels) -> str | None:
        """An image's file, relative to the image folder.

        Exports are moved and repacked: what counts is how much of the end of the name agrees,
        then whether the file is of the same split, then how near it is to the labels.

        Args:
            name: a path of Windows or Unix, or an address; the suffix may be missing, and letters
                be of the other case if no name fits as it is.
            labels: in which it is named.

        Returns:
            Its path; None if there is none.

        Raises:
            UserError: several are equally likely.
        """
        names, stems, small = self._index
        wanted = PurePosixPath(_composed(name).replace("\\", "/"))
        found = names.get(wanted.name)
        if not found:  # an address, which may name the file in its query: ?d=folder%2Ffile.jpg
            whole = PurePosixPath(_composed(unquote(str(wanted))))
            bare = PurePosixPath(_composed(unquote(str(wanted).split("?")[0])))
            wanted = whole if whole.name in names else bare
            found = names.get(wanted.name) or stems.get(wanted.name) or stems.get(wanted.stem)
            found = found or small.get(wanted.name.lower(), [])

        def fits(path: PurePosixPath) -> bool:
            """Whether it is not a file of another split, unless its folder is named."""
            splits = {split_of(path.parent), labels.split, None}
            return len(splits) < 3 or _composed(path.parent.name) == wanted.parent.name

        # Of a name that is in every folder, those in the named one are enough.
        near = filter(fits, names.get("/".join(wanted.parts[-2:]), ()))
        found = list(near) or list(filter(fits, found))
        if not found:
            return None

        def likely(path: PurePosixPath) -> tuple[int, bool, int]:
            beside = self.root / labels.source.parent
            folder = (self.images / path).parent
            return (
                _common(_parts(path.parent)[::-1], wanted.parent.parts[::-1]),
                labels.split is not None and split_of(path.parent) == labels.split,
                _common(folder.parts, beside.parts),
            )

        first, *others = sorted(found, key=likely, reverse=True)
        if others and likely(others[0]) == likely(first):
            raise UserError(f"{name} may be {first} or {others[0]}")
        self.named.add(str(first))
        return str(first)


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: object) -> None:
        # Entities, which could read files or grow without end, are declared in one.
        raise UserError("no label file needs a DOCTYPE")


def _has_stray_text(element: ElementTree.Element) -> bool:
    inside = element.text if len(element) else ""
    return bool(f"{inside or ''}{element.tail or ''}".strip())


def _composed(text: str) -> str:
    """One form of letters with accents, of which macOS writes another one than labels have."""
    return unicodedata.normalize("NFC", text)


def _parts(path: PurePosixPath) -> tuple[str, ...]:
    return tuple(map(_composed, path.parts))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.parent.name not in MASK_FOLDERS


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
            return image.size[::-1] if turned else image.size
    except Exception as error:  # Pillow's readers raise all kinds of them
        raise UserError(f"{path}: {error or type(error).__name__}") from error


def split_of(path: PurePosixPath) -> str | None:
    """The split that a path's parts name, the last one first: instances_val2017 is val's."""
    for part in reversed(path.parts):
        words = re.findall("[a-z]+", part.lower())
        named = {_SPLITS[word] for word in words if word in _SPLITS}
        if len(named) == 1:
            return named.pop()
    return None


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts are equal from the beginning."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _walk(root: Path, without: Path | None) -> Iterable[Path]:
    """All files below a folder, through links too, but without what systems add."""
    seen = {os.path.realpath(without)} if without else set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name != "__MACOSX" and not name.startswith(".")]
        yield from (Path(folder, name) for name in files if not name.startswith("."))
