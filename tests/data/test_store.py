"""The annotation store gives what mmdet gives on the JSON, and refuses what it cannot read."""

import json
import math
import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
from coco_files import random_coco
from store_files import random_file, same, write

from gol import compat

compat.apply()

from mmdet.datasets import ClassBalancedDataset, CocoDataset  # noqa: E402

from gol.config.resolve import fingerprint  # noqa: E402
from gol.data import store as store_module  # noqa: E402
from gol.data.dataset import InstanceDataset  # noqa: E402
from gol.data.loader import EpochLoader  # noqa: E402
from gol.data.preprocess import preprocess_dataset  # noqa: E402
from gol.data.store import AnnotationStore, file_digest  # noqa: E402
from gol.errors import UserError  # noqa: E402

LOAD = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
]


def compare(ours, theirs):
    assert len(ours) == len(theirs) == len(ours.data_infos)
    for name in ("cat_ids", "cat2label", "img_ids"):
        assert getattr(ours, name) == getattr(theirs, name)
    if not ours.test_mode:
        assert ours.flag.dtype == theirs.flag.dtype
        assert ours.flag.tolist() == theirs.flag.tolist()
    for index, info in enumerate(ours.data_infos):
        assert info == ours.data_infos[index - len(ours)]
        assert info.items() <= theirs.data_infos[index].items()
        assert ours.get_cat_ids(index) == theirs.get_cat_ids(index)
        first, second = ours.get_ann_info(index), theirs.get_ann_info(index)
        assert first.keys() == second.keys()
        assert all(same(first[key], second[key]) for key in first)


def pair(store, file, pipeline=(), **settings):
    ours = InstanceDataset(ann_file=str(store), pipeline=list(pipeline), **settings)
    theirs = CocoDataset(str(file), list(pipeline), classes=ours.CLASSES, **settings)
    return ours, theirs


@pytest.mark.parametrize("source", ["store", "json"])
@pytest.mark.parametrize("settings", [{}, {"test_mode": True}, {"filter_empty_gt": False}], ids=str)
def test_any_file_gives_what_mmdet_gives(rng, tmp_path, source, settings):
    data = random_file(rng)
    file, store = write(tmp_path, data)
    ours, theirs = pair(store if source == "store" else file, file, **settings)
    assert len(theirs) and any(theirs.get_ann_info(i)["masks"] for i in range(len(theirs)))
    compare(ours, theirs)


def test_the_whole_content_comes_back(rng, tmp_path):
    data = random_file(rng)
    store = AnnotationStore.open(write(tmp_path, data)[1])
    found = store.dataset()
    assert found["categories"] == data["categories"] and found["images"] == data["images"]
    by_id = {a["id"]: a for a in found["annotations"]}
    assert len(by_id) == len(found["annotations"]) == len(data["annotations"])
    for a in data["annotations"]:
        assert by_id[a["id"]] == {"iscrowd": 0, "ignore": 0, "segmentation": None} | a
        assert same(by_id[a["id"]]["segmentation"], a.get("segmentation"))


def test_two_decimals_take_two_bytes(rng, tmp_path):
    data = random_file(rng, images=2)
    polygon = (rng.integers(0, 65536, 20_000) / 100).tolist()
    data["annotations"] = [{**data["annotations"][1], "segmentation": [polygon]}]
    store = write(tmp_path, data)[1]
    assert AnnotationStore.open(store).dataset()["annotations"][0]["segmentation"] == [polygon]
    assert store.stat().st_size < 2 * len(polygon) + 2500


