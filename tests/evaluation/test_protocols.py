"""The other protocols against lvis-api, changed as their papers say, and against definitions."""

import json

import hotcoco
import numpy as np
import pytest
from coco_files import to_mask
from lvis_oracle import flat, lvis_api, lvis_evaluation, random_dataset, random_detections, write
from pycocotools import mask as rle
from scipy.ndimage import minimum_filter
from seeds import fresh_seed
from tide_oracle import tide

import gol
from gol.cli import main
from gol.config.protocols import PROTOCOLS
from gol.config.resolve import save_config
from gol.data.demo.draw import draw_demo
from gol.errors import UserError
from gol.evaluation.lvis import evaluate, load_pair, parameters
from gol.evaluation.matches import groups
from gol.evaluation.protocols import evaluate_by, format_scores
from gol.run_folder import RunFolder

GROUPS = ("all", "r", "c", "f")


@pytest.fixture(scope="module", params=[fresh_seed(), fresh_seed()])
def case(request, tmp_path_factory):
    """Ground truth, detections and their files; every awkward case, ties and crowded images."""
    rng = np.random.default_rng(request.param)
    dataset = random_dataset(rng, images=14)
    detections = random_detections(rng, dataset)
    return dataset, detections, write(tmp_path_factory.mktemp("case"), dataset, detections)


@pytest.fixture(scope="module")
def theirs(case):
    """lvis-api's evaluation of the masks."""
    return lvis_evaluation(*case[:2], "segm")


def best_of_classes(detections, most):
    """As Dave et al. cut them; of equal scores the first in the file."""
    kept = []
    for category in {d["category_id"] for d in detections}:
        mine = [d for d in detections if d["category_id"] == category]
        kept += sorted(mine, key=lambda d: d["score"], reverse=True)[:most]
    return sorted(kept, key=lambda d: next(i for i, e in enumerate(detections) if e is d))


def counted(evaluation, threshold=0):
    """Class, score, match (an object's id or 0), "left out" of each detection; objects by class."""
    parameters, rows, objects = evaluation.params, [], {}
    images = len(parameters.img_ids)
    for place, category in enumerate(parameters.cat_ids):
        objects[category] = 0
        start = place * len(parameters.area_rng) * images  # of all sizes
        for each in evaluation.eval_imgs[start : start + images]:
            if each:
                objects[category] += int((np.array(each["gt_ignore"]) == 0).sum())
                columns = (each["dt_scores"], each["dt_ids"])
                columns += (each["dt_matches"][threshold], each["dt_ignore"][threshold])
                rows += [(category, *values) for values in zip(*columns, strict=True)]
    return rows, objects


def classes_of(dataset):
    """Group to ids."""
    groups = {g: [c["id"] for c in dataset["categories"] if c["frequency"] == g] for g in "rcf"}
    return {"all": [c["id"] for c in dataset["categories"]], **groups}


@pytest.mark.parametrize("most", [4, 60])
def test_fixed_is_lvis_api_without_a_limit_per_image(case, most):
    dataset, detections, files = case
    result = evaluate_by(["fixed"], *files, per_class=most)["fixed"]
    cut = best_of_classes(detections, most)
    masks = [{k: v for k, v in d.items() if k != "bbox"} for d in cut]  # areas of masks
    for kind, found in (("segm", masks), ("bbox", cut)):
        expected = lvis_api(dataset, found, kind, max_detections=-1)
        ours = flat({kind: result["scores"][kind], "per_class": result["per_class"]}, kind)
        assert ours == pytest.approx(expected, abs=1e-9)
    assert result["protocol"]["detections_per_class"] == most


def test_fixed_takes_classes_in_turns(case, monkeypatch):
    whole = evaluate_by(["fixed"], *case[2], per_class=60)
    monkeypatch.setattr("gol.evaluation.fixed._AT_ONCE", 20)
    assert evaluate_by(["fixed"], *case[2], per_class=60) == whole


