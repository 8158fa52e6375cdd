"""The two files that a protocol compares, read once for all protocols that cut them alike."""

from functools import cached_property
from pathlib import Path
from typing import Any

from gol.evaluation.inputs import CATEGORY, IMAGE
from gol.evaluation.lvis import IOU_THRESHOLDS, Pair, load_pair
from gol.evaluation.matches import Matches, match_all

_SUSPECT = 100  # one image in so many


class Source:
    """Annotations and detections, cut to the best of each image, or of each class.

    Args:
        annotations: JSON in the LVIS schema.
        detections: JSON list of detections.
        most: how many an image or a class may have.
        per_class: whether it is a class; sizes are those of masks then, where there are any.
    """

    def __init__(
        self, annotations: str | Path, detections: str | Path, most: int, per_class: bool
    ) -> None:
        self.files, self.most, self.per_class = (annotations, detections), most, per_class

    def load(self, with_masks: bool | None) -> Pair:
        """Reads both files; the arguments and errors are those of ``load_pair``."""
        of = CATEGORY if self.per_class else IMAGE
        return load_pair(*self.files, with_masks, self.most, of, by_mask=self.per_class)

    @cached_property
    def pair(self) -> Pair:
        """The files, with masks if there are any."""
        return self.load(None)

    @property
    def kind(self) -> str:
        """What is compared: "segm", or "bbox" where detections have no masks."""
        return "segm" if self.pair.with_masks else "bbox"

    @property
    def setting(self) -> dict[str, Any]:
        """What all numbers depend on."""
        limit = "detections_per_class" if self.per_class else "max_detections"
        return {"name": "", limit: self.most, "of": self.kind}

    @cached_property
    def matches(self) -> Matches:
        """At the ten IoU thresholds of AP, of masks where there are any."""
        return match_all(self.pair, self.kind, IOU_THRESHOLDS)

    @cached_property
    def warnings(self) -> list[str]:
        """Why the detections may be too few for this protocol."""
        if not self.per_class:
            return []
        images, classes, texts = self.pair.per_image, self.pair.per_class, []
        if few := int((classes < self.most).sum()):
            texts.append(
                f"{few:,} of {len(classes):,} classes have fewer than {self.most:,} detections"
            )
        full = int((classes == classes.max()).sum())
        if 0 < classes.max() < self.most and full > 1 and full * _SUSPECT >= len(classes):
            texts.append(
                f"{full:,} classes have {classes.max():,} detections and none has more: they look "
                f"like the best {classes.max():,} of each, not {self.most:,} (--per-class)"
            )
        full = int((images == images.max()).sum())
        if images.any() and full > 1 and full * _SUSPECT >= len(images):
            texts.append(
                f"{full:,} images have {images.max():,} detections and none has more: they look "
                "like cut image by image, which this protocol does not mean; "
                "`gol detect --per-class` does not cut them"
            )
        return texts
