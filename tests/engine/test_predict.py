"""A run as a detector of any photo: what `gol detect` finds, in whatever form the photo comes."""

import inspect
import json
import shutil

import cv2
import numpy as np
import pycocotools.mask
import pytest
import torch
from PIL import Image

import gol
from gol.cli import main, pictures
from gol.config.resolve import load_config
from gol.engine import standalone
from gol.engine.detect import detect
from gol.errors import UserError
from gol.losses import LOSSES
from gol.losses.class_statistics import ClassStatistics
from gol.models.state import load_checkpoint


@pytest.fixture(scope="module")
def detector(alone):
    return gol.load_detector(alone, "cpu")


@pytest.fixture(scope="module")
def photo(demo_data):
    return next(iter(sorted((demo_data / "raw" / "val").iterdir())))


def test_it_finds_what_gol_detect_finds(alone, demo_data, detector, tmp_path):
    detect(alone, tmp_path / "d.json", device="cpu")
    expected = json.loads((tmp_path / "d.json").read_text())
    val = json.loads((demo_data / "val.json").read_text())
    label = {category["id"]: row for row, category in enumerate(val["categories"])}
    image = val["images"][0]
    wanted = [entry for entry in expected if entry["image_id"] == image["id"]]
    wanted.sort(key=lambda entry: -entry["score"])
    images = load_config(alone).data.test.img_prefix
    found = detector.predict(f"{images}/{image['file_name']}", score=0)
    assert len(found) == len(wanted) > 10
    # Images detected together are convolved together, which rounds otherwise.
    np.testing.assert_allclose(found.confidence, [entry["score"] for entry in wanted], rtol=1e-4)
    best = slice(0, 5)
    assert found.class_id[best].tolist() == [label[e["category_id"]] for e in wanted[best]]
    names = [category["name"] for category in val["categories"]]
    assert [*found.data["class_name"]] == [names[row] for row in found.class_id]
    corners = [(x, y, x + w, y + h) for x, y, w, h in (e["bbox"] for e in wanted[best])]
    np.testing.assert_allclose(found.xyxy[best], corners, atol=0.05)
    for mask, entry in zip(found.mask[best], wanted[best], strict=True):
        differs = mask != pycocotools.mask.decode(entry["segmentation"]).astype(bool)
        assert mask.any() and differs.sum() <= 2


def test_a_photo_in_any_form_is_the_same(detector, photo):
    first = detector.predict(photo, score=0)
    array = cv2.imread(str(photo))
    for form in (str(photo), array, Image.open(photo)):
        found = detector.predict(form, score=0)
        assert (found.xyxy == first.xyxy).all() and (found.mask == first.mask).all()


def test_several_at_once_are_what_each_is_alone(detector, photo):
    """Also where their sizes differ, as one lying among those that stand."""
    array = cv2.imread(str(photo))
    photos = [array, array[:48].copy(), array[:, ::-1].copy()]
    for found, each in zip(detector.predict_all(photos, 0.01), photos, strict=True):
        alone = detector.predict(each, 0.01)
        assert abs(len(found) - len(alone)) <= 1 and len(alone) > 3
        np.testing.assert_allclose(found.confidence[:3], alone.confidence[:3], rtol=1e-3)
        np.testing.assert_allclose(found.xyxy[:3], alone.xyxy[:3], atol=0.05)
    with pytest.raises(UserError, match="most must be at least 1, not 0"):
        detector.predict(array, most=0)


