"""TIDE from its paper, one error after another, on LVIS: what is not annotated is left out."""

import numpy as np
from pycocotools import mask as rle

KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
FOREGROUND, BACKGROUND = 0.5, 0.1


def tide(dataset, detections, kind="segm", most=300):
    """``{"AP50", "dAP": {kind or FP, FN: …}, "count": {kind: …}}`` of clean LVIS annotations."""
    points, missed, fixes, counts = [], [], {}, dict.fromkeys(KINDS, 0)
    for image in dataset["images"]:
        objects = [a for a in dataset["annotations"] if a["image_id"] == image["id"]]
        listed = {a["category_id"] for a in objects} | {*image["neg_category_ids"]}
        found = [d for d in detections if d["image_id"] == image["id"]]
        found = sorted(found, key=lambda d: -d["score"])[:most]
        found = [d for d in found if d["category_id"] in listed and d["bbox"][2] * d["bbox"][3] > 0]
        ious = _ious(found, objects, image, kind)
        used = {}
        names = []
        for d, row in zip(found, ious, strict=True):
            name = _match(d, row, objects, used)
            if name is None and d["category_id"] in image["not_exhaustive_category_ids"]:
                name = "left out"
            names.append(name)
        covered = set()
        for index, (d, row) in enumerate(zip(found, ious, strict=True)):
            target = None
            if names[index] is None:
                names[index], target = _error(d, row, objects, used)
            if names[index] in counts:
                counts[names[index]] += 1
            if target is not None:
                covered.add(target)
            identity = len(points)
            points.append((d["category_id"], d["score"], names[index]))
            if target is not None and target not in used:
                key = objects[target]["id"]
                fixes.setdefault(key, []).append(
                    (d["score"], -identity, objects[target]["category_id"])
                )
            elif target is not None:
                points[-1] = (*points[-1], "suppressed")
        for index, each in enumerate(objects):
            if index not in used:
                missed.append((each["category_id"], index in covered))
                counts["Miss"] += index not in covered
    return _result(dataset, points, missed, fixes, counts)


def _result(dataset, points, missed, fixes, counts):
    objects = {}
    for a in dataset["annotations"]:
        objects[a["category_id"]] = objects.get(a["category_id"], 0) + 1
    best = {-max(each)[1]: max(each)[2] for each in fixes.values()}

    def fixed(name):
        for identity, (category, score, what, *_) in enumerate(points):
            if what == "left out":
                continue
            if what != name:
                yield category, score, what == "right"
            elif identity in best:
                yield best[identity], score, True

    base = [(c, s, what == "right") for c, s, what, *_ in points if what != "left out"]
    ap = _mean_ap(base, objects)
    gains = {name: _mean_ap([*fixed(name)], objects) - ap for name in KINDS[:-1]}
    less, least = dict(objects), dict(objects)
    for category, is_covered in missed:
        less[category] -= not is_covered
        least[category] -= 1
    gains["Miss"] = _mean_ap(base, less, objects) - ap
    gains["FP"] = _mean_ap([p for p in base if p[2]], objects) - ap
    gains["FN"] = _mean_ap(base, least, objects) - ap
    return {"AP50": ap, "dAP": gains, "count": counts}


def _match(d, row, objects, used):
    best, place = FOREGROUND, None
    for index, each in enumerate(objects):
        if each["category_id"] == d["category_id"] and index not in used and row[index] >= best:
            best, place = row[index], index
    if place is None:
        return None
    used[place] = d
    return "right"


def _error(d, row, objects, used):
    same = [i for i, each in enumerate(objects) if each["category_id"] == d["category_id"]]
    other = [i for i in range(len(objects)) if i not in same]
    near = max(same, key=lambda i: row[i], default=None)
    if near is not None and BACKGROUND <= row[near] < FOREGROUND:
        return "Loc", near
    wrong = max(other, key=lambda i: row[i], default=None)
    if wrong is not None and row[wrong] >= FOREGROUND:
        return "Cls", wrong
    if any(row[i] >= FOREGROUND for i in same if i in used):
        return "Dupe", None
    if len(objects) == 0 or max(row) <= BACKGROUND:
        return "Bkg", None
    return "Both", None


def _ious(found, objects, image, kind):
    if not (found and objects):
        return np.zeros((len(found), len(objects)))
    if kind == "bbox":
        shapes = [[each["bbox"] for each in listed] for listed in (found, objects)]
        return rle.iou(*(np.array(listed) for listed in shapes), [0] * len(objects))
    size = image["height"], image["width"]
    masks = [_mask(each["segmentation"], *size) for each in objects]
    return rle.iou([_mask(d["segmentation"], *size) for d in found], masks, [0] * len(objects))


def _mask(segmentation, height, width):
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    return segmentation


def _mean_ap(points, objects, classes=None):
    return float(np.mean([_ap(points, c, objects.get(c, 0)) for c in classes or objects]))


def _ap(points, category, count):
    mine = sorted((p for p in points if p[0] == category), key=lambda p: -p[1])
    right = np.cumsum([p[2] for p in mine])
    if not len(mine) or not count:
        return 0.0
    precision = right / np.arange(1, len(mine) + 1)
    total = 0.0
    for recall in np.linspace(0, 1, 101):
        there = precision[right / count >= recall]
        total += there.max() if len(there) else 0.0
    return total / 101