def test_pool_ranks_all_classes_together(case):
    dataset, detections, files = case
    cut = best_of_classes(detections, 60)
    masks = [{k: v for k, v in d.items() if k != "bbox"} for d in cut]
    evaluation = lvis_evaluation(dataset, masks, "segm", max_detections=-1)
    result = evaluate_by(["pool"], *files, per_class=60)["pool"]["scores"]
    for name, chosen in classes_of(dataset).items():
        values = []
        for threshold in range(10):
            rows, objects = counted(evaluation, threshold)
            rows = [row for row in rows if row[0] in chosen and not row[4]]
            rows.sort(key=lambda row: -row[1])
            right = np.cumsum([row[3] > 0 for row in rows])
            precision = right / np.arange(1, len(rows) + 1)
            recall = right / max(sum(objects[i] for i in chosen), 1)
            above = [precision[recall >= r] for r in np.linspace(0, 1, 101)]
            values.append(np.mean([part.max(initial=0) for part in above]))
        count = sum(objects[i] for i in chosen)
        assert result[name]["objects"] == count
        assert result[name]["AP"] == (pytest.approx(np.mean(values)) if count else None)


def test_boundary_ap_is_lvis_api_with_the_smaller_iou(case, monkeypatch):
    from lvis import LVISEval

    dataset, detections, files = case

    def outline(mask):
        height, width = mask["size"]
        reach = 2 * max(1, round(0.02 * (height**2 + width**2) ** 0.5)) + 1
        pixels = rle.decode(mask)
        inner = minimum_filter(pixels, reach, mode="constant", cval=0)
        return rle.encode(np.asfortranarray(pixels - inner))

    def ious(self, image, category):
        objects, found = self._get_gt_dt(image, category)
        if not (objects and found):
            return []
        found = [found[i] for i in np.argsort([-d["score"] for d in found], kind="mergesort")]
        masks = [[self.lvis_gt.ann_to_rle(a) for a in each] for each in (found, objects)]
        edges = [[outline(mask) for mask in each] for each in masks]
        return np.minimum(*(rle.iou(*each, [0] * len(objects)) for each in (masks, edges)))

    monkeypatch.setattr(LVISEval, "compute_iou", ious)
    expected = lvis_api(dataset, detections, "segm")
    result = evaluate_by(["boundary"], *files)["boundary"]
    scores = result["scores"]["boundary"]
    assert scores == pytest.approx({name: expected[name] for name in scores}, abs=1e-9)
    assert 0 < scores["AP"] < evaluate(*files)["segm"]["AP"]


def shifted_objects(dataset, rng):
    """Detections of other pixels, some of another class, each with a score of its own."""
    found = []
    for each in dataset["annotations"]:
        for _ in range(int(rng.integers(4))):
            pixels = to_mask(each["segmentation"], 96, 96).astype(np.uint8)
            moved = np.roll(pixels, rng.integers(-3, 4, 2), (0, 1))
            mask = rle.encode(np.asfortranarray(moved))
            own, other = each["category_id"], int(rng.choice(dataset["categories"])["id"])
            found.append(
                {
                    "image_id": each["image_id"],
                    "category_id": own if rng.random() < 0.7 else other,
                    "score": float(rng.random()),
                    "bbox": rle.toBbox(mask).tolist(),
                    "segmentation": {**mask, "counts": mask["counts"].decode()},
                }
            )
    return found


@pytest.mark.parametrize("seed", [fresh_seed()])
def test_boundary_ap_is_that_of_another_implementation(tmp_path, seed):
    """On plain cases: vernier refuses, or scores otherwise than lvis-api, some awkward ones."""
    instance = pytest.importorskip("vernier.instance")
    draw_demo(tmp_path, seed, train_images=60, val_images=60, classes=12)
    truth, file = tmp_path / "val.json", tmp_path / "detections.json"
    found = shifted_objects(json.loads(truth.read_text()), np.random.default_rng(seed))
    file.write_text(json.dumps(found))
    theirs = instance.CocoDataset.from_lvis_json(truth.read_bytes())
    evaluator = instance.Evaluator(iou=instance.Boundary(dilation_ratio=0.02))
    expected = evaluator.evaluate(theirs, file.read_bytes()).stats
    scores = evaluate_by(["boundary"], truth, file)["boundary"]["scores"]["boundary"]
    for name, value in zip(("AP", "AP50", "AP75"), expected, strict=False):
        assert scores[name] == pytest.approx(value, abs=1e-12)
    assert 0 < scores["AP"] < 0.9


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_tide_is_that_of_the_paper(tmp_path, kind, rng):
    dataset = random_dataset(rng, images=20, awkward=False)
    detections = random_detections(rng, dataset, crowded=0)
    for each in detections:
        each["score"] = float(rng.random())  # the paper leaves ties open
        if rng.random() < 0.4:
            each["category_id"] = int(rng.choice(dataset["categories"])["id"])
        if kind == "bbox":
            del each["segmentation"]
    scores = evaluate_by(["tide"], *write(tmp_path, dataset, detections))["tide"]["scores"]
    expected = tide(dataset, detections, kind)
    assert scores["cost"] == pytest.approx({"AP50": expected["AP50"], **expected["dAP"]})
    assert {name: scores["count"][name] for name in expected["count"]} == expected["count"]
    assert scores["count"]["Cls"] and scores["count"]["Dupe"]


