"""Segmentations of the COCO schema as bytes, and back exactly.

A segmentation is a run of *parts*: one for each polygon, or a single one for anything else (RLE,
nothing). Annotation tools round to 1/100 pixel, so 16 bits hold most coordinates. A polygon takes
the first of the forms that gives it back bit for bit. Where it mixes whole numbers with others they
come back as floats, which is what numpy makes of them.
"""

import json
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from gol.progress import progress

_FORMS = (("<u2", 100.0), ("<i4", 100.0), ("<f8", 1.0))  # type and divisor
_FLOAT = 2  # holds every float
_WHOLE = 3  # whole numbers, int32: JSON tells 1 from 1.0, and numpy makes another array of it
_JSON = 4
_CHUNK = 20_000  # segmentations at once, for little memory


def pack(segmentations: Sequence[Any]) -> dict[str, np.ndarray]:
    """Packs the segmentations of A annotations, which have P parts and B bytes in all.

    Args:
        segmentations: values that JSON knows.

    Returns:
        ``part_first`` (A + 1) int64, each annotation's first part; ``part_form`` (P) uint8;
        ``byte_first`` (P + 1) int64, each part's first byte; ``bytes`` (B) uint8.
    """
    counts: list[int] = []
    forms: list[int] = []
    sizes: list[int] = []
    content = bytearray()
    starts = range(0, len(segmentations), _CHUNK)
    for start in progress(starts, "packing masks", len(starts)):
        parts = [_parts(value) for value in segmentations[start : start + _CHUNK]]
        counts += map(len, parts)
        chunk_forms, chunk = _pack_parts(list(chain.from_iterable(parts)))
        forms += chunk_forms
        sizes += map(len, chunk)
        content += b"".join(chunk)
    return {
        "part_first": offsets(counts),
        "part_form": np.array(forms, np.uint8),
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


def _pack_parts(parts: list[tuple[int, Any]]) -> tuple[list[int], list[bytes]]:
    if not parts:
        return [], []
    forms = np.array([form for form, _ in parts])
    numbers = [(0.0,) if form == _JSON else part for form, part in parts]
    first = offsets(list(map(len, numbers)))
    values = np.fromiter(chain.from_iterable(numbers), np.float64, count=first[-1])
    coded = {_WHOLE: values.astype("<i4") if (forms == _WHOLE).any() else None}
    undecided = forms == _FLOAT
    for form, (dtype, divisor) in enumerate(_FORMS):
        with np.errstate(invalid="ignore"):  # a number too large is found out by the comparison
            coded[form] = np.rint(values * divisor).astype(dtype) if form != _FLOAT else values
        same = (coded[form] / divisor).view(np.int64) == values.view(np.int64)
        fits = undecided & np.logical_and.reduceat(same, first[:-1])
        forms[fits], undecided = form, undecided & ~fits
    forms[undecided] = _FLOAT
    chosen, edges = forms.tolist(), pairwise(first.tolist())
    return chosen, [
        part if form == _JSON else coded[form][start:end].tobytes()
        for form, (_, part), (start, end) in zip(chosen, parts, edges, strict=True)
    ]


def _unpack_polygon(form: int, content: memoryview) -> list[int] | list[float]:
    if form == _WHOLE:
        return np.frombuffer(content, "<i4").tolist()
    dtype, divisor = _FORMS[form]
    return (np.frombuffer(content, dtype) / divisor).tolist()
