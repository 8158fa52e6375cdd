"""Segmentations of the COCO schema as bytes, and back exactly.

A segmentation is a run of *parts*: one for each polygon, or a single one for anything else (RLE,
nothing). Annotation tools round to 1/100 pixel, so 16 bits hold most coordinates. A polygon takes
the first of the forms that gives it back bit for bit. Where it mixes whole numbers with others they
come back as floats, which is what numpy makes of them.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, chain, islice, pairwise
from typing import Any, Self

import numpy as np

from gol.files import json_text
from gol.progress import progress

_FORMS = (("<u2", 100.0), ("<i4", 100.0), ("<f8", 1.0))  # type and divisor
_FLOAT = 2  # holds every float
_WHOLE = 3  # whole numbers, int32: JSON tells 1 from 1.0, and numpy makes another array of it
_JSON = 4
_CHUNK = 20_000  # segmentations at once, for little memory
_RUN = 1000  # entries that are written at once
_EXTENT = struct.Struct("<4dI")  # least and greatest x and y, number of polygons


class Packed(bytes):
    """A segmentation of polygons of three points or more in a tenth of a list's memory, exactly.

    The bytes are its extent, and of each polygon the form, the size in bytes, and the content.
    """

    __slots__ = ()

    @classmethod
    def of(cls, extent: Sequence[float], forms: Sequence[int], parts: Sequence[bytes]) -> Self:
        """One of some parts, as :func:`pack` has them."""
        count = len(parts)
        head = _EXTENT.pack(*extent, count)
        sizes = struct.pack(f"<{count}I", *map(len, parts))
        return cls(b"".join((head, bytes(forms), sizes, *parts)))

    def outside(self, width: float, height: float) -> float:
        """How far it reaches beyond an image of so many pixels; negative if it does not."""
        left, top, right, bottom, _ = _EXTENT.unpack_from(self)
        return max(-left, -top, right - width, bottom - height)

    def parts(self) -> tuple[Sequence[int], list[bytes]]:
        """The form and the content of each polygon."""
        count = _EXTENT.unpack_from(self)[-1]
        begin = _EXTENT.size + count
        forms, sizes = self[_EXTENT.size : begin], struct.unpack_from(f"<{count}I", self, begin)
        ends = accumulate(sizes, initial=begin + 4 * count)
        return forms, [self[start:end] for start, end in pairwise(ends)]

    def polygons(self) -> list[list[float]]:
        """The lists of numbers that it was made of."""
        return [_unpack_polygon(*part) for part in zip(*self.parts(), strict=True)]


def shrink(annotations: list) -> list:
    """Entries of an annotation file, with :class:`Packed` masks where that loses nothing.

    Args:
        annotations: as read, of any content; objects among them are changed.
    """
    chosen: list[dict] = []
    found: list[list[tuple[int, list]]] = []
    for a in annotations:
        mask = a.get("segmentation") if isinstance(a, dict) else None
        parts = [(_exact_form(part), part) for part in mask] if isinstance(mask, list) else []
        if parts and all(form != _JSON for form, _ in parts):
            chosen.append(a)
            found.append(parts)
    if not chosen:
        return annotations
    first = offsets([*map(len, found)])
    forms, contents, values, edges = _pack_parts([*chain.from_iterable(found)])
    corners = edges[first[:-1]] // 2
    points = values.reshape(-1, 2)
    low, high = (f.reduceat(points, corners) for f in (np.minimum, np.maximum))
    finite = np.isfinite(low).all(1) & np.isfinite(high).all(1)
    extents = np.hstack([low, high]).tolist()
    for a, (start, end), extent, fine in zip(
        chosen, pairwise(first.tolist()), extents, finite.tolist(), strict=True
    ):
        if fine:
            a["segmentation"] = Packed.of(extent, forms[start:end], contents[start:end])
    return annotations


def annotation_texts(entries: Iterable[Any]) -> Iterator[str]:
    """Each entry of a list as JSON; one with a :class:`Packed` mask has numbers beside it alone."""
    entries = iter(entries)
    while run := list(islice(entries, _RUN)):
        masks = [entry.get("segmentation") if isinstance(entry, dict) else None for entry in run]
        texts = _mask_texts([mask for mask in masks if isinstance(mask, Packed)])
        for entry, mask in zip(run, masks, strict=True):
            if isinstance(mask, Packed):  # Python and JSON write finite numbers alike
                values = {**entry, "segmentation": next(texts)}
                yield "{" + ", ".join([f'"{key}": {text}' for key, text in values.items()]) + "}"
            else:
                yield json_text(entry)


def _mask_texts(masks: Sequence[Packed]) -> Iterator[str]:
    """Each mask as JSON; numbers of the first form are looked up, those of all masks at once."""
    parts = [list(zip(*mask.parts(), strict=True)) for mask in masks]
    looked_up = [content for mask in parts for form, content in mask if not form]
    numbers = np.frombuffer(b"".join(looked_up), _FORMS[0][0])
    characters = _hundredths()[numbers].view(np.uint8)
    used = characters != 0
    text = characters[used].tobytes().decode()
    ends = np.append(0, np.cumsum(used.reshape(-1, 8).sum(1)))
    places = ends[offsets([len(content) // 2 for content in looked_up])].tolist()
    lists = (f"[{text[start : end - 2]}]" for start, end in pairwise(places))
    for mask in parts:
        polygons = (json_text(_unpack_polygon(*p)) if p[0] else next(lists) for p in mask)
        yield f"[{', '.join(polygons)}]"


@cache
def _hundredths() -> np.ndarray:
    """Of each number of the first form eight characters: its JSON, a comma and a space, zeros."""
    texts = [f"{i / _FORMS[0][1]}, ".encode() for i in range(1 << 16)]
    return np.array(texts, "S8").view(np.uint64)


def pack(segmentations: Sequence[Any]) -> dict[str, np.ndarray]:
    """Packs the segmentations of A annotations, which have P parts and B bytes in all.

    Args:
        segmentations: values that JSON knows, or :class:`Packed`.

    Returns:
        ``part_first`` (A + 1) int64, each annotation's first part; ``part_form`` (P) uint8;
        ``byte_first`` (P + 1) int64, each part's first byte; ``bytes`` (B) uint8.
    """
    counts: list[int] = []
    forms = bytearray()
    sizes: list[int] = []
    content = bytearray()
    starts = range(0, len(segmentations), _CHUNK)
    for start in progress(starts, "packing masks", len(starts)):
        for part_forms, parts in _all_parts(segmentations[start : start + _CHUNK]):
            counts.append(len(parts))
            forms += bytes(part_forms)
            sizes += map(len, parts)
            content += b"".join(parts)
    return {
        "part_first": offsets(counts),
        "part_form": np.frombuffer(forms, np.uint8),
        "byte_first": offsets(sizes),
        "bytes": np.frombuffer(content, np.uint8),
    }


def unpack(forms: Sequence[int], ends: Sequence[int], content: memoryview) -> Any:
    """One segmentation.

    Args:
        forms: the form of each of its parts.
        ends: where its parts begin in ``content`` and, last, where they end.
        content: all bytes.
    """
    if forms and forms[0] == _JSON:
        return json.loads(bytes(content[ends[0] : ends[1]]))
    return [
        _unpack_polygon(form, content[start:end])
        for form, (start, end) in zip(forms, pairwise(ends), strict=True)
    ]


def offsets(counts: Sequence[int]) -> np.ndarray:
    """0 and the running totals, (n + 1) int64."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _all_parts(segmentations: Sequence[Any]) -> Iterator[tuple[Sequence[int], list[bytes]]]:
    """The forms and the contents of each segmentation's parts."""
    found = [_parts(value) for value in segmentations if not isinstance(value, Packed)]
    forms, contents, *_ = _pack_parts([*chain.from_iterable(found)])
    edges = pairwise(accumulate(map(len, found), initial=0))
    for value in segmentations:
        if isinstance(value, Packed):
            yield value.parts()
        else:
            start, end = next(edges)
            yield forms[start:end], contents[start:end]


