"""The annotation store gives what mmdet gives on the JSON, and refuses what it cannot read."""

import json
import math
import pickle
import shutil
from collections import Counter

import numpy as np
import pytest
from coco_files import random_coco
from old_store import downgrade
from seeds import fresh_seed

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


@pytest.fixture(params=[fresh_seed()])
def rng(request):
    """A generator; the seed is in the test's id."""
    return np.random.default_rng(request.param)


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


def cut(rng, path):
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(16, len(content))])


def damage_header(rng, path):
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[12:16], "little")
    content[16 + rng.integers(2)] = 0xFF
    assert length > 2
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (cut, "is truncated or damaged"),
        (damage_header, "is truncated or damaged"),
        (lambda _, p: p.write_bytes(p.read_bytes() + b"x"), "is truncated or damaged"),
        (lambda _, p: p.write_bytes(p.read_bytes()[:9]), "is not an annotation store"),
        (lambda _, p: p.write_bytes(b""), "is not an annotation store"),
        (lambda _, p: p.write_text(json.dumps({"images": []})), "is not an annotation store"),
        (lambda _, p: p.write_bytes(b"GOLSTORE\7" + p.read_bytes()[9:]), "version 7, not 2"),
        (lambda _, p: p.unlink(), "No such file"),
        (lambda _, p: (p.unlink(), p.mkdir()), "Is a directory"),
    ],
)
def test_what_is_no_store(rng, tmp_path, spoil, named):
    store = write(tmp_path, random_file(rng))[1]
    spoil(rng, store)
    for read in (AnnotationStore.open, file_digest):
        with pytest.raises(UserError, match=named) as error:
            read(store)
        assert str(store) in str(error.value) and "\n" not in str(error.value)


def test_a_store_of_0_3_0_is_read_checked_and_has_the_same_digest(rng, tmp_path):
    """Fingerprints, and with them finished runs, rest on the digest."""
    path = write(tmp_path, random_file(rng))[1]
    digest, wanted = file_digest(path), AnnotationStore.open(path).dataset()
    downgrade(path)
    assert file_digest(path) == digest
    assert same(AnnotationStore.open(path).dataset(), wanted)
    content = bytearray(path.read_bytes())
    content[-9] ^= 1  # in the array bytes
    path.write_bytes(content)
    with pytest.raises(UserError, match="is truncated or damaged"):
        AnnotationStore.open(path)


def test_a_damaged_mask_is_noticed_when_its_image_is_read(rng, tmp_path, monkeypatch):
    """And not before: opening a store must not read all of it."""
    monkeypatch.setattr("gol.data.blocks.BLOCK", 512)
    path = write(tmp_path, random_file(rng, images=300))[1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last image with annotations
    path.write_bytes(content)
    store = AnnotationStore.open(path)
    last = int(np.flatnonzero(np.diff(store.first))[-1])
    assert store.annotations(0) is not None and store.image(last)
    with pytest.raises(UserError, match=r"train\.store is truncated or damaged: write it again"):
        store.annotations(last)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("categories"),
        lambda data: data["images"][0].pop("width"),
        lambda data: data["images"][0].pop("file_name"),
        lambda data: data["annotations"][0].update(bbox=[1, 2, 3]),
        lambda data: data["annotations"][0].update(bbox="abcd"),
        lambda data: data["annotations"].append(3),
    ],
)
def test_json_of_another_schema(rng, tmp_path, spoil):
    data = random_file(rng)
    spoil(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"a\.json: not of the COCO schema"):
        AnnotationStore.open(tmp_path / "a.json")


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
    threshold = float(rng.uniform(0.05, 1))
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
