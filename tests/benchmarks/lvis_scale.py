"""An annotation file of LVIS v1's size and long tail, drawn at random for the benchmarks.

At scale 1: 100,170 images of COCO's size, a few without object, 1,203 categories with
LVIS v1's own numbers of images and instances (1.27 million masks), polygons with a heavy-tailed
number of points in whole hundredths of a pixel, and the keys of the real file: about 1.1 GB.
"""

import json
from pathlib import Path

import numpy as np

from gol.losses.class_statistics import ClassStatistics

URL = "http://images.cocodataset.org"
_NUMBERS = [json.dumps(i / 100) for i in range(64_001)]  # JSON of every coordinate
_CHUNK = 20_000  # annotations at once


def write_annotations(path: Path, scale: float, seed: int) -> None:
    """Writes a train split; ``scale`` is the share of LVIS v1's images and instances."""
    rng = np.random.default_rng(seed)
    statistics = ClassStatistics.published("v1")
    images = max(int(statistics.images * scale), 20)
    annotated = max(int(statistics.annotated_images * scale), 10)
    sizes = rng.choice([(640, 480), (640, 427), (480, 640), (500, 375)], images)
    owner, label = _assign(rng, statistics, rng.permutation(images)[:annotated], scale)
    head = {
        "info": {"description": f"random, the size of LVIS v1 x {scale}", "seed": seed},
        "licenses": [],
        "categories": [
            {"id": i, "name": name, "frequency": group, "synset": f"{name}.n.01", "def": name}
            for i, name, group in zip(
                statistics.ids, statistics.names, statistics.frequencies, strict=True
            )
        ],
    }
    with open(path, "w", encoding="ascii") as file:
        file.write(json.dumps(head)[:-1] + ', "images": ')
        file.write(json.dumps(_images(rng, sizes, statistics.ids)) + ', "annotations": [')
        for start in range(0, len(owner), _CHUNK):
            part = slice(start, start + _CHUNK)
            ids = np.array(statistics.ids)[label[part]]
            lines = _annotations(rng, start + 1, owner[part], ids, sizes[owner[part]])
            file.write((", " if start else "") + ", ".join(lines))
        file.write("]}")


def _assign(rng, statistics, pool, scale) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of every annotation, in the order of the images."""
    owners, labels = [], []
    counts = zip(statistics.image_counts, statistics.instance_counts, strict=True)
    for label, (image_count, instance_count) in enumerate(counts):
        chosen = rng.choice(pool, min(len(pool), max(1, round(image_count * scale))), False)
        more = max(0, round(instance_count * scale) - len(chosen))
        owners.append(np.concatenate([chosen, rng.choice(chosen, more)]))
        labels.append(np.full(len(owners[-1]), label))
    owner, label = np.concatenate(owners), np.concatenate(labels)
    order = np.argsort(owner, kind="stable")
    return owner[order], label[order]


def _images(rng, sizes, categories) -> list[dict]:
    lists = rng.choice(categories, (len(sizes), 8))
    return [
        {
            "id": number,
            "width": width,
            "height": height,
            "license": 1,
            "coco_url": f"{URL}/train2017/{number:012d}.jpg",
            "flickr_url": f"http://farm3.staticflickr.com/2169/{number:010d}_a1b2c3d4e5_z.jpg",
            "date_captured": "2013-11-14 17:02:52",
            "neg_category_ids": negative[:6],
            "not_exhaustive_category_ids": negative[6:],
        }
        for number, ((width, height), negative) in enumerate(
            zip(sizes.tolist(), lists.tolist(), strict=True), start=1
        )
    ]


def _annotations(rng, first_id, owner, category, size) -> list[str]:
    """JSON of some annotations: star-shaped polygons, some of several parts."""
    parts = rng.geometric(0.85, len(owner))
    part_of = np.repeat(np.arange(len(owner)), parts)
    points = np.clip(rng.lognormal(3.27, 0.85, len(part_of)), 4, 600).astype(int)
    begin = np.concatenate([[0], np.cumsum(points)])
    polygon = np.repeat(np.arange(len(points)), points)
    radius = np.clip(rng.lognormal(2.8, 0.9, len(owner)), 3, 200)[part_of]
    centre = (rng.uniform(0.05, 0.95, (len(owner), 2)) * size)[part_of]
    centre += rng.normal(0, 0.3, centre.shape) * radius[:, None]
    centre = np.clip(centre, 3, size[part_of] - 3)
    angle = (np.arange(begin[-1]) - begin[polygon] + rng.random(begin[-1])) / points[polygon]
    ray = radius[polygon] * rng.uniform(0.7, 1.1, begin[-1])
    direction = np.stack([np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)], 1)
    xy = centre[polygon] + ray[:, None] * direction
    xy = np.rint(np.clip(xy, 0, size[part_of][polygon]) * 100).astype(int)

    edges = begin[np.concatenate([[0], np.cumsum(parts)])]  # of each annotation's points
    low = np.minimum.reduceat(xy, edges[:-1])
    span = np.maximum.reduceat(xy, edges[:-1]) - low
    area = np.maximum(span.prod(1) // 200, 1)  # half the box, in 1/100 square pixels
    names = list(map(_NUMBERS.__getitem__, xy.ravel().tolist()))
    pieces = [
        "[" + ", ".join(names[2 * a : 2 * b]) + "]"
        for a, b in zip(begin.tolist(), begin[1:].tolist(), strict=False)
    ]
    ends = np.cumsum(parts).tolist()
    rows = zip(
        owner.tolist(), category.tolist(), low.tolist(), span.tolist(), area.tolist(), strict=True
    )
    lines = []
    for number, (image, kind, (x, y), (w, h), surface) in enumerate(rows):
        segmentation = ", ".join(pieces[ends[number - 1] if number else 0 : ends[number]])
        box = ", ".join(_NUMBERS[value] for value in (x, y, w, h))
        lines.append(
            f'{{"area": {surface / 100}, "id": {first_id + number}, "segmentation": '
            f'[{segmentation}], "image_id": {image + 1}, "bbox": [{box}], "category_id": {kind}}}'
        )
    return lines
