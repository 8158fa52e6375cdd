"""Valid inputs, each changed at random, through the command line; what is accepted must be right.

The suite does it a few times for each kind of input. ``GOL_MUTATIONS=1 pytest
tests/campaigns/test_mutations.py -s`` does it as often as ``LONG`` says and prints what became of
them; GOL_TEST_SEED repeats a run.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
import yaml
from coco_files import random_coco
from lvis_oracle import CLASSWISE, flat, lvis_api, random_dataset, random_detections
from mutate import VALUES, as_json, mutated, spoiled
from run_folders import make_run
from seeds import fresh_seed

from gol.cli import main
from gol.config.datasets import shipped_datasets
from gol.config.resolve import load_experiment
from gol.evaluation.lvis import evaluate

LONG = {"annotations": 2000, "detections": 800, "configs": 500, "overrides": 300}
SHORT = {"annotations": 60, "detections": 40, "configs": 20, "overrides": 20}
SECONDS = 10  # that an input may take
HANGS = 12 * SECONDS  # after which it is taken never to end, also on a busy machine
LINE = 5000  # characters of a message
_TEXTS = ("train.json", "val.json", "classes.json", "summary.json")
PREPARED = {*_TEXTS, *(f".{name}.sha256" for name in _TEXTS), "train.store", "val.store"}

Case = tuple[
    list[str], str, Callable[[], str]
]  # arguments, what was done, check of what is accepted


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a small dataset of one's own, its prepared form, and a scored run."""
    folder = tmp_path_factory.mktemp("mutations")
    rng = np.random.default_rng(fresh_seed())
    for split, first in (("train", 1), ("val", 100)):
        data = random_coco(rng, folder / split, images=5, categories=3, first_id=first)
        data |= {"info": {"year": 2026, "url": ""}, "licenses": [{"id": 1, "name": "x"}]}
        for image in data["images"]:
            image |= {"license": 1, "date_captured": "", "coco_url": "http://a/b/c.jpg"}
        for entry in [*data["categories"], *data["annotations"]]:
            entry |= {"supercategory": "any", "attributes": {"occluded": False}, "score": 1.0}
        (folder / f"{split}.json").write_text(json.dumps(data))
    own = shipped_datasets()["own"]
    paths = {s: {"annotations": f"{s}.json", "images": s} for s in ("train", "val")}
    (folder / "ds.yaml").write_text(yaml.safe_dump({**own, **paths}))
    make_run(folder / "run", lines=4, classes=6)
    with contextlib.chdir(folder):
        assert main(["preprocess", "--dataset", "ds.yaml", "--out", "prepared"]) == 0
    return folder


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.slow
def test_changed_inputs(base, tmp_path, monkeypatch, kind, seed):
    rng = random.Random(seed)
    count = (LONG if "GOL_MUTATIONS" in os.environ else SHORT)[kind]
    become: Counter[str] = Counter()
    faults = []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        arguments, done, check = KINDS[kind](base, folder, rng)
        with ended_if_it_hangs(tmp_path / "hangs.txt", f"{number} {done}"):
            found = outcome(arguments, check)
        become[found.split(":")[0]] += 1
        if found.split(":")[0].isupper():
            faults.append(f"{number} {done}: {found}")
            print(faults[-1], flush=True)
    print(f"\n{kind} {count}, seed {seed}: {dict(become)}")
    assert not faults, faults[0]


@contextlib.contextmanager
def ended_if_it_hangs(file: Path, what: str):
    """Ends all, and the file says where, if C code holds the interpreter without end."""
    with open(file, "w", errors="backslashreplace") as hangs:
        print(what, file=hangs, flush=True)
        faulthandler.dump_traceback_later(HANGS, exit=True, file=hangs)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def outcome(arguments: list[str], check: Callable[[], str]) -> str:
    """What a command makes of its input: accepted, refused, or a fault in capitals."""
    before, begin = set(Path.cwd().rglob("*")), time.monotonic()
    errors = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code = main(arguments)
    except SystemExit as error:
        code = error.code
    except Exception as error:
        return f"TRACEBACK: {type(error).__name__}: {str(error)[:300]}"
    if time.monotonic() - begin > SECONDS:
        return f"SLOW: {time.monotonic() - begin:.0f} s"
    if code not in (0, 2):
        return f"CODE: {code}"
    if code == 0:
        return check() or "accepted"
    written = {path.name for path in set(Path.cwd().rglob("*")) - before if path.is_file()}
    if written - {"problems.json"}:
        return f"HALF-WRITTEN: {written}"
    said = [line for line in errors.getvalue().splitlines() if ": error: " in line]
    if len(said) != 1 or len(said[0]) > LINE or not said[0].isprintable():
        return f"LINE: {errors.getvalue()[-500:]!r}"
    return "refused"


