"""A trained run as a detector of any photo, in three lines of Python.

Shapes: D: detections of a photo, h × w: its size in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gol.config.own import own_part
from gol.data.images import read_photo
from gol.engine.detect import build_scorer
from gol.engine.distributed import find_device
from gol.engine.precision import Precision, find_precision
from gol.engine.standalone import counted, detector_of
from gol.errors import UserError, shown
from gol.models.state import load_weights

if TYPE_CHECKING:
    from PIL.Image import Image
    from supervision import Detections

    Photo = str | Path | np.ndarray | Image

#: How many times longer than the other a side may be: resized, the short one keeps a pixel.
_NARROWEST = 100


def load_detector(
    run: str | Path,
    device: str | None = None,
    scoring: str | None = None,
    checkpoint: str | Path | None = None,
    experiment: str | None = None,
    config: str | Path | None = None,
    dataset: str | None = None,
    classes: str | None = None,
) -> "Detector":
    """The detector that a run has trained; neither its images nor its annotations are needed.

    A checkpoint is enough where ``experiment`` or ``config`` says what detector it is of: one of
    ours, or of mmdet 2 or 3, such as mmdet's zoo has. A checkpoint
    beside its run's ``config.json`` needs neither.

    Args:
        run: folder of a trained run, or a checkpoint.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU.
        scoring: activation that turns logits into scores; default the config's first.
        checkpoint: weights to use instead of the run's own, which are those that scored best where
            the training validated, else the last.
        experiment: what a checkpoint is: one of ``gol.experiments()``, such as ``own/softmax``
            for the zoo's Mask R-CNN.
        config: path of a run's ``config.json``, instead of ``experiment``.
        dataset: name or YAML file of the dataset at whose image size and normalisation
            ``experiment`` detects; default the experiment's, for ``own/…`` that of photos.
        classes: names in the order of the weights' rows, separated by commas, or ``coco``; default
            those that the file names.

    Raises:
        UserError: no config or weights, weights that do not fit or do not name their classes,
            unknown scoring, no such device.
    """
    found, weights, names = detector_of(run, checkpoint, experiment, config, dataset, classes)
    own = own_part(found)
    scoring = own.scoring(scoring)
    place = find_device(device)
    with counted(found, names) as buildable:
        module = build_scorer(buildable, scoring, place)
    precision = find_precision(own, place, load_weights(module, weights))
    return Detector(precision.prepare(module), found, names, place, precision)


class Detector:
    """Finds objects in photos; made by :func:`load_detector`. Not for several threads at once.

    Args:
        module: an mmdet two-stage detector as it detects, with weights.
        config: the resolved config.
        classes: the classes' names in the order of the labels.
        device: where ``module`` is.
        precision: what ``module`` is prepared for.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        config: Any,
        classes: list[str],
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.module, self.config, self.classes, self.device = module, config, classes, device
        self._precision = precision
        self._least = module.roi_head.test_cfg.score_thr
        self._most = module.roi_head.test_cfg.max_per_img

    def predict(self, image: "Photo", score: float = 0.3, most: int | None = None) -> "Detections":
        """The objects in one photo, as ``gol detect`` finds them.

        Args:
            image: a file's path, a PIL image, or an array (h, w, 3) uint8 in OpenCV's order, BGR.
                Files and PIL images are turned upright as their Exif data says.
            score: the least score, from 0 to 1; what is below is not even looked at, which saves
                time and memory.
            most: keeps the best so many; each takes the memory of a mask of the whole photo. By
                default, and at most, as many as the config says.

        Returns:
            D detections, the best first: ``xyxy`` (D, 4) float32 in pixels, ``mask`` (D, h, w) bool
            (None for a detector of boxes), ``confidence`` (D,) float32, ``class_id`` (D,) from 0,
            ``data["class_name"]`` (D,).

        Raises:
            UserError: the file cannot be read, the array has another form, the photo is too narrow,
                the score is not from 0 to 1.
        """
        return self.predict_all([image], score, most)[0]

    def predict_all(
        self, images: "Sequence[Photo]", score: float = 0.3, most: int | None = None
    ) -> "list[Detections]":
        """The same for several photos; those of equal size pass the network together.

        Raises:
            UserError: as :meth:`predict`.
        """
        if not 0 <= score <= 1:
            raise UserError(f"the score must be from 0 to 1, not {shown(score)}")
        photos = [photo_pixels(image) for image in images]
        sizes: dict[tuple[int, int], list[int]] = {}
        for place, pixels in enumerate(photos):
            sizes.setdefault(pixels.shape[:2], []).append(place)
        if most is not None and most < 1:
            raise UserError(f"most must be at least 1, not {shown(most)}")
        limits = self.module.roi_head.test_cfg
        limits.score_thr = max(score, self._least)
        limits.max_per_img = min((n for n in (most, self._most) if n and n > 0), default=-1)
        found: dict[int, Detections] = {}
        for size, places in sizes.items():
            batch = self._batch([photos[place] for place in places])
            with torch.inference_mode(), self._precision.autocast(self.device):
                results = self.module(return_loss=False, rescale=True, **batch)
            for place, result in zip(places, results, strict=True):
                found[place] = self._detections(result, size)
        return [found[place] for place in range(len(photos))]

    def _batch(self, photos: list[np.ndarray]) -> dict[str, Any]:
        from mmdet.datasets.pipelines import Compose

        from gol.data.loader import load, to_device

        # The steps that the run's own images go through; this first one takes an array.
        steps = [{"type": "LoadImageFromWebcam"}, *self.config.data.test.pipeline[1:]]
        items = [Compose(steps)({"img": pixels}) for pixels in photos]
        batch = next(load(items, [list(range(len(items)))]))
        return to_device(batch, self.device, self._precision.memory_format)

    def _detections(self, result: Any, size: tuple[int, int]) -> "Detections":
        from pycocotools import mask as coco_mask
        from supervision import Detections

        boxes, masks = result if isinstance(result, tuple) else (result, None)
        labels = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
        rows = np.concatenate(boxes).astype(np.float32)
        order = np.argsort(-rows[:, 4], kind="stable")
        found = None
        if masks is not None:
            flat = [rle for of_class in masks for rle in of_class]
            found = np.zeros((len(flat), *size), bool)
            for place, row in enumerate(order):
                found[place] = coco_mask.decode(flat[row])
        return Detections(
            xyxy=rows[order, :4],
            mask=found,
            confidence=rows[order, 4],
            class_id=labels[order],
            data={"class_name": np.array(self.classes, dtype=object)[labels[order]]},
        )


def photo_pixels(image: "Photo") -> np.ndarray:
    """A photo as :meth:`Detector.predict` takes it, as an array (h, w, 3) uint8, BGR, upright.

    Raises:
        UserError: it cannot be read, has another form or is too narrow.
    """
    pixels = _pixels(image)
    if max(pixels.shape[:2]) > _NARROWEST * min(pixels.shape[:2]):
        size = "{1} × {0}".format(*pixels.shape)
        raise UserError(
            f"a photo of {size} pixels is too narrow: a side may be at most {_NARROWEST} times as"
            " long as the other"
        )
    return pixels


def _pixels(image: Any) -> np.ndarray:
    """A photo as an array (h, w, 3) uint8, BGR, upright."""
    if isinstance(image, str | Path):
        return read_photo(Path(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            text = f"{image.dtype} {image.shape}"
            raise UserError(f"an array must be uint8 (height, width, 3) in BGR order, not {text}")
        return image
    if hasattr(image, "getexif"):
        from gol.data.images import upright_pixels

        return upright_pixels(image)
    raise UserError(f"an image must be a path, an array or a PIL image, not {shown(image)}")
