"""The built-in demo: a long-tailed instance segmentation set, small and drawn in seconds.

It exists so that the whole chain can be seen at work without a download. It is not LVIS. A set of
1,203 classes takes a minute or two.

Six shapes x four hues x {solid, striped} are 48 combinations, with more classes 144 or 1,232;
``classes`` of them are classes, the others appear as unlabelled distractors. Objects are
rotated, vary in colour and light, cover each other (at least 45 % of a labelled one can be
seen) and stand on a cluttered, noisy background. Which combination is rare is drawn at random,
as evenly over shapes, hues and textures as chance allows, and ids follow the alphabet as in
LVIS, so neither tells how frequent a class is.

=========================  =========  ============  =============
train split                rare       common        frequent
=========================  =========  ============  =============
LVIS v1, 1,203 classes     337, 28 %  461, 38 %     405, 34 %
LVIS v1, images per class  1 to 10    11 to 100     101 to 1,977
demo, 40 classes           11, 28 %   19, 48 %      10, 25 %
demo, images per class     3 to 10    11 to 92      104 to 300
=========================  =========  ============  =============
"""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gol.data.demo.plan import ScenePlan, even_order, image_counts, plan_scenes
from gol.data.demo.scene import draw_scene
from gol.data.demo.shapes import Combination
from gol.data.masks import mask_to_polygons
from gol.data.prepared import SPLITS, Drawn
from gol.errors import UserError
from gol.files import configs_folder, read_json, read_yaml, remove, write_json
from gol.groups import GROUPS, THRESHOLDS, frequency_group

DESCRIPTION = "GOL demo: long-tailed shapes"
_KEYS = ("seed", "train_images", "val_images", "size", "classes")
_LICENSE = {"id": 1, "name": "Apache License 2.0", "url": ""}


def draw_demo(
    folder: str | Path,
    seed: int | None = None,
    train_images: int | None = None,
    val_images: int | None = None,
    size: int | None = None,
    classes: int | None = None,
    thresholds: tuple[int, int] = THRESHOLDS,
    steepness: float = 1,
) -> dict[str, Any]:
    """Draws the demo's images and writes its annotations in the LVIS v1 schema.

    The image counts fall exponentially, from 3/7 of the images (less where they are few for the
    classes) to 3. In val every class is in at least 15 images (fewer where ``val_images`` is
    small), so that rare AP can be measured.
    ``neg_category_ids`` holds a random half of the absent classes. In 2 % of the pairs of image
    and class one more object of the class is drawn and left unlabelled, and the class is in the
    image's ``not_exhaustive_category_ids``.

    The same arguments give the same JSON to the byte. The annotation files are written last,
    train before val, so a folder with a val.json is complete.

    Args that are None have the value of ``configs/datasets/demo.yaml``.

    Args:
        folder: gets ``train/*.jpg``, ``val/*.jpg``, ``train.json`` and ``val.json``.
        seed: seed of the classes' order and of every image.
        train_images: number of training images.
        val_images: number of validation images.
        size: width and height of an image in pixels; objects scale with it.
        classes: number of classes, at most 1,232.
        thresholds: the most images that a rare and a common class have.
        steepness: above 1 image counts fall faster than exponentially at first, and more classes
            are rare.

    Returns:
        For each split the number of images and of objects, and under ``classes`` the number of
        classes in each of the groups r, c and f.

    Raises:
        UserError: no such set can be drawn, or the folder cannot be written or holds another one.
    """
    folder, given = Path(folder), (seed, train_images, val_images, size, classes)
    seed, train_images, val_images, size, classes = map(_or_default, _KEYS, given)
    train_counts, val_counts = image_counts(train_images, val_images, classes, size, steepness)
    _clear(folder)
    rng = np.random.default_rng([seed, 0])
    order = even_order(classes, rng)
    names = sorted(kind.name for kind in order[:classes])
    kinds = {names.index(kind.name) + 1: kind for kind in order[:classes]}  # most frequent first
    plans = {
        "train": plan_scenes(kinds, order[classes:], train_counts, train_images, rng),
        "val": plan_scenes(kinds, order[classes:], val_counts, val_images, rng),
    }
    splits = _draw_splits(folder, plans, size, kinds, seed)
    categories = _categories(kinds, splits["train"]["annotations"], thresholds)
    for split, data in splits.items():
        file = Drawn(folder).annotations(split)
        write_json(file, data | {"categories": categories}, writer="gol demo")
    return _counts(splits, categories)


