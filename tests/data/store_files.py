"""Random annotation files for the store: what tools write, and what only a hand could."""

import json

import numpy as np

from gol.data.store import AnnotationStore


def random_segmentation(rng, width, height):
    """What tools write, and what only a hand could."""
    form = rng.integers(10)
    points = rng.uniform(0, 1, (rng.integers(3, 12), 2)) * (width, height)
    if form < 3:
        return [points.round(2).ravel().tolist() for _ in range(rng.integers(1, 4))]
    flat = points.ravel()
    return [
        [flat.tolist()],  # all digits of a double
        [flat.astype(int).tolist()],
        [flat.astype(int).tolist(), flat.round(2).tolist(), flat.tolist()],
        [[*flat.round(2).tolist(), int(flat[0]), -0.0, 1e5 + 0.25, -3.75]],
        [[1, 2, 2**40, 4, 5, 6], [0.5, 2**40 + 0.5, 1e300, 5e-324, 3.0, 4.0]],
        {"size": [height, width], "counts": "".join(rng.choice(list("0Xoa1é"), 20))},
        {"size": [height, width], "counts": rng.integers(0, 99, 9).tolist()},
    ][form - 3]


def random_file(rng, images=40, categories=7):
    """A dataset with everything that a JSON file may hold; half of the images are unlabelled."""
    data = {
        "categories": [
            {"id": int(i), "name": f"class {i} ü"} for i in rng.permutation(50)[:categories]
        ],
        "images": [
            {
                "id": int(number),
                "file_name": f"{rng.choice(['train', 'ünïcode', '画像'])}/{number}.jpg",
                "width": int(rng.integers(20, 900)),
                "height": int(rng.integers(20, 900)),
            }
            for number in rng.choice(10**12, images, replace=False)
        ],
        "annotations": [],
    }
    for number in range(4 * images):
        image = data["images"][rng.integers(images // 2)]
        x, y = rng.uniform(-5, 1, 2) * (image["width"], image["height"])
        box = [x, y, *rng.uniform(0, 1.2, 2) * (image["width"], image["height"])]
        box = [[*map(int, box)], [round(v, 2) for v in box], box][rng.integers(3)]
        annotation = {
            "id": number,
            "image_id": image["id"],
            "category_id": int(rng.choice([c["id"] for c in data["categories"]] + [77])),
            "bbox": box,
            "area": float(rng.uniform(-1, 100)),
            "segmentation": random_segmentation(rng, image["width"], image["height"]),
        }
        for key, share in (("iscrowd", 0.2), ("ignore", 0.1)):
            if rng.random() < 0.7:
                annotation[key] = int(rng.random() < share)
        data["annotations"].append(annotation)
    rng.shuffle(data["annotations"])
    del data["annotations"][0]["segmentation"]
    return data


def write(folder, data):
    """The JSON and the store of a dataset."""
    file = folder / "train.json"
    file.write_text(json.dumps(data))
    AnnotationStore.from_annotations(data).save(folder / "train.store")
    return file, folder / "train.store"


def same(value, other):
    """Equality of types and bits; a polygon counts as the array that mmdet makes of it."""
    if isinstance(value, list) and any(isinstance(item, int | float) for item in value):
        value, other = np.array(value), np.array(other)
    if isinstance(value, np.ndarray):
        kinds = [(array.dtype, array.shape, array.tobytes()) for array in (value, other)]
        return kinds[0] == kinds[1]
    if isinstance(value, list):
        return len(value) == len(other) and all(map(same, value, other))
    return type(value) is type(other) and value == other
