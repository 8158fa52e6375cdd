"""Images on the node's own disk: the same bytes, copied once, and nothing left behind."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from run_folders import bare_config

from gol.cluster.settings import Settings
from gol.cluster.staging import staged
from gol.cluster.tasks import Training
from gol.data.local import nearest, read_from
from gol.errors import UserError
from gol.files import write_json

FORKS = multiprocessing.get_context("fork")
NAMES = ["a.jpg", "deep/b.jpg", "deep/er/c.jpg"]


@pytest.fixture
def disk(tmp_path):
    """A folder on another disk than the test's."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def make_task(folder):
    """A training on a few files that take the place of images; one is missing."""
    for number, name in enumerate(NAMES):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1000 + number))
    images = [
        {"id": number, "file_name": name, "width": 9, "height": 9}
        for number, name in enumerate([*NAMES, "missing.jpg", "../annotations.json"])
    ]
    annotations = folder / "annotations.json"
    write_json(annotations, {"images": images, "annotations": [], "categories": []})
    config = bare_config(annotations)
    config["data"]["train"] = {"dataset": {**config["data"]["train"]}}
    config["data"]["train"]["dataset"]["img_prefix"] = str(folder / "images")
    write_json(folder / "run/config.json", config)
    return Training(folder / "run", "cpu")


@pytest.fixture
def task(tmp_path):
    return make_task(tmp_path)


def read(folder, name):
    """The bytes that training reads, and from where."""
    place = nearest(str(folder / "images"), name)
    return Path(place, name).read_bytes(), place


def assert_complete(folder, disk):
    for name in NAMES:
        content, place = read(folder, name)
        assert content == (folder / "images" / name).read_bytes() and place.startswith(str(disk))


def test_images_are_read_from_the_copy_which_goes_with_its_last_reader(
    task, tmp_path, disk, monkeypatch, capsys
):
    monkeypatch.setenv("SCRATCH", str(disk))
    with staged(task, "$SCRATCH/mine"):
        assert_complete(tmp_path, disk / "mine")
        for name in ("missing.jpg", "../annotations.json"):
            assert nearest(str(tmp_path / "images"), name) == str(tmp_path / "images")
    assert read(tmp_path, NAMES[0])[1] == str(tmp_path / "images")
    assert [path.name for path in disk.rglob("*")] == ["mine", f"gol-stage-{os.getuid()}"]
    assert capsys.readouterr().err == ""


def test_a_partial_or_damaged_copy_is_copied_again(task, tmp_path, disk):
    with staged(task, str(disk)):
        copies = [Path(read(tmp_path, name)[1], name) for name in NAMES]
        os.truncate(copies[0], 10)
        copies[1].write_bytes(bytes(copies[1].stat().st_size))
        copies[2].unlink()
        with staged(task, str(disk)):
            assert_complete(tmp_path, disk)
        assert all(path.exists() for path in copies)  # the first reader is still there


def test_validation_images_of_the_same_folder_leave_the_training_images_where_they_are(
    task, tmp_path, disk
):
    """LVIS has one folder for both splits."""
    annotations = tmp_path / "val.json"
    image = {"id": 0, "file_name": "val.jpg", "width": 9, "height": 9}
    write_json(annotations, {"images": [image], "annotations": [], "categories": []})
    (tmp_path / "images/val.jpg").write_bytes(b"validation")
    config = json.loads(task.run.config.read_text())
    images = str(tmp_path / "images")
    config["data"]["test"] = {"ann_file": str(annotations), "img_prefix": images}
    write_json(task.run.config, {**config, "gol": {**config["gol"], "validate_every": 1}})
    with staged(task, str(disk)):
        assert_complete(tmp_path, disk)
        content, place = read(tmp_path, "val.jpg")
        assert content == b"validation" and place.startswith(str(disk))
        with staged(task, str(disk)):  # a second task of this process
            pass
        assert_complete(tmp_path, disk)
    assert nearest(images, "val.jpg") == nearest(images, NAMES[0]) == images


def _use(task, place, folder, together, found):
    with staged(task, place):
        together.wait()
        assert_complete(folder, place)
        found.put(sorted(path.stat().st_ino for path in Path(place).rglob("*.jpg")))
        together.wait()


def test_several_processes_share_one_copy(task, tmp_path, disk):
    together, found = FORKS.Barrier(4), FORKS.Queue()
    arguments = (task, str(disk), tmp_path, together, found)
    processes = [FORKS.Process(target=_use, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    inodes = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(inodes[0]) == len(NAMES) and all(other == inodes[0] for other in inodes)
    assert not [*disk.rglob("*.jpg")]


def _die(task, place):
    with staged(task, place):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_has_left_is_removed_by_the_next(task, tmp_path, disk):
    killed = FORKS.Process(target=_die, args=(task, str(disk)))
    killed.start()
    killed.join()
    assert len([*disk.rglob("*.jpg")]) == len(NAMES)
    other = make_task(tmp_path / "other")
    with staged(other, str(disk)):
        assert_complete(tmp_path / "other", disk)
        assert len([*disk.rglob("*.jpg")]) == len(NAMES)
    assert not [*disk.rglob("*.jpg")]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("{same}", "they lie on the same disk as"),
        ("auto", "neither SLURM_TMPDIR nor TMPDIR is set here"),
        ("$SLURM_TMPDIR", "names a variable that is not set here"),
        ("{disk}/file/below", "Not a directory"),
        ("{disk}", "8796.1 GB are needed, but only"),
    ],
)
def test_what_cannot_be_copied_is_read_where_it_is(
    task, tmp_path, disk, monkeypatch, capsys, place, reason
):
    for name in ("SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    (disk / "file").write_text("")
    os.truncate(tmp_path / "images/a.jpg", 1 << 43)  # which takes no room on the disk
    with staged(task, place.format(same=tmp_path, disk=disk)):
        assert nearest(str(tmp_path / "images"), "deep/b.jpg") == str(tmp_path / "images")
    said = capsys.readouterr().err
    assert said.startswith(f"images are read from {tmp_path / 'images'}, not copied to this node: ")
    assert reason in said and said.count("\n") == 1
    assert not [*disk.rglob("*.jpg")]


def test_a_folder_of_somebody_else_is_not_trusted(task, tmp_path, disk, capsys):
    (disk / f"gol-stage-{os.getuid()}").symlink_to(tmp_path)
    with staged(task, str(disk)):
        pass
    assert "belongs to somebody else" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["scratch", "off"])
def test_a_place_that_depends_on_the_folder_is_refused(place):
    with pytest.raises(UserError, match=r"stage must be auto, /FOLDER or \$VARIABLE, not '"):
        Settings(stage=place)


def test_the_dataset_reads_the_copy_of_an_image(tiny_data, tmp_path):
    from gol.models import build_dataset

    config = {
        "type": "InstanceDataset",
        "ann_file": str(tiny_data / "val.store"),
        "img_prefix": str(tiny_data / "raw/val"),
        "pipeline": [{"type": "LoadImageFromFile"}],
    }
    dataset = build_dataset(config, {"test_mode": True})
    first, second = dataset[0], dataset[1]
    size = first["img"].shape
    alike = next(i for i in range(2, len(dataset)) if dataset[i]["img"].shape == size)
    shutil.copy(dataset[alike]["filename"], tmp_path / first["img_info"]["filename"])
    with read_from(tiny_data / "raw/val", tmp_path):
        assert (dataset[0]["img"] == dataset[alike]["img"]).all()
        assert (dataset[1]["img"] == second["img"]).all()
    assert (dataset[0]["img"] == first["img"]).all()
