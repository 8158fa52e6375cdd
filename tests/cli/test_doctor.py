"""What `gol doctor` finds: one line a check, and what to do."""

import json
import random
import shutil
import stat
import subprocess
import sys

import pytest
import yaml

from gol.cli import main
from gol.cli.doctor import _disk, _gpus, _operators, _slurm, _store, diagnose
from gol.config.axes import axis_values
from gol.data.sample import sample_images


def write(path, images, extra=""):
    """An annotation file; ``extra`` goes before the images, as LVIS and COCO differ in that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{{extra}"images": {json.dumps(images)}, "categories": []}}')
    return path


def entries(count, folders=("train2017", "val2017")):
    rng = random.Random()
    numbers = rng.sample(range(10**12), count)
    return [
        {
            "id": number,
            "coco_url": f"http://images.cocodataset.org/{folder}/{number:012d}.jpg",
            "neg_category_ids": [rng.randrange(1200) for _ in range(rng.randrange(9))],
            "width": 640,
        }
        for number, folder in zip(numbers, rng.choices(folders, k=count), strict=True)
    ]


@pytest.fixture
def lvis(tmp_path, monkeypatch):
    """An LVIS of empty images, whose val split uses both COCO folders, and its dataset file."""
    monkeypatch.chdir(tmp_path)
    images = {"train": entries(300, ("train2017",)), "val": entries(500)}
    dataset = axis_values("dataset")["lvis_v1"]
    for split in images:
        write(
            tmp_path / dataset[split]["annotations"], images[split], '"annotations": [{"a": {}}],'
        )
        for image in images[split]:
            path = tmp_path / "data/coco" / "/".join(image["coco_url"].split("/")[-2:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def data_lines(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.split()[1] == "data"]


def test_a_whole_dataset_is_ok(lvis, capsys):
    code = main(["doctor", "--dataset", "lvis_v1", "--store", str(lvis / "none.db")])
    train, val = data_lines(capsys)
    assert train.startswith("ok") and "in data/coco/train2017" in train
    assert val.startswith("ok") and " in data/coco/train2017, " in val and "val2017" in val
    assert code in (0, 1)  # this machine's own troubles


@pytest.mark.parametrize("gone", ["train2017", "val2017"])
def test_missing_images_are_named_with_what_to_do(lvis, capsys, gone):
    for path in (lvis / "data/coco" / gone).iterdir():
        path.unlink()
    assert main(["doctor", "--dataset", "lvis_v1"]) == 1
    line = data_lines(capsys)[1]
    assert line.startswith("missing") and f"e.g. {gone}/" in line
    assert "sampled images are not in data/coco" in line
    assert line.endswith("`gol download --dataset lvis_v1` fetches it")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no data/lvis_v1/annotations/lvis_v1_val.json: `gol download"),
        ("", "has no list of images, or is cut off"),
        ('{"images": [], "annotations": []}', "names no images"),
        ('{"images": [{"coco_url": "http://x/train2017/1.jpg"}, {"coco_u', "is cut off"),
        ('{"images": [{"coco_url": "http://x/train2017/1.jpg"', "is cut off"),
        ('{"images": [{"coco_url": "http://x/train2017/1.jpg"}, {"coco_u}', "is cut off or broken"),
        ('{"images": [{"coco_url": "http://x/train2017/1.jpg"}, 7]}', "is not an object"),
        ('{"annotations": [{"id": 1, "images": [1, 2]}]}', "has no list of images"),
        (
            '{"images": [{"id": 1, "file_name": NaN}]}',
            "e.g. an image without file_name and coco_url",
        ),
        ('{"images": [{"a": ' + "[" * 5000 + "]" * 5000 + "}]}", "is nested too deeply"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "broken in its list of images"),
    ],
)
def test_missing_annotations_are_named_with_what_to_do(lvis, capsys, content, message):
    path = lvis / "data/lvis_v1/annotations/lvis_v1_val.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert main(["doctor", "--dataset", "lvis_v1"]) == 1
    train, val = data_lines(capsys)
    assert train.startswith("ok") and val.startswith("missing") and message in val


def test_a_dataset_of_one_s_own_and_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = axis_values("dataset")["own"]
    own["train"]["annotations"] = str(write(tmp_path / "t.json", [{"file_name": "a/b.png"}]))
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    assert main(["doctor", "--dataset", "own.yaml"]) == 1
    train, val = data_lines(capsys)
    assert "1 of 1 sampled images are not in data/own/train, e.g. a/b.png: see the data" in train
    assert "no data/own/val.json" in val
    assert [c.status for c in diagnose("demo") if c.name == "data"] == ["ok"]
    assert main(["doctor", "--dataset", "lvis_v2"]) == 2
    assert "unknown dataset 'lvis_v2'; did you mean 'lvis_v1'? allowed: " in capsys.readouterr().err


def test_a_disk_too_small_for_the_downloads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=41 * 10**9))
    assert _disk("lvis_v1").text.startswith(f"{tmp_path}: 41.1 GB are needed, but only 41.0 GB")
    assert _disk("demo").status == _disk(None).status == "ok"


def test_the_sample_comes_from_all_over_the_list(tmp_path):
    images = entries(5000)
    path = write(tmp_path / "a.json", images, '"annotations": [{"id": 1, "images": [2]}], ')
    found = sample_images(path, 300)
    known = {image["id"]: image for image in images}
    assert all(known[image["id"]] == image for image in found)
    assert len({image["id"] for image in found}) == 300
    positions = [list(known).index(image["id"]) for image in found]
    assert min(positions) < 250 and max(positions) > 4750
    assert 2000 < sum(positions) / 300 < 3000  # 2500 ± 83
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps({"images": images[:20]}, indent=2) + "\n")
    assert sample_images(pretty, 20) == sample_images(pretty, 400) == images[:20]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_export_with_objects_within_its_images_is_ok(tmp_path, monkeypatch, capsys, mark):
    """Braces, brackets and "images" within an entry; NaN for what pandas missed; a BOM."""
    monkeypatch.chdir(tmp_path)
    own = axis_values("dataset")["own"]
    for split in ("train", "val"):
        folder = tmp_path / own[split]["images"]
        folder.mkdir(parents=True)
        images = [
            {
                "id": number,
                "file_name": f"ü {number}.png",
                "extra": {"name": "} ] \\ {", "user": {"images": [{}], "tags": [["x"]]}},
                "coco_url": float("nan"),
            }
            for number in range(9)
        ]
        for image in images:
            (folder / image["file_name"]).touch()
        text = {"info": {"note": '"images": [{'}, "images": images, "annotations": []}
        ascii_only = split == "train"
        path = tmp_path / own[split]["annotations"]
        path.write_text(mark + json.dumps(text, ensure_ascii=ascii_only), encoding="utf-8")
    main(["doctor", "--dataset", "own"])
    assert [line.split()[0] for line in data_lines(capsys)] == ["ok", "ok"]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """LVIS's order: the images come after 120 MB of annotations."""
    path = tmp_path / "large.json"
    with open(path, "w", encoding="utf-8") as file:
        annotation = json.dumps({"segmentation": [[1.25] * 50_000]})
        file.write('{"annotations": [' + ", ".join([annotation] * 400))
        file.write('], "images": ' + json.dumps(entries(3000)) + "}")
    assert path.stat().st_size > 115e6
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from gol.data.sample import sample_images\n"
        "memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = memory(); assert len(sample_images(Path(sys.argv[1]), 200)) == 200\n"
        "print((memory() - before) / 1000)"
    )
    command = [sys.executable, "-c", code, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 80  # MB: two blocks of 17, the entries, Python's decoder


def test_operators_are_run_and_a_broken_one_is_seen(monkeypatch):
    assert _operators().status == "ok"
    import mmcv.ops

    monkeypatch.setattr(mmcv.ops, "roi_align", lambda *_: 1 / 0)
    assert _operators()[::2] == ("missing", "mmcv does not run: division by zero")
    monkeypatch.setattr(mmcv.ops, "roi_align", lambda images, *_: 2 * images)
    assert "gives 2.0" in _operators().text


def program(folder, name, text):
    """A program on the PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_slurm_client(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path, "sbatch", "exit 1")
    for text, status, part in (
        ('echo "gpu* up 2 nodes"; echo "urgent up 2 nodes"', "ok", "gpu* up 2 nodes; urgent up"),
        ("echo 'slurm_load_partitions: Unable to contact' >&2; exit 1", "missing", "to contact"),
        ("sleep 5", "missing", "no answer in 0.2 s"),
    ):
        program(tmp_path, "sinfo", text)
        monkeypatch.setattr("gol.cli.doctor._SLURM_SECONDS", 0.2 if "sleep" in text else 10)
        check = _slurm()
        assert check.status == status and part in check.text
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert _slurm().status == "note"


def test_gpus(tmp_path, monkeypatch):
    import torch

    if torch.cuda.device_count():
        assert all(check.status == "ok" for check in _gpus())
        return
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [check.status for check in _gpus()] == ["note"]
    program(tmp_path, "nvidia-smi", "exit 0")
    (check,) = _gpus()
    assert check.status == "missing" and "sees no GPU" in check.text


def test_store(tmp_path, empty_store):
    path = tmp_path / "mlflow.db"
    assert _store(str(path)).status == "note" and not path.exists()
    path.write_bytes(empty_store)
    assert main(["store", "--store", str(path)]) == 0
    assert _store(str(path)).text.endswith("mlflow.db: 1 experiment")
    path.write_bytes(b"no database" * 100)
    check = _store(str(path))
    assert check.status == "missing" and "\n" not in check.text
    assert _store("http://127.0.0.1:9/").status == "missing"


@pytest.mark.slow
def test_a_healthy_machine_is_code_0(tmp_path, monkeypatch):
    """In a process of its own: nothing of this one's imports and patches helps."""
    monkeypatch.setenv("PATH", str(tmp_path))
    command = [sys.executable, "-m", "gol", "doctor", "--dataset", "demo"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    bad = [line for line in result.stdout.splitlines() if line.startswith("missing")]
    assert (result.returncode, bad) == (0, []), result.stderr
    assert not list(tmp_path.iterdir())
