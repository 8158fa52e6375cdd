"""The workflow's rules `download` and `weights`, on files instead of the network."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from gol.files.digests import sha256

BIN = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path, root):
    """A copy of the project whose downloads are small files of this machine."""
    for name in ("workflow", "configs", "profiles", "gol"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "Snakefile", tmp_path)
    path = tmp_path / "configs/downloads.yaml"
    entries = yaml.safe_load(path.read_text())
    for name, members in {
        "train2017": {"train2017/1.jpg": b"1", "train2017/2.jpg": b"2"},
        "lvis_v1_val": {"lvis_v1_val.json": b"{}"},
    }.items():
        archive = tmp_path / "site" / f"{name}.zip"
        archive.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            for member, content in members.items():
                file.writestr(member, content)
        published = {"urls": [str(archive)], "sha256": sha256(archive)}
        entries[name] = {"makes": entries[name]["makes"], **published}
    entries["train2017"]["images"] = 2
    path.write_text(yaml.safe_dump(entries))
    backbone = yaml.safe_load((tmp_path / "configs/models/r50.yaml").read_text())
    (tmp_path / "site/weights.pth").write_bytes(b"weights")
    weights = tmp_path / "site/weights.pth"
    backbone["weights"] = {"url": str(weights), "sha256": sha256(weights)}
    (tmp_path / "configs/models/r50.yaml").write_text(yaml.safe_dump(backbone))
    return tmp_path


def snakemake(folder, *targets):
    environment = {**os.environ, "PYTHONPATH": str(folder), "TORCH_HOME": str(folder / "torch")}
    command = [BIN / "snakemake", "--rerun-triggers", "mtime", "--", *targets]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.slow
def test_files_and_weights_are_fetched_once(checkout):
    targets = (
        "data/coco/train2017.complete",
        "data/lvis_v1/annotations/lvis_v1_val.json",
        "results/weights/r50.txt",
    )
    snakemake(checkout, *targets)
    assert (checkout / "data/coco/train2017/2.jpg").read_bytes() == b"2"
    assert (checkout / targets[1]).read_bytes() == b"{}"
    cached = checkout / "torch/hub/checkpoints/weights.pth"
    assert (checkout / targets[2]).read_text() == f"{cached}\n"
    assert cached.read_bytes() == b"weights"
    assert "Nothing to be done" in snakemake(checkout, *targets)


@pytest.mark.slow
def test_what_is_there_is_not_touched(checkout):
    """A folder and a JSON that somebody put there by hand."""
    made = checkout / "data/coco/train2017"
    made.mkdir(parents=True)
    for name in "ab":
        (made / f"{name}.jpg").touch()
    annotations = checkout / "data/lvis_v1/annotations/lvis_v1_val.json"
    annotations.parent.mkdir(parents=True)
    annotations.write_text("mine")
    shutil.rmtree(checkout / "site")
    snakemake(checkout, "data/coco/train2017.complete", str(annotations.relative_to(checkout)))
    assert sorted(p.name for p in made.iterdir()) == ["a.jpg", "b.jpg"]
    assert annotations.read_text() == "mine"