def test_a_least_score_leaves_the_better_ones_as_they_are(detector, photo):
    everything = detector.predict(photo, score=0)
    least = float(np.median(everything.confidence))
    found = detector.predict(photo, score=least)
    kept = everything[everything.confidence > least]
    assert 0 < len(found) == len(kept) < len(everything)
    np.testing.assert_array_equal(found.confidence, kept.confidence)
    assert (found.mask == kept.mask).all()
    assert len(detector.predict(photo, score=1)) == 0


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turned_photo_is_found_upright(detector, photo, tmp_path, form):
    upright = Image.open(photo).convert("RGB").crop((0, 0, 96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    path = tmp_path / f"turned.{form.lower()}"
    lossless = {"lossless": True} if form == "WEBP" else {"quality": 100, "subsampling": 0}
    upright.transpose(Image.Transpose.ROTATE_90).save(path, form, exif=exif, **lossless)
    found = detector.predict(path, score=0)
    assert found.mask.shape[1:] == (64, 96)
    near = detector.predict(upright, score=0)
    np.testing.assert_allclose(found.confidence[:3], near.confidence[:3], atol=0.05)


def test_only_the_run_folder_is_needed(alone, photo, detector, tmp_path):
    for name in ("config.json", "model.pth"):
        shutil.copy(alone / name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for split in ("train", "val", "test"):
        config["data"][split].update(ann_file="gone.store", img_prefix="gone")
    config["model"]["roi_head"]["bbox_head"]["loss_cls"]["class_statistics"] = "gone/classes.json"
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = gol.load_detector(tmp_path, "cpu").predict(photo, score=0)
    assert (found.xyxy == detector.predict(photo, score=0).xyxy).all()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((4, 4), np.uint8), r"must be uint8 \(height, width, 3\) in BGR order, not uint8"),
        (np.zeros((4, 4, 3)), "not float64"),
        (3, "must be a path, an array or a PIL image, not 3"),
        ("nowhere.jpg", "cannot read the image nowhere.jpg: No such file"),
    ],
)
def test_what_is_no_photo_is_named(detector, image, reason):
    with pytest.raises(UserError, match=reason):
        detector.predict(image)
    with pytest.raises(UserError, match="from 0 to 1, not 2"):
        detector.predict(np.zeros((64, 64, 3), np.uint8), score=2)


def test_weights_without_names_are_refused(alone, tmp_path):
    shutil.copy(alone / "config.json", tmp_path)
    torch.save({"state_dict": load_checkpoint(alone / "model.pth")["state_dict"]}, tmp_path / "w")
    with pytest.raises(UserError, match=r"w does not name its classes: state .* --classes coco"):
        gol.load_detector(tmp_path, "cpu", checkpoint=tmp_path / "w")
    with pytest.raises(UserError, match="w names 2 classes, the config has 40"):
        gol.load_detector(tmp_path / "w", "cpu", classes="dog, cat")
    with pytest.raises(UserError, match="unknown scoring 'softmx'"):
        gol.load_detector(alone, "cpu", scoring="softmx")


@pytest.mark.parametrize("said", ["experiment", "config", "beside"])
def test_a_checkpoint_of_ours_is_enough(alone, photo, detector, tmp_path, said):
    path = tmp_path / "moved.pth"
    shutil.copy(alone / "model.pth", path)
    how = {"experiment": {"experiment": "demo/gol"}, "config": {"config": alone / "config.json"}}
    if said == "beside":
        shutil.copy(alone / "config.json", tmp_path)
    found = gol.load_detector(path, "cpu", **how.get(said, {}))
    assert found.classes == detector.classes
    wanted = detector.predict(photo, score=0)
    assert (found.predict(photo, score=0).confidence == wanted.confidence).all() and len(wanted)


@pytest.mark.parametrize("form", ["mmdet 2", "mmdet 3", "bare"])
def test_a_checkpoint_of_the_zoo_is_enough(photo, tmp_path, capsys, form):
    names = ["potato", "hot dog", "zebra"]
    categories = [{"id": row, "name": name} for row, name in enumerate(names)]
    empty = {"images": [], "annotations": [], "categories": categories}
    ClassStatistics.from_annotations(empty).save(tmp_path / "classes.json")
    config = gol.load_experiment("demo/softmax", {"dataset": "own"}, tmp_path)
    state = gol.build_detector(config).state_dict()
    state["roi_head.bbox_head.fc_cls.bias"] = torch.tensor([0.0, 3.0, 0.0, 0.0])
    meta = {"mmdet 2": {"CLASSES": tuple(names)}, "mmdet 3": {"dataset_meta": {"classes": names}}}
    torch.save({"meta": meta[form], "state_dict": state} if form in meta else state, tmp_path / "w")
    command = ["predict", str(tmp_path / "w"), str(photo), "--out", str(tmp_path / "out")]
    command += ["--device", "cpu", "--experiment", "demo/softmax", "--dataset", "own"]
    assert main([*command, *([] if form in meta else ["--classes", ",".join(names)])]) == 0
    data = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [category["name"] for category in data["categories"]] == names
    assert {entry["category_id"] for entry in data["annotations"]} == {2}
    assert main([*command[:-2]]) == 2
    said = capsys.readouterr().err
    assert ("names 3 classes, dataset demo has 40" if form in meta else "--classes coco") in said


