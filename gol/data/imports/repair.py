"""From what a reader found to images and annotations without gaps and oddities."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from gol.data.images import IMAGE_SUFFIXES
from gol.data.imports.export import Export, Labels
from gol.data.imports.findings import Findings
from gol.data.imports.objects import Place, repair_object
from gol.data.imports.values import flag, id_key, whole
from gol.data.objects import plain
from gol.errors import UserError, shown

_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of LVIS


def join_lists(image: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds the lists of classes of another entry of the same image."""
    for name in _LISTS:
        if isinstance(other.get(name), list):
            known = image[name] if isinstance(image.get(name), list) else []
            image[name] = list(dict.fromkeys([*known, *other[name]]))


@dataclass(frozen=True)
class Answers:
    """What to do where an export may mean two things; None: ask.

    Attributes:
        boxes: boxes without masks become masks, or are dropped.
        crowd: crowd regions become objects, or stay.
        sizes: where an image is not of the stated size, the annotations are pixels of the file,
            or are scaled to it.
        class_key: the attribute of VIA's regions that names the class.
    """

    boxes: Literal["rectangles", "drop"] | None = None
    crowd: Literal["objects", "regions"] | None = None
    sizes: Literal["file", "scale"] | None = None
    class_key: str | None = None


class Repair:
    """Repairs one part of an export.

    Args:
        part: what a reader found.
        classes: the part's ids of classes to the new ones.
        export: for the image files.
        answers: what to do where two things may be meant.
        findings: for what is changed.
    """

    def __init__(
        self,
        part: Labels,
        classes: dict[Any, int],
        export: Export,
        answers: Answers,
        findings: Findings,
    ) -> None:
        self.part, self.classes, self.export = part, classes, export
        self.answers, self.findings = answers, findings
        self._images: dict[Any, dict[str, Any]] = {}  # by the part's own id
        self._scales: dict[Any, tuple[float, float]] = {}
        self._refused: set[Any] = set()  # images whose objects need no word of their own

    def repaired(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Images with ``file_name`` relative to the image folder, and their annotations."""
        for entry in self.part.images:
            self._image(entry if isinstance(entry, dict) else {})
        images = list(self._images.values())
        if not all(isinstance(key, int) for key in self._images):
            self._found("image ids that were no whole numbers", images[0]["file_name"], len(images))
            for number, image in enumerate(images, 1):
                image["id"] = number
        found = (
            self._annotation(entry if isinstance(entry, dict) else {}, index)
            for index, entry in enumerate(self.part.annotations)
        )
        return images, self._numbered([annotation for annotation in found if annotation])

    def _found(self, kind: str, example: str, count: int = 1) -> None:
        self.findings.add(kind, f"{self.part.source}: {example}", count)

    def _numbered(self, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ids = [whole(annotation["id"]) for annotation in annotations]
        if None not in ids and len(set(ids)) == len(ids):
            return [{**a, "id": number} for a, number in zip(annotations, ids, strict=True)]
        if self.part.has_ids:
            again = len(ids) - len(set(ids) - {None})
            example = f"{again} of {len(ids)}"
            self._found("annotation ids that were missing or repeated", example, len(ids))
        return [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)]

    def _image(self, entry: dict[str, Any]) -> None:
        key = id_key(entry.get("id"))
        if key is None:
            self._found("malformed label", f"image {shown(entry.get('file_name'))} has no id")
            return
        stated = tuple(whole(entry.get(side)) for side in ("width", "height"))
        try:
            file, size = self._file(entry)
            if self.export.is_turned(file, stated):
                raise _Refused("image that was labelled as if it had no Exif orientation", file)
        except _Refused as refused:
            self._refused.add(key)
            self._found(*refused.args)
            return
        other = self._images.get(key)
        if other is not None and other["file_name"] == file:
            self._found("image entries that were there twice", file)
            join_lists(other, self._lists(entry))
            return
        if other is not None:
            raise UserError(
                f"{self.part.source}: {other['file_name']} and {file} have the same id {key}"
            )
        self._check_size(key, file, stated, size)
        known = {"id": key, "file_name": file, "width": size[0], "height": size[1]}
        image = {**plain(entry), **known}
        if image != {**entry, **known}:
            self._found("NaN or infinity in a field that nobody reads", file)
        self._check_whole(entry, ("id", "width", "height"), file)
        self._images[key] = image | self._lists(entry)

    def _lists(self, entry: dict[str, Any]) -> dict[str, list[int]]:
        """An image's lists of classes, with the new ids."""
        given = {name: entry[name] for name in _LISTS if isinstance(entry.get(name), list)}
        ids = {
            name: [self.classes.get(id_key(v)) for v in listed] for name, listed in given.items()
        }
        return {name: [i for i in listed if i is not None] for name, listed in ids.items()}

    def _file(self, entry: dict[str, Any]) -> tuple[str, tuple[int, int]]:
        """The file of an image and its size."""
        name = entry.get("file_name") or entry.get("coco_url")
        if not isinstance(name, str):
            raise _Refused("missing image file", f"image {shown(entry.get('id'))} has no file_name")
        if "\\" in name:
            self._found("file name with backslashes", name)
        try:
            file = self.export.image(name, self.part)
        except UserError as error:
            raise _Refused("several image files of that name", str(error)) from error
        if file is None:
            raise _Refused("missing image file", f"{name} is not below {self.export.images}")
        said, real = (PurePosixPath(path.replace("\\", "/")) for path in (name, file))
        if said.suffix.lower() in IMAGE_SUFFIXES - {real.suffix.lower()}:
            kind = "image file with another suffix than its name in the labels"
            self._found(kind, f"{name} is {file}")
        elif said.name != real.name and said.name.lower() == real.name.lower():
            self._found("image file with letters of another case", f"{name} is {file}")
        try:
            return file, self.export.size(file)
        except UserError as error:
            raise _Refused("unreadable image file", str(error)) from error

    def _check_whole(self, entry: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
        """Notes whole numbers in another form: in quotes, with a decimal point."""
        values = (entry.get(key) for key in keys)
        if self.part.has_ids and any(
            type(value) is not int and whole(value) is not None for value in values
        ):
            self._found("id or size written as text or with a decimal point", where)

    def _check_size(
        self, key: Any, file: str, stated: tuple[int | None, ...], found: tuple[int, int]
    ) -> None:
        width, height = stated
        if not width or not height:
            if self.part.has_ids:
                self._found("missing image size", file)
            return
        if stated == found:
            return
        detail = "{} is {} x {}, not {} x {} px".format(file, *found, *stated)
        if self.answers.sizes is None:
            self._refused.add(key)
            self._found("image of another size", detail)
        elif self.answers.sizes == "file":
            self._found("image size taken from the file", detail)
        else:
            self._found("image whose annotations were scaled", detail)
            self._scales[key] = (found[0] / width, found[1] / height)

    def _annotation(self, entry: dict[str, Any], index: int) -> dict[str, Any] | None:
        where = f"annotation {shown(entry['id']) if 'id' in entry else index + 1}"
        key = id_key(entry.get("image_id"))
        image = self._images.get(key)
        if image and "id" not in entry:
            where += f" (in {image['file_name']})"
        category = self.classes.get(id_key(entry.get("category_id")))
        flags = {name: flag(entry.get(name)) for name in ("iscrowd", "ignore")}
        if key in self._refused:
            self._found("object of an image that is left out", where)
        elif image is None:
            self._found("annotation of an unknown image", f"{where} has image_id {shown(key)}")
        elif category is None:
            kind = shown(entry.get("category_id"))
            self._found("annotation of an unknown class", f"{where} has category_id {kind}")
        elif None in flags.values():
            self._found("malformed label", f"{where}: iscrowd or ignore is neither 0 nor 1")
        else:
            size, answer = (image["width"], image["height"]), self.answers.boxes

            def found(kind: str, detail: str) -> None:
                self._found(kind, f"{where} {detail}".rstrip())

            place = Place(size, self._scales.get(key), answer, found, self.part.has_ids)
            self._check_whole(entry, ("id", "image_id", "category_id"), where)
            if any(isinstance(entry.get(name), str) for name in flags):
                found("flag written as a text", "")
            shape = repair_object(entry, place)
            if shape is not None:
                ids = {"id": entry.get("id"), "image_id": image["id"], "category_id": category}
                extra = {"ignore": 1} if flags["ignore"] else {}
                return {**ids, **shape, "iscrowd": int(flags["iscrowd"]), **extra}
        return None


class _Refused(Exception):
    """Why an image cannot be used: kind, example."""
