"""The dataset class that mmdet's data pipeline reads a prepared annotation file with."""

from collections.abc import Callable
from pathlib import Path

import mmcv
from mmdet.datasets import DATASETS, CocoDataset

from gol.errors import UserError
from gol.files import read_json


@DATASETS.register_module()
class InstanceDataset(CocoDataset):
    """mmdet's COCO dataset with the classes taken from the annotation file itself.

    The file is one that ``gol preprocess`` wrote: LVIS v1 schema, with ``file_name`` relative to
    the image folder. Labels are 0 … C-1 in the order of the file's categories.
    """

    def load_annotations(self, ann_file: str) -> list[dict]:
        """Reads the file; returns one entry an image (mmdet's ``data_infos``)."""
        self.CLASSES = tuple(category["name"] for category in read_json(ann_file)["categories"])
        return super().load_annotations(ann_file)

    def prepare_train_img(self, idx: int) -> dict:
        """One training item; a missing or damaged image raises a UserError that names it."""
        return self._naming_the_image(super().prepare_train_img, idx)

    def prepare_test_img(self, idx: int) -> dict:
        """One test item; a missing or damaged image raises a UserError that names it."""
        return self._naming_the_image(super().prepare_test_img, idx)

    def _naming_the_image(self, prepare: Callable[[int], dict], idx: int) -> dict:
        try:
            return prepare(idx)
        except Exception as error:
            path = Path(self.img_prefix or "", self.data_infos[idx]["filename"])
            if not path.is_file() or mmcv.imread(str(path)) is None:
                raise UserError(f"image {path} is missing or damaged") from error
            raise