def test_own_experiments_detect_at_the_size_of_photos(alone, tmp_path):
    """Named without a dataset they are the demo's, at 96 pixels."""
    config = standalone._resolve(tmp_path, "own/softmax", None, ["dog", "cat"])
    assert config.data.test.pipeline[1].img_scale == (1333, 800)
    assert config.model.roi_head.bbox_head.num_classes == 2
    config = standalone._resolve(tmp_path, "own_small/gol", None, ["dog", "cat"])
    assert config.data.test.pipeline[1].img_scale == (512, 512)


def test_what_a_checkpoint_is_has_to_be_said_once(alone, tmp_path):
    path = tmp_path / "moved.pth"
    shutil.copy(alone / "model.pth", path)
    for run, chosen, reason in (
        (path, {}, "does not say what detector it is of: --experiment NAME or --config FILE"),
        (path, {"experiment": "demo/gol", "config": alone}, "give one"),
        (path, {"checkpoint": path, "experiment": "demo/gol"}, "both name weights"),
        (path, {"experiment": "demo/goal"}, "did you mean 'demo/gol'"),
        (path, {"experiment": "demo/softmax"}, "does not fit the model"),
        (path, {"config": alone, "dataset": "own"}, "give both"),
        (alone, {"experiment": "demo/gol"}, "is not a file: only a checkpoint needs"),
        (tmp_path / "gone.pth", {"experiment": "demo/gol"}, "no file or folder"),
    ):
        with pytest.raises(UserError, match=reason):
            gol.load_detector(run, "cpu", **chosen)


@pytest.mark.parametrize("name", LOSSES.own)
def test_a_loss_says_whether_its_scores_follow_from_the_class_counts(name, tmp_path):
    """If they did and it were not said, a run that was moved would find other things."""
    scores = []
    for counts in ((900, 5, 1), (2, 4, 800)):
        path = tmp_path / f"{counts[0]}.json"
        ClassStatistics((1, 2, 3), ("a", "b", "c"), ("f", "c", "r"), counts, counts, 999, 999).save(
            path
        )
        known = inspect.signature(LOSSES.own[name]).parameters
        given = {"class_statistics": str(path)} if "class_statistics" in known else {}
        loss = LOSSES.own[name](num_classes=3, **given).eval()
        logits = torch.linspace(-9, 9, 8 * loss.get_cls_channels(3)).reshape(8, -1)
        scores.append(loss.get_activation(logits))
    assert torch.equal(*scores) != loss.scores_by_counts


def test_scores_that_follow_from_the_class_counts_need_them(alone):
    config = load_config(alone)
    loss = config.model.roi_head.bbox_head.loss_cls
    loss.update(use_classif="cls_rel", class_statistics="gone.json")
    with (
        pytest.raises(UserError, match="by the class counts of its training"),
        standalone.counted(config, ["dog"]),
    ):
        pass


@pytest.fixture
def photos(photo, tmp_path):
    """Two photos of one name, one that is none, and a note."""
    for folder in ("a", "b"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "photos" / folder / "one.png")
    (tmp_path / "photos" / "bad.jpg").write_text("no photo")
    (tmp_path / "photos" / "note.txt").write_text("no photo either")
    return tmp_path / "photos"


def test_pictures_and_json_of_a_folder(alone, photos, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["predict", str(alone), str(photos), "--out", str(out), "--score", "0.01", "--crop"]
    command += ["--device", "cpu", "--batch", "2", "--json"]
    assert main(command) == 1  # one cannot be read
    said = capsys.readouterr()
    assert f"cannot read the image {photos / 'bad.jpg'}" in said.err
    value = json.loads(said.out)
    assert (value["photos"], value["unread"]) == (2, 1) and value["detections"] > 0
    data = json.loads((out / "annotations.json").read_text())
    assert [image["picture"] for image in data["images"]] == ["one.jpg", "one-2.jpg"]
    assert [image["width"] for image in data["images"]] == [96, 96]
    assert len(data["annotations"]) == value["detections"] == sum(value["classes"].values())
    results = json.loads((out / "detections.json").read_text())
    assert [r["bbox"] for r in results] == [a["bbox"] for a in data["annotations"]]
    drawn, plain = cv2.imread(str(out / "one.jpg")), cv2.imread(str(photos / "a" / "one.png"))
    assert drawn.shape == (576, 576, 3)  # names can be read
    larger = cv2.resize(plain, (576, 576), interpolation=cv2.INTER_NEAREST)
    assert (np.abs(drawn.astype(int) - larger).max(axis=2) > 60).mean() > 0.02
    assert len([*(out / "crops").iterdir()]) == value["detections"]


def test_what_is_found_can_be_imported(alone, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(alone), str(photo), "--out", str(out), "--score", "0.01"]) == 0
    file, images = str(out / "annotations.json"), str(photo.parent)
    assert main(["import", file, "--images", images, "--out", str(tmp_path / "again")]) == 0


