"""Preprocesses data sets in memory, and reads what came out."""

import json

from gol.data.preprocess import preprocess_dataset

JSON = ("classes.json", "summary.json", "train.json", "val.json")
OUTPUTS = sorted([*JSON, *(f".{name}.sha256" for name in JSON), "train.store", "val.store"])


def run(tmp_path, coco, **options):
    files = []
    for split, data in coco.items():
        files += [tmp_path / f"raw_{split}.json", tmp_path / split]
        files[-2].write_text(json.dumps(data))
    return preprocess_dataset(*files, tmp_path / "out", **options)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())
