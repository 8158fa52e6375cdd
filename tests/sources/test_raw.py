"""Datasets from downloads: unpacked once, all or nothing; linked folders; what is there stays."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from fault_server import serve

from gol.cli import main
from gol.config.axes import axis_values
from gol.config.datasets import dataset_downloads
from gol.data.images import find_image
from gol.errors import UserError
from gol.sources import raw
from gol.sources.archive import unpack


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A small COCO and LVIS behind a server, and a dataset file that is made of them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gol.sources.download._PAUSE", 0.001)
    monkeypatch.chdir(tmp_path)
    images = {
        split: {f"{split}/{random.randrange(10**12):012d}.jpg": os.urandom(900) for _ in range(9)}
        for split in ("train2017", "val2017")
    }
    text = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
    with serve() as server:
        entries = {}
        for name, members, makes in (
            ("train2017", images["train2017"], "data/coco/train2017"),
            ("val2017", images["val2017"], "data/coco/val2017"),
            ("ann", {"ann.json": text}, "data/ann/ann.json"),
        ):
            content = make_zip(tmp_path / "z.zip", members).read_bytes()
            entries[name] = {
                "makes": makes,
                "urls": [server.add(f"{name}.zip", content, etag='"1"')],
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            if name != "ann":
                entries[name]["images"] = len(members)
        (tmp_path / "z.zip").unlink()
        dataset = axis_values("dataset")["lvis_v1"] | {"download": list(entries)}
        monkeypatch.setattr(raw, "downloads", lambda: entries)
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(dataset))
        server.entries, server.images, server.text = entries, images, text
        yield server


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.jpg")}


def test_a_dataset_is_fetched_and_unpacked_once(site, capsys):
    assert main(["download", "--dataset", "small.yaml"]) == 0
    assert tree(Path("data/coco")) == site.images["train2017"] | site.images["val2017"]
    assert Path("data/ann/ann.json").read_bytes() == site.text
    before = {p: p.stat().st_mtime_ns for p in Path("data").rglob("*") if p.is_file()}
    assert main(["download", "--dataset", "small.yaml"]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in Path("data").rglob("*") if p.is_file()}
    assert len(site.requests) == 3
    assert "data/coco/train2017: already there" in capsys.readouterr().err
    assert main(["download"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["there"] * 3


@pytest.mark.parametrize("dangling", [False, True])
def test_a_marker_without_its_folder_is_no_proof(site, dangling, tmp_path):
    raw.download(["val2017"])
    folder = Path("data/coco/val2017")
    shutil.rmtree(folder)
    if dangling:
        folder.symlink_to(tmp_path / "gone")
    assert not raw.is_there(site.entries["val2017"])
    raw.download(["val2017"])
    assert tree(folder).keys() == {name[8:] for name in site.images["val2017"]}


def test_archives_are_not_needed_once_unpacked(site):
    raw.download(["train2017"])
    Path("data/coco/train2017.zip").unlink()
    raw.download(["train2017"])
    assert len(site.requests) == 1


def test_an_archive_that_is_there_is_used(site):
    Path("data/coco").mkdir(parents=True)
    Path("data/coco/val2017.zip").write_bytes(site.files["val2017.zip"].content)
    raw.download(["val2017"])
    assert tree(Path("data/coco")) == site.images["val2017"] and not site.requests


def test_a_coco_folder_is_linked_and_checked(site, tmp_path):
    own = tmp_path / "own"
    for name, content in (site.images["train2017"] | site.images["val2017"]).items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).with_suffix(".JPG").write_bytes(content)
    (own / "val2017/._1.jpg").touch()  # of a Mac
    before = sorted(own.rglob("*"))
    for _ in range(2):
        assert main(["download", "--dataset", "small.yaml", "--coco", "own"]) == 0
    assert Path("data/coco/train2017").resolve() == own / "train2017"
    assert [path for path, _, _ in site.requests] == ["ann.zip"]
    assert sorted(own.rglob("*")) == before  # nothing is written into it


def test_a_coco_folder_that_lacks_images_is_refused(site, tmp_path, capsys):
    (tmp_path / "own/val2017").mkdir(parents=True)
    assert main(["download", "val2017", "--coco", "own"]) == 2
    assert "has 0 images, not 9" in capsys.readouterr().err
    assert main(["download", "train2017", "--coco", "own"]) == 2
    assert "own has no folder train2017" in capsys.readouterr().err
    assert not Path("data/coco/val2017.complete").exists() and not site.requests
    (tmp_path / "other/val2017").mkdir(parents=True)
    assert main(["download", "val2017", "--coco", "other"]) == 2
    assert "move it away first" in capsys.readouterr().err


def test_a_link_to_what_has_gone_is_replaced(site, tmp_path):
    Path("data/coco").mkdir(parents=True)
    Path("data/coco/val2017").symlink_to(tmp_path / "gone")
    for name, content in site.images["val2017"].items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(content)
    raw.download(["val2017"], tmp_path / "own")
    assert tree(Path("data/coco/val2017")).keys() == {n[8:] for n in site.images["val2017"]}


def test_too_small_a_disk_is_known_before_anything_is_asked(site, monkeypatch, capsys):
    usage = shutil.disk_usage(".")
    size = sum(entry["bytes"] for entry in site.entries.values())
    monkeypatch.setattr("gol.files.shutil.disk_usage", lambda _: usage._replace(free=2 * size - 1))
    assert main(["download", "--dataset", "small.yaml"]) == 2
    assert "are free" in capsys.readouterr().err
    assert not site.requests and not Path("data").exists()


def test_wrong_names_are_one_line(site, capsys):
    assert main(["download", "train2018"]) == 2
    assert (
        "unknown download 'train2018'; did you mean 'train2017'? allowed: train2017, "
        in capsys.readouterr().err
    )
    assert main(["download", "--dataset", "demo"]) == 2
    assert "no key 'download'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "other/x", "a/..\\..\\evil", "A/x"]
)
def test_members_outside_the_folder_are_refused(tmp_path, name):
    archive = make_zip(tmp_path / "z.zip", {"a/1": b"x", name: b"y"})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"z\.zip holds .*, which is not a"):
        unpack(archive, tmp_path / "out" / "a")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".a.lock", "out", "z.zip"]


def test_a_damaged_archive_leaves_nothing(tmp_path):
    content = os.urandom(20000)
    archive = make_zip(tmp_path / "z.zip", {"a/1": b"x" * 5000, "a/2": content})
    data = bytearray(archive.read_bytes())
    data[data.index(content[:50]) + 9000] ^= 1
    for broken in (bytes(data), bytes(data[:-40]), b"", b"no zip"):
        archive.write_bytes(broken)
        with pytest.raises(UserError, match=r"not an? (intact )?zip archive"):
            unpack(archive, tmp_path / "a")
        assert sorted(p.name for p in tmp_path.iterdir()) == [".a.lock", "z.zip"]
    make_zip(archive, {"a/": b""})
    with pytest.raises(UserError, match="does not hold a"):
        unpack(archive, tmp_path / "a")
    with pytest.raises(UserError, match="is missing"):
        unpack(tmp_path / "none.zip", tmp_path / "a")


def test_an_unpacking_that_was_killed_begins_again(tmp_path):
    members = {f"a/{i}.jpg": os.urandom(20000) for i in range(2000)}
    archive = make_zip(tmp_path / "z.zip", members)
    code = "import sys; from gol.sources.archive import unpack; unpack(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, str(archive), str(tmp_path / "a")])
    half = tmp_path / ".a.unpacking" / "a"
    while not (half.is_dir() and len(os.listdir(half)) > 20):
        assert process.poll() is None, "unpacked before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert half.exists() and not (tmp_path / "a").exists()
    (half / "foreign.jpg").write_bytes(b"of an older archive")
    unpack(archive, tmp_path / "a")
    assert tree(tmp_path / "a") == {name[2:]: content for name, content in members.items()}
    assert not half.parent.exists()


def test_every_file_has_its_size_and_hash_where_they_are_published():
    for name, entry in raw.downloads().items():
        archives = {url.rsplit("/", 1)[1].removesuffix(".zip") for url in entry["urls"]}
        assert archives == {Path(entry["makes"]).name}
        if "v0.5" in name:  # nobody published any
            assert not {"bytes", "sha256"} & entry.keys()
        else:
            assert re.fullmatch("[0-9a-f]{64}", entry["sha256"]) and entry["bytes"] > 10**7


@pytest.mark.parametrize("dataset", ["lvis_v1", "lvis_v0_5"])
def test_a_dataset_s_files_are_what_its_downloads_make(dataset):
    definition = axis_values("dataset")[dataset]
    made = {raw.downloads()[name]["makes"] for name in dataset_downloads(dataset)}
    for split in ("train", "val"):
        made.remove(definition[split]["annotations"])
        assert definition[split]["images"] == "data/coco"
    assert made == {"data/coco/train2017", "data/coco/val2017"}


@pytest.mark.parametrize(
    "image",
    [  # as LVIS v1 and v0.5 write them; v0.5 names the file of COCO 2014
        {"coco_url": "http://images.cocodataset.org/train2017/000000397133.jpg"},
        {
            "coco_url": "http://images.cocodataset.org/train2017/000000397133.jpg",
            "file_name": "COCO_val2014_000000397133.jpg",
        },
    ],
)
def test_images_of_the_val_split_are_found_in_train2017(tmp_path, image):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "train2017").mkdir()
    assert find_image(image, tmp_path) is None
    (tmp_path / "train2017/000000397133.jpg").touch()
    assert find_image(image, tmp_path) == "train2017/000000397133.jpg"