def annotations(base: Path, folder: Path, rng: random.Random) -> Case:
    """A changed split of a dataset of one's own."""
    split = rng.choice(["train", "val"])
    for name in ("ds.yaml", "train", "val", "train.json", "val.json"):
        if name != f"{split}.json":
            (folder / name).symlink_to(base / name)
    content, done = changed((base / f"{split}.json").read_bytes(), rng)
    (folder / f"{split}.json").write_bytes(content)

    def check() -> str:
        if {path.name for path in (folder / "out").iterdir()} != PREPARED:
            return f"HALF-WRITTEN: {os.listdir(folder / 'out')}"
        return unreadable(folder) or unlike_lvis_api(folder)

    return ["preprocess", "--dataset", "ds.yaml", "--out", "out"], f"{split} {done}", check


def changed(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    if rng.random() < 0.2:
        return spoiled(content, rng)
    (document,), done = mutated(json.loads(content), rng, rng.choice([1, 1, 2]))
    return as_json(document), done


def unreadable(folder: Path) -> str:
    """What training says of the items of a prepared dataset."""
    import gol.models  # noqa: F401  (registers the dataset)

    # isort: split
    from mmdet.datasets import build_dataset

    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    ]
    settings = {"type": "InstanceDataset", "pipeline": steps}
    try:
        for split in ("train", "val"):
            part = {"ann_file": str(folder / f"out/{split}.store"), "img_prefix": split}
            dataset = build_dataset({**settings, **part})
            if not sum(len(item["gt_bboxes"]) for item in dataset) and split == "train":
                return "UNREADABLE: no object"
    except Exception as error:
        return f"UNREADABLE: {type(error).__name__}: {str(error)[:300]}"
    return ""


