"""The dataset class that mmdet's data pipeline reads a prepared annotation file with."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import DATASETS, CocoDataset
from mmdet.datasets.api_wrappers import COCO
from pycocotools import mask as coco_mask

from gol.data.images import MIN_SIDE, trained_size
from gol.data.local import nearest
from gol.data.masks import mask_to_polygons
from gol.data.steps import quicken
from gol.data.store import AnnotationStore
from gol.errors import UserError


@DATASETS.register_module()
class InstanceDataset(CocoDataset):
    """mmdet's COCO dataset on an annotation store, with the classes that the file itself names.

    The file is one that ``gol preprocess`` wrote, ``train.store`` or ``val.store``, or a JSON file
    of the COCO or LVIS v1 schema with a ``file_name`` relative to the image folder. Labels are
    0 … C-1 in the order of the file's categories. Nothing is made of an image before it is asked
    for; samples, their order and the left-out images are those of mmdet's ``CocoDataset``.
    """

    def __init__(self, *args: Any, test_mode: bool = False, **settings: Any) -> None:
        # mmdet would filter and flag by a loop over one dict for each image.
        super().__init__(*args, test_mode=True, **settings)
        steps = self.pipeline.transforms
        self._polygons = not all(getattr(step, "poly2mask", True) for step in steps)
        steps.insert(1, _check_size)  # after what loads the image
        self.pipeline.transforms = quicken(steps)
        self.test_mode = test_mode
        if test_mode:
            return
        kept = self._filter_imgs()
        self.data_infos = _Images(self.store, kept)
        self.img_ids = self.store.image_id[kept].tolist()
        if self.proposals is not None:
            self.proposals = [self.proposals[row] for row in kept]
        width, height = self.store.image_size[kept].T
        self.flag = (width > height).astype(np.uint8)

    def load_annotations(self, ann_file: str) -> Sequence[dict]:
        """Opens the file; returns mmdet's ``data_infos``, a dict per image, made on demand."""
        self.store = store = AnnotationStore.open(ann_file)
        self.CLASSES = tuple(category["name"] for category in store.categories)
        self.cat_ids = [category["id"] for category in store.categories]
        self.cat2label = {category: label for label, category in enumerate(self.cat_ids)}
        self.img_ids = store.image_id.tolist()
        return _Images(store, np.arange(len(store)))

    @cached_property
    def coco(self) -> COCO:
        """All annotations as mmdet's own evaluation wants them; made at the first use."""
        coco = COCO()
        coco.dataset = self.store.dataset()
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
        return coco

    def get_ann_info(self, idx: int) -> dict:
        """Boxes, labels and masks of one image, as mmdet's ``CocoDataset`` gives them."""
        annotations = self.store.annotations(self.data_infos.rows[idx])
        if self._polygons:  # mmdet knows no RLE then
            annotations = [_with_polygons(annotation) for annotation in annotations]
        return self._parse_ann_info(self.data_infos[idx], annotations)

    def pre_pipeline(self, results: dict) -> None:
        """mmdet's, but a copy of the image on this machine's own disk is read instead."""
        super().pre_pipeline(results)
        results["img_prefix"] = nearest(self.img_prefix, results["img_info"]["filename"])

    def get_cat_ids(self, idx: int) -> list[int]:
        """The category id of each annotation of one image."""
        return self.store.image_categories(self.data_infos.rows[idx])

    def prepare_train_img(self, idx: int) -> dict:
        """One training item; an image that is missing, damaged or changed is a UserError."""
        return self._naming_the_image(super().prepare_train_img, idx)

    def prepare_test_img(self, idx: int) -> dict:
        """One test item; an image that is missing, damaged or changed is a UserError."""
        return self._naming_the_image(super().prepare_test_img, idx)

    def _filter_imgs(self, min_size: int = MIN_SIDE) -> np.ndarray:
        """The images that mmdet trains on: large enough and with an annotation of a known class."""
        kept = self.store.image_size.min(axis=1) >= min_size
        if self.filter_empty_gt:
            known = np.isin(self.store.category_id, self.cat_ids)
            before = np.concatenate([[0], np.cumsum(known)])[self.store.first]
            kept &= np.diff(before) > 0
        return np.flatnonzero(kept)

    def _naming_the_image(self, prepare: Callable[[int], dict], idx: int) -> dict:
        try:
            return prepare(idx)
        except UserError:
            raise
        except Exception as error:
            path = Path(self.img_prefix or "", self.data_infos[idx]["filename"])
            if trained_size(path) is None:
                raise UserError(f"image {path} is missing or damaged") from error
            raise


def _check_size(results: dict) -> dict:
    """A transform: the image that was loaded must have the size that its annotations are for."""
    info, shape = results["img_info"], results["img"].shape
    found, wanted = f"{shape[1]} x {shape[0]}", f"{info['width']} x {info['height']}"
    if found != wanted:
        raise UserError(f"image {results['filename']} is {found} px, not {wanted}: was it changed?")
    return results


def _with_polygons(annotation: dict[str, Any]) -> dict[str, Any]:
    """The annotation with polygons of the same pixels where it has an RLE."""
    rle = annotation["segmentation"]
    if not isinstance(rle, dict):
        return annotation
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *rle["size"])
    return annotation | {"segmentation": mask_to_polygons(coco_mask.decode(rle))}


class _Images(Sequence):
    """mmdet's ``data_infos`` of some of a store's images (``rows``)."""

    def __init__(self, store: AnnotationStore, rows: np.ndarray) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = self.store.image(self.rows[index])
        return {**info, "filename": info["file_name"]}
