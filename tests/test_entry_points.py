"""Losses and activations of installed packages: a real tiny distribution on ``sys.path``."""

import os
import subprocess
import sys

import pytest
import torch
from tiny_package import MODULE, install

from gol.activations import ACTIVATIONS, Activation
from gol.config.resolve import read_config
from gol.entry_points import Registry
from gol.errors import UserError
from gol.losses import LOSSES, ClassificationLoss, GumbelCE


def run(folder, *command):
    """A Python process that finds the packages in the folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True
    )


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Installs a package in this process; returns a registry that has not looked yet."""
    monkeypatch.syspath_prepend(tmp_path)

    def registry(*arguments, group="gol.losses", **settings):
        install(tmp_path, *arguments, **settings)
        if group == "gol.losses":
            return Registry(group, LOSSES.own, ClassificationLoss)
        return Registry(group, ACTIVATIONS.own, Activation, instances=True)

    yield registry
    for name in [name for name in sys.modules if name.startswith("tiny_loss")]:
        del sys.modules[name]


def test_a_loss_is_found_by_name_and_imported_when_asked_for(registry):
    losses = registry()
    assert list(losses) == [*LOSSES.own, "TinyLoss"] and len(losses) == len(LOSSES.own) + 1
    assert "TinyLoss" in losses and "GumbelCE" in losses and "Tiny" not in losses
    assert losses["GumbelCE"] is GumbelCE and "tiny_loss" not in sys.modules
    loss = losses["TinyLoss"](num_classes=2)
    assert type(loss) is sys.modules["tiny_loss"].TinyLoss is losses["TinyLoss"]
    expected = 5 * torch.log(torch.tensor(2.0)) / 2
    assert torch.isclose(loss(torch.zeros(2, 3), torch.tensor([0, 2])), 6 * expected / 5 / 3)
    with pytest.raises(KeyError):
        losses["Tiny"]


def test_an_activation_is_an_instance(registry):
    activations = registry(group="gol.activations")
    assert list(activations) == [*ACTIVATIONS.own, "Steep"]
    steep = activations["Steep"]
    assert steep is activations["Steep"] and isinstance(steep, Activation)
    assert steep.probability(torch.tensor([steep.bias(0.25)])).item() == pytest.approx(0.25)


def test_without_packages_there_are_ours():
    found = Registry("gol.nobody", {"a": 1}, object)
    assert list(found) == ["a"] and len(found) == 1 and "b" not in found


@pytest.mark.parametrize(
    ("entries", "module", "message"),
    [
        ({"GumbelCE": "tiny_loss:TinyLoss"}, MODULE, "gol has a GumbelCE of its own"),
        ({"TinyLoss": "tiny_loss:TinyLoss"}, "import absent_module", "No module named 'absent_mod"),
        ({"TinyLoss": "tiny_loss:TinyLoss"}, "def x(:", "cannot import tiny_loss:TinyLoss: Syntax"),
        ({"TinyLoss": "tiny_loss:TinyLoss"}, "raise OSError('disk')", "OSError: disk"),
        ({"TinyLoss": "tiny_loss:Absent"}, MODULE, "AttributeError: module 'tiny_loss' has no"),
        ({"Other": "tiny_loss:TinyLoss"}, MODULE, "must be a gol.losses.base.ClassificationLoss"),
        ({"Steep": "tiny_loss:Steep"}, MODULE, "must be a gol.losses.base.ClassificationLoss of"),
        ({"torch": "tiny_loss:torch"}, MODULE, "tiny_loss:torch must be a gol.losses.base."),
    ],
)
def test_what_is_wrong_is_said_in_one_line_that_names_the_package(
    registry, entries, module, message
):
    losses = registry({"gol.losses": entries}, module=module)
    (name,) = entries
    with pytest.raises(UserError, match=message) as caught:
        losses[next(iter(losses.others))]
    assert str(caught.value).startswith(
        f"entry point {name} in group gol.losses of package tiny-loss: "
    )


def test_two_packages_must_not_have_a_loss_of_one_name(registry):
    registry()
    losses = registry({"gol.losses": {"TinyLoss": "tiny_loss_2:TinyLoss"}}, name="tiny-loss-2")
    with pytest.raises(UserError, match=r"package tiny-loss.*package tiny-loss.* is there too"):
        "TinyLoss" in losses  # noqa: B015


LIGHT = """
import sys, gol
assert "torch" not in sys.modules
{first}
assert gol.losses.LOSSES["GumbelCE"] is gol.losses.GumbelCE
assert ("tiny_loss" in sys.modules) == {imported}
assert gol.losses.LOSSES["TinyLoss"] is sys.modules["tiny_loss"].TinyLoss
"""