def test_olrp_is_the_least_error_of_all_thresholds(case, theirs):
    dataset, _, files = case
    result = evaluate_by(["olrp"], *files)["olrp"]
    rows, objects = counted(theirs)
    best = {}
    for category, count in objects.items():
        mine = [row for row in rows if row[0] == category and not row[4]]
        errors = [(1.0, None, None, 1.0)]
        for least in {row[1] for row in mine}:
            kept = [row for row in mine if row[1] >= least]
            lost = [1 - _iou(theirs, row) for row in kept if row[3]]
            wrong, missed = len(kept) - len(lost), count - len(lost)
            error = (sum(lost) / 0.5 + wrong + missed) / (len(kept) + missed) if count else 0
            if lost:
                errors.append((error, np.mean(lost), wrong / len(kept), missed / count))
        if count:
            best[category] = min(errors, key=lambda each: each[0])
    for name, chosen in classes_of(dataset).items():
        some = [best[i] for i in chosen if i in best]
        assert result["scores"][name]["classes"] == len(some)
        for column, values in zip(
            ("oLRP", "Loc", "FP", "FN"), zip(*some, strict=True), strict=False
        ):
            values = [v for v in values if v is not None]
            expected = pytest.approx(np.mean(values)) if values else None
            assert result["scores"][name][column] == expected


def _iou(evaluation, row):
    shapes = [evaluation.lvis_dt.anns[row[2]], evaluation.lvis_gt.anns[row[3]]]
    masks = [
        [file.ann_to_rle(shape)]
        for file, shape in zip((evaluation.lvis_dt, evaluation.lvis_gt), shapes, strict=True)
    ]
    return rle.iou(*masks, [0])[0, 0]


def test_calibration_error_is_the_mean_gap_of_ten_bins(case, theirs):
    dataset, _, files = case
    scores = evaluate_by(["calibration"], *files)["calibration"]["scores"]
    rows, _ = counted(theirs)
    for name, chosen in classes_of(dataset).items():
        mine = [(row[1], row[3] > 0) for row in rows if row[0] in chosen and not row[4]]
        bins = [[] for _ in range(10)]
        for score, right in mine:
            bins[min(int(score * 10), 9)].append((score, right))
        gaps = [abs(np.subtract(*np.mean(each, axis=0))) for each in bins if each]
        sizes = [len(each) for each in bins if each]
        assert scores[name]["counted"] == len(mine)
        if mine:
            assert scores[name]["ECE"] == pytest.approx(np.average(gaps, weights=sizes))
            assert scores[name]["MCE"] == pytest.approx(max(gaps))
    pair = load_pair(*files, None, 300)
    (part,) = pair.parts(100)
    engine = hotcoco.COCOeval(*pair.load(part), "segm", lvis_style=True)
    engine.params = parameters("segm", 300, [0.5], {"all": [0, 1e10]})
    engine.evaluate()
    assert scores["all"]["ECE"] == pytest.approx(engine.calibration(10, 0.5)["ece"])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_found_and_no_objects_are_numbers_too(tmp_path, rng, name):
    dataset = random_dataset(rng, images=3, classes=3)
    shown = {name: evaluate_by([name], *write(tmp_path, dataset, []))[name]}
    dataset["annotations"] = []
    shown["no object"] = evaluate_by([name], *write(tmp_path, dataset, []))[name]
    for result in shown.values():
        json.dumps(result, allow_nan=False)
        assert result["detections"] == 0 and "\nwarning" in format_scores(result) + "\nwarning"