def _parts(segmentation: Any) -> list[tuple[int, Any]]:
    """Each part with its form, _FLOAT standing for all forms of floats."""
    if isinstance(segmentation, list):
        parts = [(_form(polygon), polygon) for polygon in segmentation]
        if all(form != _JSON for form, _ in parts):
            return parts
    return [(_JSON, json.dumps(segmentation).encode())]


def _form(polygon: Any) -> int:
    types = set(map(type, polygon)) if isinstance(polygon, list) else set()
    if types == {int} and min(polygon) >= -(2**31) and max(polygon) < 2**31:
        return _WHOLE
    return _FLOAT if float in types and types <= {int, float} else _JSON


def _exact_form(polygon: Any) -> int:
    """The form of three points or more that it gives back with their types; otherwise _JSON."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return _JSON
    types = set(map(type, polygon))
    return _FLOAT if types == {float} else _form(polygon) if types == {int} else _JSON


def _pack_parts(
    parts: list[tuple[int, Any]],
) -> tuple[list[int], list[bytes], np.ndarray, np.ndarray]:
    """Forms, contents, all numbers, and where those of each part begin and end."""
    if not parts:
        return [], [], np.zeros(0), np.zeros(1, np.int64)
    forms = np.array([form for form, _ in parts])
    numbers = [(0.0,) if form == _JSON else part for form, part in parts]
    first = offsets(list(map(len, numbers)))
    values = np.fromiter(chain.from_iterable(numbers), np.float64, count=first[-1])
    undecided, coded = forms == _FLOAT, {}
    with np.errstate(invalid="ignore"):  # it is for the whole numbers alone
        coded[_WHOLE] = values.astype("<i4") if (forms == _WHOLE).any() else None
    for form, (dtype, divisor) in enumerate(_FORMS):
        with np.errstate(invalid="ignore"):  # a number too large is found out by the comparison
            coded[form] = np.rint(values * divisor).astype(dtype) if form != _FLOAT else values
        same = (coded[form] / divisor).view(np.int64) == values.view(np.int64)
        fits = undecided & np.logical_and.reduceat(same, first[:-1])
        forms[fits], undecided = form, undecided & ~fits
    forms[undecided] = _FLOAT
    chosen, edges = forms.tolist(), pairwise(first.tolist())
    contents = [
        part if form == _JSON else coded[form][start:end].tobytes()
        for form, (_, part), (start, end) in zip(chosen, parts, edges, strict=True)
    ]
    return chosen, contents, values, first


def _unpack_polygon(form: int, content: memoryview) -> list[int] | list[float]:
    if form == _WHOLE:
        return np.frombuffer(content, "<i4").tolist()
    dtype, divisor = _FORMS[form]
    return (np.frombuffer(content, dtype) / divisor).tolist()