def unlike_lvis_api(folder: Path) -> str:
    """How the scores of a prepared val split differ from lvis-api's."""
    val = json.loads((folder / "out/val.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in val["images"]}
    detections = []
    for number, a in enumerate(val["annotations"]):
        mask = a["segmentation"]
        if isinstance(mask, list):
            mask = hotcoco.mask.merge(hotcoco.mask.fr_py_objects(mask, *sizes[a["image_id"]]))
            mask = {"size": [*sizes[a["image_id"]]], "counts": mask["counts"].decode()}
        box = [a["bbox"][0] + number % 3, *a["bbox"][1:]]
        keys = {key: a[key] for key in ("image_id", "category_id")}
        detections.append({**keys, "bbox": box, "segmentation": mask, "score": 1 / (number + 2)})
    (folder / "found.json").write_text(json.dumps(detections))
    return unequal(folder / "out/val.json", folder / "found.json")


def unequal(truth: Path, found: Path) -> str:
    dataset, detections = json.loads(truth.read_bytes()), json.loads(found.read_bytes())
    result = evaluate(truth, found)
    if any(a["id"] == 0 for a in dataset["annotations"]) or not detections:
        return ""  # lvis-api counts an annotation with id 0 as missed, and fails without detections
    boxes = "bbox" in detections[0]
    for kind in ("segm", "bbox"):
        if kind not in result:
            continue
        try:
            theirs = lvis_api(dataset, detections, kind, keep_masks=not boxes)
        except Exception as error:
            return f"lvis-api fails: {type(error).__name__}"
        ours = flat(result, kind)
        differ = [k for k in ours if ours[k] != pytest.approx(theirs.get(k), abs=1e-9)]
        if differ:
            key = next((k for k in differ if CLASSWISE not in k), differ[0])
            return f"UNLIKE: {kind} {key}: {ours[key]} {theirs.get(key)}"
    return ""


def detections(base: Path, folder: Path, rng: random.Random) -> Case:
    """Changed detections, or changed ground truth."""
    drawn = np.random.default_rng(rng.randrange(2**32))
    truth = random_dataset(drawn, images=4, classes=5, size=(40, 90))
    found = random_detections(drawn, truth, false_positives=2, crowded=0)
    for entry in found if rng.random() < 0.2 else ():
        del entry["bbox"]
    paths = {"truth.json": json.dumps(truth).encode(), "found.json": json.dumps(found).encode()}
    name = rng.choice(["found.json", "found.json", "truth.json"])
    paths[name], done = changed(paths[name], rng)
    for path, content in paths.items():
        (folder / path).write_bytes(content)
    arguments = ["evaluate", "truth.json", "found.json", "--out", "scores.json"]
    return (
        arguments,
        f"{name} {done}",
        lambda: unequal(folder / "truth.json", folder / "found.json"),
    )


def configs(base: Path, folder: Path, rng: random.Random) -> Case:
    """A changed dataset file, pipeline file, or file of a finished run."""
    kind = rng.choice(["dataset", "dataset", "pipeline", "pipeline", "run"])
    if kind == "run":
        for path in filter(Path.is_file, (base / "run").rglob("*")):
            target = folder / path.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        name = rng.choice(["config.json", "train.json", "evaluation/gumbel.json", "metrics.jsonl"])
        path = folder / "run" / name
        change = spoiled if name == "metrics.jsonl" else changed
        content, done = change(path.read_bytes(), rng)
        path.write_bytes(content)
        return ["table", "run", "--out", "table"], f"{name} {done}", str
    content = PIPELINE if kind == "pipeline" else yaml.safe_load((base / "ds.yaml").read_text())
    (document,), done = mutated(content, rng)
    text = as_json(document, rng.choice([1500, 10**5]))  # more than C's stack holds
    if rng.random() < 0.3:
        text, done = spoiled(yaml.safe_dump(content).encode(), rng)
    (folder / "file.yaml").write_bytes(text)
    if kind == "pipeline":
        return ["plan", "file.yaml"], f"pipeline {done}", str
    arguments = [
        "config",
        "demo/gumbel",
        "--dataset",
        "file.yaml",
        "--data",
        str(base / "prepared"),
    ]
    return [*arguments, "--run", "run"], f"dataset {done}", str


PIPELINE = {
    "name": "mine",
    "dataset": "demo",
    "experiments": ["demo/gumbel", {"demo/gol@slow": {"set": {"optimizer.lr": 0.1}, "label": "x"}}],
    "set": {"runner.max_epochs": 2, "optimizer": {"lr": 0.01}},
    "seeds": 2,
    "tables": {"A": ["demo/gumbel"]},
    "figures": {"F": {"R50": {"Gumbel": "demo/gumbel"}}},
}


#: Parts of a resolved config whose keys may be changed.
FREE = ("model", "model", "data", "optimizer", "optimizer_config", "lr_config", "runner")


def overrides(base: Path, folder: Path, rng: random.Random) -> Case:
    """One or two settings, half of them plausible, the others of any key to any value."""
    own = str(base / "ds.yaml")
    resolved = load_experiment("demo/gumbel", {"dataset": own}, base / "prepared")
    config = resolved._cfg_dict.to_dict()
    settings = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        path, place = [], config
        while isinstance(place, dict) and place and (not path or rng.random() < 0.8):
            free = not path and rng.random() < 0.8  # of the others most are fixed
            path.append(rng.choice(FREE if free else list(place)))
            place = place[path[-1]]
        key = ".".join(path)
        if rng.random() < 0.05:
            key = rng.choice(["", ".", "a.b", "seed", "masks"])
        value = plausible(place, rng)
        if rng.random() < 0.3:
            (value,) = rng.choice([[rng.choice(VALUES)], mutated(place, rng)[0]])
        text = as_json(value).decode() if rng.random() < 0.7 else str(value)
        settings.append(f"{key}={text}")
    arguments = ["config", "demo/gumbel", "--dataset", own, "--data", str(base / "prepared")]
    return [*arguments, "--run", "run", "--set", *settings], f"{[s[:80] for s in settings]}", str


def plausible(value: Any, rng: random.Random) -> Any:
    """What a person might want instead of a setting's value; often the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value, value + 1, 2 * value])
    return value * rng.choice([0.5, 1, 1.1]) if isinstance(value, float) else value


KINDS = {
    "annotations": annotations,
    "detections": detections,
    "configs": configs,
    "overrides": overrides,
}