@pytest.mark.parametrize("name", ["demo", "minicoco"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.slow
def test_samples_of_real_sets_are_mmdets(request, tmp_path, name, split):
    if name == "demo":
        folder, test = request.getfixturevalue("demo_data"), {"test_mode": split == "val"}
        images = folder / "raw" / split
    else:
        images, test = request.getfixturevalue("shared_data") / "minicoco_lt", {}
        folder = tmp_path
        raw = [images / f"minicoco_lt_{part}.json" for part in ("train", "val")]
        preprocess_dataset(raw[0], images, raw[1], images, folder)
    files = (folder / f"{split}.store", folder / f"{split}.json")
    ours, theirs = pair(*files, LOAD, img_prefix=str(images), **test)
    compare(ours, theirs)
    ours.test_mode = theirs.test_mode = False  # with annotations
    for index in range(0, len(ours), 5):
        item, wanted = ours[index], theirs[index]
        for key in ("img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore"):
            assert same(item[key], wanted[key])
        assert same(item["gt_masks"].masks, wanted["gt_masks"].masks)


def test_mmdets_own_evaluation_works(demo_data, rng):
    ours, theirs = pair(demo_data / "val.store", demo_data / "val.json", test_mode=True)
    results = [
        [
            np.concatenate([np.sort(rng.uniform(0, 96, (2, 4)), 1), rng.random((2, 1))], 1)
            for _ in ours.CLASSES
        ]
        for _ in range(len(ours))
    ]
    assert ours.evaluate(results, "bbox") == theirs.evaluate(results, "bbox")


def test_no_annotation_and_no_labelled_image(rng, tmp_path):
    data = {**random_file(rng), "annotations": []}
    file, store = write(tmp_path, data)
    assert len(pair(store, file)[0]) == 0
    ours, theirs = pair(store, file, filter_empty_gt=False)
    compare(ours, theirs)
    balanced = ClassBalancedDataset(ours, 0.5)
    assert balanced.repeat_indices == list(range(len(ours)))


def test_a_pickle_is_small_and_works(rng, tmp_path):
    data = random_file(rng, images=300)
    file, store = write(tmp_path, data)
    for path in (store, file):
        ours, theirs = pair(path, file)
        text = pickle.dumps(ours)
        assert path == file or len(text) < store.stat().st_size / 4
        compare(pickle.loads(text), theirs)
    text = pickle.dumps(pair(store, file)[0])
    write(tmp_path, random_file(rng))
    with pytest.raises(UserError, match="replaced while it was in use"):
        pickle.loads(text)


def test_a_store_replaced_while_it_is_opened_is_read_as_it_was(rng, tmp_path, monkeypatch):
    path = write(tmp_path, random_file(rng, images=30))[1]
    wanted = AnnotationStore.open(path).dataset()
    other = shutil.copy(path, tmp_path / "other.store")
    write(tmp_path, random_file(rng, images=50))  # replaces path
    path.rename(tmp_path / "new.store")
    shutil.move(other, path)
    read_header = store_module._read_header

    def read_and_replace(*arguments):
        header = read_header(*arguments)
        (tmp_path / "new.store").replace(path)
        return header

    monkeypatch.setattr(store_module, "_read_header", read_and_replace)
    assert same(AnnotationStore.open(path).dataset(), wanted)


def test_the_digest_follows_the_content(rng, tmp_path):
    data = random_file(rng)
    digest = file_digest(write(tmp_path, data)[1])
    assert file_digest(write(tmp_path, data)[1]) == digest
    json_digest = file_digest(tmp_path / "train.json")
    data["annotations"][3]["bbox"][0] += 1
    assert file_digest(write(tmp_path, data)[1]) != digest
    assert file_digest(tmp_path / "train.json") != json_digest
    data["annotations"][3]["bbox"][0] -= 1
    data["categories"][0]["name"] = "other"
    assert file_digest(write(tmp_path, data)[1]) != digest


def test_a_fingerprint_follows_the_store(demo_data, tmp_path):
    import gol

    shutil.copytree(demo_data, tmp_path, dirs_exist_ok=True)
    config = gol.load_experiment("demo/gumbel", None, tmp_path)
    mark = fingerprint(config)
    data = json.loads((tmp_path / "train.json").read_text())
    data["annotations"].pop()
    AnnotationStore.from_annotations(data).save(tmp_path / "train.store")
    assert fingerprint(config) != mark


def repeat_factors(data, kept, threshold):
    """Gupta et al. 2019, appendix: r(c) = max(1, sqrt(t / f(c))), r(I) = max over its classes."""
    classes = {image: set() for image in kept}
    for a in data["annotations"]:
        if a["image_id"] in classes:
            classes[a["image_id"]].add(a["category_id"])
    images = Counter(c for present in classes.values() for c in present)
    factor = {c: max(1.0, math.sqrt(threshold / (n / len(kept)))) for c, n in images.items()}
    return [max([factor[c] for c in classes[image]], default=1.0) for image in kept]


@pytest.mark.parametrize("filter_empty_gt", [True, False])
def test_repeat_factors_are_the_published_ones(rng, tmp_path, filter_empty_gt):
    data = random_file(rng, images=80, categories=30)
    file, store = write(tmp_path, data)
    ours, theirs = pair(store, file, filter_empty_gt=filter_empty_gt)
    threshold = float(rng.uniform(0.3, 1))
    mine, mmdets = (ClassBalancedDataset(d, threshold) for d in (ours, theirs))
    assert mine.repeat_indices == mmdets.repeat_indices
    assert mine.flag.tolist() == mmdets.flag.tolist()
    wanted = repeat_factors(data, ours.img_ids, threshold)
    counts = Counter(mine.repeat_indices)
    assert [counts[index] for index in range(len(ours))] == [math.ceil(r) for r in wanted]
    assert max(counts.values()) > 1


def test_an_epoch_holds_every_repeat_and_resumes_anywhere(rng, tmp_path):
    """Loaded images, not indices, are counted, over every iteration at which one may resume."""
    data = random_coco(rng, tmp_path / "train", images=13, categories=9)
    (tmp_path / "raw.json").write_text(json.dumps(data))
    split = (tmp_path / "raw.json", tmp_path / "train")
    preprocess_dataset(*split, *split, tmp_path)
    ours = InstanceDataset(
        ann_file=str(tmp_path / "train.store"),
        img_prefix=str(tmp_path / "train"),
        pipeline=[*LOAD[:1], {"type": "Collect", "keys": [], "meta_keys": ["ori_filename"]}],
    )
    balanced = ClassBalancedDataset(ours, float(rng.uniform(0.3, 2)))
    loader = EpochLoader(balanced, batch_size=4, seed=int(rng.integers(2**31)))

    def loaded(epoch, start=0):
        return [
            [meta["ori_filename"] for meta in batch["img_metas"]]
            for batch in loader.epoch(epoch, start)
        ]

    whole = loaded(3)
    names = [info["filename"] for info in ours.data_infos]
    wanted = Counter({names[i]: n for i, n in Counter(balanced.repeat_indices).items()})
    assert Counter(name for batch in whole for name in batch) == wanted
    assert len(balanced) > len(ours) and loaded(4) != whole
    for start in range(len(whole) + 1):
        assert loaded(3, start) == whole[start:]