def test_a_text_file_lists_photos(photo, tmp_path):
    """Beside itself or in the current folder; with a BOM and Windows' ends of lines."""
    shutil.copy(photo, tmp_path / "near.jpg")
    names = tmp_path / "names.txt"
    folder = tmp_path / "near [1]"
    (folder / "a folder.jpg").mkdir(parents=True)
    shutil.copy(photo, folder / "1.JFIF")
    lines = ["near.jpg", "", str(photo), f"{photo.parent}/*7.jpg", "near*/*.JFIF"]
    names.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    found = pictures._files([str(names)], tmp_path / "out")
    assert found[:2] == [tmp_path / "near.jpg", photo] and len(found) > 3
    assert found[-1] == folder / "1.JFIF"
    (folder / "names.txt").write_text("*.JFIF")
    for given in (folder, folder / "names.txt"):
        assert pictures._files([str(given)], tmp_path / "out") == [folder / "1.JFIF"]
    for content, reason in (
        ("far.jpg", "no photo in far.jpg, which .*names.txt lists"),
        ("x" * 300, "no photo in xxx.*, which .*names.txt lists"),
        ("\n", "no"),
    ):
        names.write_text(content)
        with pytest.raises(UserError, match=reason):
            pictures._files([str(names)], tmp_path / "out")
    names.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"cannot read the list .*names.txt"):
        pictures._files([str(names)], tmp_path / "out")
    for name in ("x" * 300, "x" * 300 + ".txt"):
        with pytest.raises(UserError, match="no photo in x"):
            pictures._files([name], tmp_path / "out")


def test_no_photo_is_overwritten(alone, photo, tmp_path, capsys):
    mine = tmp_path / "mine.jpg"
    shutil.copy(photo, mine)
    assert main(["predict", str(alone), str(mine), "--out", str(tmp_path)]) == 2
    assert "mine.jpg would be overwritten" in capsys.readouterr().err
    assert mine.read_bytes() == photo.read_bytes()


@pytest.mark.parametrize(
    "names",
    [
        ["import.json", "annotations.json", "detections.json"],
        ["annotations.json"],
        ["mine.jpg"],
        ["crops/mine-1.jpg"],
    ],
)
def test_what_others_wrote_is_not_overwritten(photo, tmp_path, names):
    """Such as the annotations.json of `gol import`; what it wrote itself it may."""
    out = tmp_path / "out"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("somebody's")
    with pytest.raises(UserError, match="not from a finished `gol predict`: give another --out"):
        pictures._refuse_overwriting([photo], ["mine"], out, crop=True)
    (out / "detections.json").write_text("[]")
    (out / "import.json").unlink(missing_ok=True)
    pictures._refuse_overwriting([photo], ["mine"], out, crop=True)


def test_a_photo_that_is_too_narrow_is_left_out(alone, photo, tmp_path, capsys):
    Image.new("RGB", (3, 400)).save(tmp_path / "narrow.png")
    command = ["predict", str(alone), str(photo), str(tmp_path / "narrow.png"), "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "3 × 400 pixels is too narrow" in capsys.readouterr().err


def test_nothing_found_is_said(alone, photo, tmp_path, capsys):
    command = ["predict", str(alone), str(photo), "--out", str(tmp_path / "out"), "--score", "1"]
    assert main(command) == 0
    assert "nothing scores 1 or more" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == []


def test_bad_input_is_one_line(alone, photos, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["predict", str(alone), str(photos / "bad.jpg"), *out]) == 2
    assert "no photo can be read" in capsys.readouterr().err
    assert main(["predict", str(alone), str(tmp_path / "*.gif"), *out]) == 2
    assert "no photo in" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(alone), str(photos), *out, "--score", "30"])
    assert ended.value.code == 2 and "from 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