def _counts(splits: dict[str, dict], categories: list[dict]) -> dict[str, Any]:
    """What :func:`draw_demo` returns."""
    groups = Counter(category["frequency"] for category in categories)
    return {
        split: {"images": len(data["images"]), "objects": len(data["annotations"])}
        for split, data in splits.items()
    } | {"classes": {group: groups[group] for group in GROUPS}}


def _or_default(key: str, value: int | None) -> int:
    return _defaults()[key] if value is None else value


@cache
def _defaults() -> dict[str, int]:
    return read_yaml(configs_folder() / "datasets/demo.yaml")["draw"]


def _clear(folder: Path) -> None:
    """Removes an older demo's annotation files, so that the folder no longer looks complete."""
    files = [Drawn(folder).annotations(split) for split in reversed(SPLITS)]
    for file in filter(Path.exists, files):
        data = read_json(file)
        info = data.get("info") if isinstance(data, dict) else None
        if not isinstance(info, dict) or info.get("description") != DESCRIPTION:
            raise UserError(f"{file} belongs to another data set; name an empty folder")
    try:
        for file in files:
            remove(file)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error


def _draw_splits(
    folder: Path,
    plans: dict[str, list[ScenePlan]],
    size: int,
    kinds: dict[int, Combination],
    seed: int,
) -> dict[str, dict]:
    """Draws the images of all splits, whose ids go on from one to the next."""
    splits, first = {}, 1
    for split, scenes in plans.items():
        splits[split] = _draw_split(folder, split, scenes, first, size, kinds, seed)
        first += len(scenes)
    return splits


def _draw_split(
    folder: Path,
    split: str,
    plans: list[ScenePlan],
    first: int,
    size: int,
    kinds: dict[int, Combination],
    seed: int,
) -> dict[str, Any]:
    """Draws one split's images; returns its annotation file without the categories."""
    images, annotations = [], []
    for number, plan in enumerate(plans, first):
        rng = np.random.default_rng([seed, number])
        try:
            pixels, masks = draw_scene([kinds[c] for c in plan.ids], plan.unlabelled, size, rng)
        except ValueError as error:
            raise UserError(f"{split}_images={len(plans)}: too few for the classes") from error
        file = f"{split}/{number:06d}.jpg"
        _write_image(folder / file, pixels)
        images.append(
            {
                "id": number,
                "coco_url": f"demo://gol/{file}",
                "license": 1,
                "width": size,
                "height": size,
                "neg_category_ids": plan.negatives,
                "not_exhaustive_category_ids": plan.not_exhaustive,
            }
        )
        for category, mask in zip(plan.ids, masks, strict=True):
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
            annotations.append(ids | _outline(mask))
    info = {"description": DESCRIPTION, "version": "1", "seed": seed}
    return {"info": info, "licenses": [_LICENSE], "images": images, "annotations": annotations}


def _write_image(path: Path, pixels: np.ndarray) -> None:
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _outline(mask: np.ndarray) -> dict[str, Any]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return {
        "bbox": [x, y, width, height],
        "area": int(mask.sum()),
        "segmentation": mask_to_polygons(mask),
    }


def _categories(
    kinds: dict[int, Combination], annotations: list[dict], thresholds: tuple[int, int]
) -> list[dict[str, Any]]:
    instances = Counter(a["category_id"] for a in annotations)
    images = Counter(c for c, _ in {(a["category_id"], a["image_id"]) for a in annotations})
    return [
        {
            "id": c,
            "name": kinds[c].name,
            "synset": f"{kinds[c].name}.n.01",
            "def": f"a {kinds[c].hue} {kinds[c].shape}, {kinds[c].texture.replace('_', ' ')}",
            "synonyms": [kinds[c].name],
            "frequency": frequency_group(images[c], thresholds),
            "image_count": images[c],
            "instance_count": instances[c],
        }
        for c in sorted(kinds)
    ]
