"""The dataset class that mmdet's data pipeline reads a prepared annotation file with."""

from mmdet.datasets import DATASETS, CocoDataset

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
