"""AP of resampled images, against an evaluation of files in which they are written out."""

import numpy as np
import pytest
from lvis_oracle import random_dataset, random_detections, write

from gol.evaluation.lvis import evaluate
from gol.evaluation.resampling import draw_images, resampled_ap


def _written_out(dataset, detections, weights):
    """The dataset with each image as often as it was drawn, and its detections."""
    images, annotations, found = [], [], []
    for image, weight in zip(dataset["images"], weights, strict=True):
        for _ in range(int(weight)):
            number = len(images) + 1
            images.append({**image, "id": number})
            annotations += [
                {**a, "image_id": number, "id": len(annotations) + 1 + i}
                for i, a in enumerate(
                    a for a in dataset["annotations"] if a["image_id"] == image["id"]
                )
            ]
            found += [{**d, "image_id": number} for d in detections if d["image_id"] == image["id"]]
    return {**dataset, "images": images, "annotations": annotations}, found


def test_a_resample_is_scored_as_if_its_images_were_written_out(rng, tmp_path):
    """All that LVIS leaves open included: images without a class, crowded ones, ignored matches."""
    dataset = random_dataset(rng, images=14, classes=6)
    dataset["images"].sort(key=lambda image: image["id"])
    detections = random_detections(rng, dataset)
    for detection in detections:  # of equal scores it would matter which image comes first
        detection["score"] = float(detection["score"] * 0.9 + 0.1 * rng.random())
    (tmp_path / "all").mkdir()
    ours = resampled_ap(*write(tmp_path / "all", dataset, detections), resamples=6, seed=3)
    for row, weights in enumerate(draw_images(14, 6, seed=3)):
        folder = tmp_path / str(row)
        folder.mkdir()
        theirs = evaluate(*write(folder, *_written_out(dataset, detections, weights)), ["segm"])
        for metric, values in ours.items():
            expected = theirs["segm"][metric]
            expected = np.nan if expected is None else expected
            assert values[row] == pytest.approx(expected, abs=1e-12, nan_ok=True), (row, metric)


def test_every_run_sees_the_same_images():
    weights = draw_images(50, 20, seed=1)
    assert (weights == draw_images(50, 20, seed=1)).all()
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()
    assert 25 < (weights[1:] > 0).sum(axis=1).mean() < 38  # 63 % of them