def test_detections_that_are_too_few_or_cut_by_image_are_named(tmp_path, rng):
    dataset = random_dataset(rng, images=6, classes=4, awkward=False)
    one = random_detections(rng, dataset, crowded=0)[:1]
    ids = [image["id"] for image in dataset["images"]]
    sizes = {image["id"]: [image["height"], image["width"]] for image in dataset["images"]}
    found = [
        {
            **one[0],
            "image_id": i,
            "bbox": [0, 0, 9, 9],
            "score": 0.5,
            "segmentation": _full(sizes[i]),
        }
        for i in ids
        for _ in range(5)
    ]
    result = evaluate_by(["fixed"], *write(tmp_path, dataset, found), per_class=30)["fixed"]
    few, cut = result["warnings"]
    assert few == "3 of 4 classes have fewer than 30 detections"
    assert cut.startswith("6 images have 5 detections and none has more")
    assert "warning: 3 of 4 classes" in format_scores(result)
    result = evaluate_by(["olrp"], *write(tmp_path, dataset, found))["olrp"]
    assert result["warnings"] == []


def _full(size):
    mask = rle.encode(np.ones(size, np.uint8, order="F"))
    return {"size": size, "counts": mask["counts"].decode()}


def test_a_run_is_scored_into_files_of_their_own(tmp_path, demo_data, rng, capsys):
    run = RunFolder(tmp_path / "run")
    save_config(gol.load_experiment("demo/sigmoid", None, demo_data), run.path)
    dataset = json.loads((demo_data / "val.json").read_text())
    found = random_detections(rng, dataset, crowded=0)
    for path in (run.detections("softmax"), run.detections("sigmoid", per_class=True)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found))
    assert main(["evaluate", str(run)]) == 0
    official = json.loads(run.evaluation("softmax").read_text())
    assert official == evaluate(demo_data / "val.json", run.detections("softmax"))
    assert main(["evaluate", str(run), "--protocol", "olrp", "--protocol", "tide"]) == 0
    words = ["--protocol", "pool", "--scoring", "sigmoid", "--per-class", "7"]
    assert main(["evaluate", str(run), *words]) == 0
    printed = capsys.readouterr().out
    assert "AP-pool (detections per class 7, of segm" in printed and "oLRP (max detec" in printed
    names = {path.name for path in run.evaluation("softmax").parent.glob("[!.]*")}
    assert names == {"softmax.json", "softmax.olrp.json", "softmax.tide.json", "sigmoid.pool.json"}
    assert json.loads(run.evaluation("softmax").read_text()) == official

    assert main(["evaluate", str(run), "--protocol", "fixed", "--per-class", "7"]) == 2
    missing, remedy = capsys.readouterr().err.split(": `")
    assert missing.endswith("detections/softmax.per_class.json is missing")
    assert remedy.startswith(f"gol detect {run} --scoring softmax --per-class 7`")
    ignored = ["--protocol", "tide", "--per-class", "7"]
    for wrong in (["--out", "x"], ["--per-class", "7"], ["--protocol", "AP"], ignored):
        assert main(["evaluate", str(run), *wrong]) == 2
    files = [str(demo_data / "val.json"), str(run.detections("softmax"))]
    assert main(["evaluate", *files]) == main(["evaluate", *files, "--scoring", "softmax"]) == 2
    twice = ["--protocol", "olrp", "--protocol", "tide", "--out", str(tmp_path / "x")]
    assert main(["evaluate", *files, *twice]) == 2
    assert main(["evaluate", *files, "--protocol", "olrp", "--out", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x").read_bytes() == run.evaluation("softmax", "olrp").read_bytes()
    assert capsys.readouterr().err.count("\n") == 7


def test_bad_input_is_one_line(tmp_path, rng):
    dataset = random_dataset(rng, images=3)
    files = write(tmp_path, dataset, random_detections(rng, dataset))
    with pytest.raises(UserError, match=r"unknown protocol 'AP'; allowed: fixed, pool, bou"):
        evaluate_by(["AP"], *files)
    boxes = [
        {k: v for k, v in d.items() if k != "segmentation"}
        for d in json.loads(files[1].read_text())
    ]
    with pytest.raises(UserError, match="boundary AP compares masks"):
        evaluate_by(["boundary"], *write(tmp_path, dataset, boxes))
    with pytest.raises(UserError, match=r"calibration wants scores from 0 to 1, not 7"):
        evaluate_by(
            ["calibration"], *write(tmp_path, dataset, [{**d, "score": 7.0} for d in boxes])
        )


def test_groups_cover_the_classes():
    members = groups([{"frequency": f} for f in "rcfr"])
    assert [members[name].tolist() for name in GROUPS[:2]] == [
        [True] * 4,
        [True, False, False, True],
    ]
