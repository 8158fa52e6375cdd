"""What was changed, left out or could not be decided, counted by kind."""

from collections import Counter

from gol.data.annotations import Problem

REPAIRED, LEFT_OUT, NOTE = "repaired: ", "left out", "note"
#: Every kind to how it is handled; an error is followed by what to do about it.
KINDS = {
    # means one thing only
    "annotation ids that were missing or repeated": REPAIRED + "numbered anew",
    "id or size written as text or with a decimal point": REPAIRED + "taken as a whole number",
    "flag written as a text": REPAIRED + "taken as true or false",
    "file name with backslashes": REPAIRED + "taken as /",
    "NaN or infinity in a field that nobody reads": REPAIRED + "null",
    "polygon that was not in a list": REPAIRED + "put in one",
    "image ids that were no whole numbers": REPAIRED + "numbered anew",
    "class ids that were no whole numbers": REPAIRED + "numbered anew",
    "classes with another id in this split": REPAIRED + "matched by name",
    "root category without objects": REPAIRED + "left out",
    "image entries that were there twice": REPAIRED + "joined",
    "object of such an image that was there twice": REPAIRED + "left out",
    "image file with another suffix than its name in the labels": REPAIRED + "taken",
    "image file with letters of another case": REPAIRED + "taken",
    "missing image size": REPAIRED + "taken from the file",
    "missing box": REPAIRED + "computed from the mask",
    "missing area": REPAIRED + "computed from the mask",
    "box written as two corners": REPAIRED + "taken as such",
    "box or mask up to 1 % or 2 px outside the image": REPAIRED + "clipped",
    "polygon without three points": REPAIRED + "polygon left out",
    "circle or ellipse": REPAIRED + "drawn as a polygon",
    "regions without a class": REPAIRED + "class 'object'",
    # nothing to learn from
    "point, line or other shape without an area": LEFT_OUT,
    "annotation without box and mask": LEFT_OUT,
    "object without an area": LEFT_OUT,
    "image that no label mentions": LEFT_OUT,
    "object of an image that is left out": LEFT_OUT,
    "file that holds no labels of the format": LEFT_OUT,
    # as the options say
    "crowd region (iscrowd)": "no object; --crowd objects takes them as such",
    "crowd region taken as an object": "as --crowd objects says",
    "box taken as a mask": "as --boxes rectangles says",
    "box without a mask": "left out, as --boxes drop says",
    "image size taken from the file": "as --sizes file says",
    "image whose annotations were scaled": "as --sizes scale says",
    "box that hardly overlaps its mask": "kept as it is",
    "classes whose names differ in case, spaces or hyphens alone": "kept as two classes",
    "image in more than one split": NOTE,
    "image in the lists of several splits": "taken as of the last, if its folder says nothing",
    "image in a list of another split than its folder or data.yaml": "not as listed",
    "line of a list that fits no image, or several": "not used",
    "image with the same content as another": "`gol split` keeps them together",
    "image without a label file": "taken as without objects",
}
#: Questions and errors: how a line goes on after the example. ``--drop-bad`` leaves out what
#: stands in :data:`DROPPABLE`.
QUESTIONS = {
    "boxes without masks": "--boxes rectangles takes the boxes as masks (enough for a box "
    "detector), --boxes drop leaves them out",
    "all annotations are crowd regions (iscrowd)": "--crowd objects takes them as objects (CVAT "
    "marks what was painted with a brush so), --crowd regions leaves them crowds",
    "image of another size": "--sizes file takes the annotations as pixels of the file, "
    "--sizes scale resizes them to it",
}
DROPPABLE = {
    "unreadable label file": "",
    "missing image file": "--images names their folder",
    "several image files of that name": "--images names their folder",
    "unreadable image file": "",
    "image that was labelled as if it had no Exif orientation": "it is turned in training, as "
    "viewers do; remove the orientation from the file",
    "image of another size with an RLE mask": "",
    "annotation of an unknown image": "",
    "annotation of an unknown class": "",
    "box or mask outside the image": "",
    "malformed mask": "",
    "malformed label": "",
}
ERRORS = QUESTIONS | DROPPABLE
_EXAMPLES = 3


class Findings:
    """Counts findings by kind and keeps the first examples of each.

    Args:
        drop_bad: leaves out what is wrong instead of reporting an error.
    """

    def __init__(self, drop_bad: bool = False) -> None:
        self.drop_bad = drop_bad
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Adds ``count`` findings of a kind in :data:`KINDS` or :data:`ERRORS`."""
        severity = KINDS.get(kind, "error")
        if self.drop_bad and kind in DROPPABLE:
            severity = "left out, as --drop-bad says"
        self._counts[kind, severity] += count
        examples = self._examples.setdefault((kind, severity), [])
        if len(examples) < _EXAMPLES:
            examples.append(example)

    def problems(self) -> list[Problem]:
        """One entry for each kind."""
        return [
            Problem(kind, severity, count, tuple(self._examples[kind, severity]))
            for (kind, severity), count in self._counts.items()
        ]

    def advice(self) -> str:
        """The errors in one line with what to do about each; empty if there are none."""
        fatal = [problem for problem in self.problems() if problem.fatal]
        parts = [f"{p}{': ' * bool(ERRORS[p.kind])}{ERRORS[p.kind]}" for p in fatal]
        if any(problem.kind in DROPPABLE for problem in fatal):
            parts.append("--drop-bad leaves out what is wrong")
        return "; ".join(parts)
