"""The built wheel in empty environments: its base with another torch, and its extras."""

import json
import re
from importlib.metadata import version

import pytest

import gol

pytestmark = pytest.mark.slow

INSTALLED = """
import json
from importlib.metadata import distributions
names = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
print(json.dumps(names))
"""
LIGHT = """
import sys
import gol
assert "torch" not in sys.modules and "numpy" not in sys.modules
import torch
before = set(sys.modules)
gol.losses, gol.activations, gol.gumbel_cross_entropy
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(torch.__version__, gol.__file__, sorted(new - set(sys.stdlib_module_names)))
"""
DETECTOR = """
import gol
config = gol.load_experiment("activations/gumbel/gumbel_r50_4x4_1x")
config.gol.weights = None  # nothing is downloaded here
detector = gol.build_detector(config)
print(type(detector).__name__, type(detector.roi_head.bbox_head.loss_cls).__name__)
"""


def installed(environment):
    return json.loads(environment.run("python", "-c", INSTALLED))


def prepare(environment, tiny_data, run="run"):
    """A run of one epoch, by the installed command."""
    sets = ["--set", "runner.max_epochs=1"]
    environment.run("gol", "config", "demo/gumbel", "--data", tiny_data, *sets, "--run", run)


@pytest.fixture(scope="module")
def base(install):
    """Base of the wheel, with a torch that is not the one of constraints.txt, and pytest."""
    return install("", "torch==2.13.0", f"pytest=={version('pytest')}")


def test_the_base_is_torch_and_numpy(base, root):
    names = installed(base)
    assert names["torch"].startswith("2.13.0") and "numpy" in names
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (root / "constraints.txt").read_text(), re.M))
    assert not names["torch"].startswith(pinned["torch"])
    for name in ("mmdet", "mmcv-full", "torchvision", "pyyaml", "matplotlib", "mlflow", "lvis"):
        assert name in pinned and name not in names


def test_the_base_imports_nothing_else(base):
    torch_version, file, others = base.run("python", "-W", "error", "-c", LIGHT).split(maxsplit=2)
    assert torch_version.startswith("2.13.0") and str(base.bin.parent) in file
    assert others.strip() == "['gol']"


def test_the_losses_agree_with_their_oracles_on_the_base(base, root):
    """The losses' own tests, float64 formulas and all, against the installed package."""
    arguments = ["-q", "-p", "no:cacheprovider", "--ignore", root / "tests/losses/test_parity.py"]
    # -P: neither this folder nor the project's is searched for the package.
    text = base.run("python", "-P", "-m", "pytest", *arguments, root / "tests/losses")
    line = text.strip().splitlines()[-1].partition(" in ")[0]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", line)}
    assert counts["passed"] > 100 and counts.keys() <= {"passed", "skipped", "warnings"}


def test_what_the_base_lacks_is_one_line(base):
    assert "usage: gol" in base.run("gol", "--help")
    needs = {
        ("experiments",): "detection",
        ("train", "run"): "detection",
        ("evaluate", "a.json", "b.json", "--out", "c.json"): "detection",
        ("store", "--store", "x.db"): "all",
    }
    for arguments, extra in needs.items():
        (line,) = base.run("gol", *arguments, code=2).splitlines()
        assert line.startswith(f"gol {arguments[0]}: error: needs "), line
        assert f"pip install '.[{extra}]' in the checkout" in line
    assert not list(base.folder.iterdir())


def test_detection_without_the_pipeline(install, root, tiny_data):
    detection = install("[detection]", "--constraints", root / "constraints.txt")
    assert not {"mlflow", "snakemake", "submitit", "lvis"} & set(installed(detection))
    prepare(detection, tiny_data)
    assert "iterations in" in detection.run("gol", "train", "run")
    prepare(detection, tiny_data, "another")  # a finished run needs no job
    for verb, *arguments in (["launch", "another"], ["store", "--store", "mlflow.db"]):
        line = detection.run("gol", verb, *arguments, code=2).splitlines()[-1]
        assert line.startswith(f"gol {verb}: error: needs ") and "pip install '.[all]'" in line
    assert not (detection.folder / "mlflow.db").exists()


def test_all_extras_into_an_empty_environment(install, root, tiny_data):
    """Exactly the versions of constraints.txt, and every step runs without a checkout."""
    everything = install("[all]", "--constraints", root / "constraints.txt")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (root / "constraints.txt").read_text(), re.M))
    found = installed(everything)
    assert found.pop("gol") == gol.__version__
    assert {name: number.partition("+")[0] for name, number in found.items()} == {
        name: pins[name] for name in found
    }
    assert "lvis" not in found and "opencv-python" not in found

    listed = everything.run("gol", "experiments").splitlines()
    assert [line.split()[0] for line in listed] == list(gol.experiments())
    assert everything.run("python", "-c", DETECTOR).split() == ["MaskRCNN", "GumbelCE"]
    demo = (root / "configs/datasets/demo.yaml").read_text()
    (everything.folder / "small.yaml").write_text(demo.replace("images: 700", "images: 50"))
    everything.run("gol", "demo", "--dataset", "small.yaml", "--out", "data/raw")
    prepared = everything.run("gol", "preprocess", "--dataset", "small.yaml", "--out", "data")
    assert "50 images" in prepared
    prepare(everything, tiny_data)
    assert "iterations in" in everything.run("gol", "launch", "run")
    everything.run("gol", "detect", "run", "--out", "detections.json")
    scores = everything.run(
        "gol", "evaluate", tiny_data / "val.json", "detections.json", "--out", "scores.json"
    )
    assert "AP" in scores
    everything.run("gol", "store", "--store", "mlflow.db")
    assert (everything.folder / "mlflow.db").is_file()
