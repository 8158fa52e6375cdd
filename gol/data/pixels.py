"""Images that stay 8 bits a value until their batch is made, and are normalised into it."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.parallel import DataContainer, collate
from torch import Tensor
from torch.utils.data import default_collate


class Pixels(DataContainer):
    """What an image is to mmdet: a container of its normalised and padded tensor.

    The tensor is made each time that somebody asks for ``data``, and by :func:`collate_items` not
    even then: three passes less over what is the most memory of a training step's input.

    Args:
        pixels: (H, W, 3) uint8.
        tables: (3, 256) float32, the value of each of a pixel's values, by channel of ``pixels``.
        size: h, w of the tensor: what is beyond the image is 0.
        reverse: whether the last channel of ``pixels`` is the tensor's first.
    """

    def __init__(
        self, pixels: np.ndarray, tables: np.ndarray, size: tuple[int, int], reverse: bool
    ) -> None:
        super().__init__(None, stack=True)
        self.pixels, self.tables, self.shape, self.reverse = pixels, tables, (3, *size), reverse

    @property
    def data(self) -> Tensor:
        """(3, h, w) float32."""
        tensor = torch.zeros(self.shape)
        self.write(tensor.numpy())
        return tensor

    def write(self, out: np.ndarray) -> None:
        """Writes the normalised image into the upper left of (3, …, …) float32."""
        height, width = self.pixels.shape[:2]
        planes = zip(cv2.split(self.pixels), self.tables, strict=True)
        for (plane, table), channel in zip(planes, out[:: -1 if self.reverse else 1], strict=True):
            cv2.LUT(plane, table, channel[:height, :width])


def collate_items(items: Sequence[Any]) -> Any:
    """mmcv's batch of a dataset's items. Images are written to where they stay."""
    if not all(isinstance(item, dict) and isinstance(item.get("img"), Pixels) for item in items):
        return collate(items, samples_per_gpu=len(items))
    images = [item["img"] for item in items]
    rest = [{key: value for key, value in item.items() if key != "img"} for item in items]
    largest = np.max([image.shape for image in images], 0).tolist()
    # Stacked by torch, the zeros of a worker are in memory that it shares.
    batch = default_collate([torch.zeros(1).expand(largest)] * len(images))
    for image, out in zip(images, batch.numpy(), strict=True):
        image.write(out)
    return {"img": batch, **collate(rest, samples_per_gpu=len(items))}