@pytest.mark.parametrize("first", ["", "import tiny_loss"])
def test_the_package_may_import_gol_and_gol_stays_light(first, tmp_path):
    code = LIGHT.format(first=first, imported=bool(first))
    result = run(install(tmp_path), "-c", code)
    assert result.returncode == 0, result.stderr


MMDET = """
import sys, gol.models
from gol.models import set_scoring
from mmdet.models import build_head, build_loss
assert "tiny_loss" not in sys.modules
head = build_head(dict(type="Shared2FCBBoxHead", num_classes=5, in_channels=2, fc_out_channels=4,
    loss_cls=dict(type="TinyLoss", num_classes=5, loss_weight=2.0)))
assert type(head.loss_cls) is sys.modules["tiny_loss"].TinyLoss and head.fc_cls.out_features == 6
class Detector: roi_head = type("Head", (), {"bbox_head": head})
set_scoring(Detector, "TinyLoss")
assert "get_activation" not in vars(head.loss_cls)
head.loss_cls = build_loss(dict(type="CrossEntropyLoss"))
set_scoring(Detector, "Steep")
assert head.loss_cls.get_activation.__self__ is gol.activations.ACTIVATIONS["Steep"]
"""


@pytest.mark.slow
def test_mmdet_builds_the_loss(tmp_path):
    result = run(install(tmp_path), "-c", MMDET)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_a_name_of_mmdets_own_is_refused(tmp_path):
    """Otherwise somebody's FocalLoss would replace mmdet's in every config."""
    entries = {"gol.losses": {"FocalLoss": "tiny_loss:FocalLoss"}}
    result = run(install(tmp_path, entries), "-c", "import gol.models")
    assert result.returncode == 1
    assert "FocalLoss of an installed package: mmdet has its own" in result.stderr.split("\n")[-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("EQL", MODULE, "entry point EQL in group gol.losses of package tiny-loss: gol has"),
        ("TinyLoss", "raise OSError('disk')", "package tiny-loss: cannot import tiny_loss:TinyL"),
    ],
)
def test_the_command_line_ends_in_one_line(name, module, message, demo_data, tmp_path):
    entries = {"gol.losses": {name: f"tiny_loss:{name}"}}
    package = install(tmp_path / "package", entries, module=module)
    command = ["-m", "gol", "config", "demo/gumbel", "--data", demo_data]
    result = run(package, *command, "--run", tmp_path / "run", "--set", f"classifier={name}")
    assert result.returncode == 2 and message in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "run").exists()
    if name == "TinyLoss":  # in nobody's way until it is used
        assert run(package, *command, "--run", tmp_path / "run").returncode == 0


@pytest.mark.slow
def test_a_training_and_detection_with_the_loss(tiny_data, tmp_path):
    package, folder = install(tmp_path / "package"), tmp_path / "run"
    settings = ["classifier=TinyLoss", "runner.max_epochs=1", "data.workers_per_gpu=0"]
    commands = [
        ["config", "demo/gumbel", "--data", tiny_data, "--run", folder, "--set", *settings],
        ["train", folder, "--device", "cpu"],
        ["detect", folder, "--device", "cpu", "--out", folder / "d.json"],
        ["evaluate", tiny_data / "val.json", folder / "d.json", "--out", folder / "s.json"],
    ]
    for command in commands:
        result = run(package, "-m", "gol", *command)
        assert result.returncode == 0, result.stderr
    config = read_config(folder)  # this process has no such package
    head = config["model"]["roi_head"]["bbox_head"]
    assert head["loss_cls"] == {"type": "TinyLoss", "num_classes": 40}
    assert head["init_cfg"]["bias"] == -4.5 and config["gol"]["scorings"] == ["TinyLoss"]


@pytest.mark.slow
@pytest.mark.parametrize("tests", ["losses/test_every_loss.py", "test_activations.py"])
@pytest.mark.parametrize("broken", [False, True])
def test_the_tests_of_ours_run_on_it(tests, broken, root, tmp_path):
    """CONTRIBUTING names the commands."""
    module = MODULE.replace("full_precision(", "(") if broken else MODULE
    arguments = ["-q", "-p", "no:cacheprovider", root / "tests" / tests, "-k", "TinyLoss or Steep"]
    result = run(install(tmp_path, module=module), "-m", "pytest", *arguments)
    assert result.returncode == broken, result.stdout[-3000:]
    assert "passed" in result.stdout
