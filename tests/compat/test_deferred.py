"""What is not loaded until it is used, and that it is then the real thing."""

import sys
import types

import fresh
import pytest

from gol.compat import deferred

HEAVY = (
    *("torch._dynamo", "torch.utils.cpp_extension", "torchvision.datasets", "torchvision.models"),
    *("matplotlib", "sklearn", "scipy"),
)
EAGER = {
    "imports": "import gol.compat.deferred as d; d.UNUSED = (); ",
    "optimizer": (
        "import contextlib, gol.compat.deferred as d; d.no_compiler = contextlib.nullcontext; "
    ),
}


def run(code):
    """Runs code in a process of its own; returns what it prints."""
    result = fresh.run(code)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded_after(code):
    """Which of ``HEAVY`` are in ``sys.modules`` after the code."""
    text = run(f"{code}\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])")
    return text.splitlines()[-1].split()


def test_the_plug_in_loads_nothing_that_is_not_used():
    assert loaded_after("import gol.models") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scipy", ""])  # scikit-learn would load SciPy too
def test_without_its_stand_in_each_is_loaded(name):
    """mmdet and torchvision still import it, or the stand-in can go."""
    kept = tuple(module for module in deferred.UNUSED if name and not module.startswith(name))
    code = f"import gol.compat.deferred as d; d.UNUSED = {kept}; import gol.models"
    assert loaded_after(code) == ([name] if name else list(HEAVY))


TRAIN = """
from gol.cli import main
assert main(["train", {run!r}, "--device", "cpu"]) == 0
assert main(["detect", {run!r}, "--device", "cpu", "--out", {run!r} + "/d.json"]) == 0
"""


@pytest.mark.slow
def test_training_and_detection_load_nothing_that_is_not_used(tiny_data, tmp_path):
    from gol.cli import main

    weights, folders = [], {"deferred": "", "eager": "".join(EAGER.values())}
    for name, prefix in folders.items():
        run = str(tmp_path / name)
        settings = ["runner.max_epochs=1", "gol.checkpoint_interval=1", "data.workers_per_gpu=0"]
        arguments = ["demo/gol", "--data", str(tiny_data), "--run", run, "--set", *settings]
        assert main(["config", *arguments]) == 0
        loaded = loaded_after(prefix + TRAIN.format(run=run))
        assert loaded == ([] if name == "deferred" else list(HEAVY))
        weights.append((tmp_path / name / "model.pth").read_bytes())
    assert weights[0] == weights[1]


OPTIMIZER = """
import torch
from gol.compat import deferred as d
weight = torch.nn.Parameter(torch.ones(3))
def step():
    (weight * torch.arange(3.0)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
with d.no_compiler():
    optimizer = torch.optim.{name}([weight], lr=0.5)
    step()
    optimizer.load_state_dict(optimizer.state_dict())
"""


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_an_optimizer_at_work_does_not_load_the_compiler(name):
    assert loaded_after(OPTIMIZER.format(name=name)) == []


@pytest.mark.slow
def test_an_optimizer_loads_the_compiler_by_itself():
    """Otherwise no_compiler can go."""
    assert "torch._dynamo" in loaded_after(EAGER["optimizer"] + OPTIMIZER.format(name="SGD"))


COMPILED = """
functions = [vars(torch.optim.Optimizer)[n].__wrapped__ for n in ("add_param_group", "zero_grad")]
assert not any("__dynamo_disable" in vars(function) for function in functions)
torch.compile(step, backend="eager")()
torch.testing.assert_close(weight.detach(), torch.tensor([1.0, 0.0, -1.0]))
assert functions[1].__dynamo_disable is not functions[1]  # the compiler's own mark
import torch._dynamo.utils
with d.no_compiler():
    step()
    assert type(torch._dynamo) is type(torch)
print(torch._dynamo.utils.counters["stats"]["calls_captured"])
"""


@pytest.mark.slow
def test_an_optimizer_can_be_compiled_after_it_worked_without():
    assert int(run(OPTIMIZER.format(name="SGD") + COMPILED)) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "import torch._dynamo.utils as u; assert u.counters is not None",
        "from torch._dynamo.utils import is_compile_supported; is_compile_supported('cpu')",
        "torch.compile(torch.sin, backend='eager')(torch.ones(2))",
    ],
)
def test_the_compiler_can_be_used_where_it_has_a_stand_in(use):
    code = OPTIMIZER.format(name="SGD") + f"    {use}\n    step()\n"
    assert loaded_after(code + "import torch._dynamo; torch._dynamo.config.verbose") == [
        "torch._dynamo"
    ]


# The real ones, through those who imported the stand-ins and by themselves.
USES = (
    """
import mmdet.models.dense_heads.paa_head as paa, numpy as np
values = np.array([[0.0], [0.1], [5.0], [5.1]])
labels = paa.skm.GaussianMixture(2, random_state=0).fit(values).predict(values)
assert labels[0] == labels[1] != labels[2] == labels[3]
import sklearn.mixture, sklearn.linear_model
assert sklearn.linear_model.LinearRegression().fit(values, [0, 1, 2, 3]).coef_.shape == (1,)
assert isinstance(paa.skm.GaussianMixture(2), sklearn.mixture.GaussianMixture)
""",
    """
import torch
from mmdet.core.bbox.assigners import HungarianAssigner
boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]])
corners = torch.tensor([[1.0, 1, 3, 3], [4, 4, 6, 6]])
meta = {"img_shape": (10, 10, 3)}
result = HungarianAssigner().assign(boxes, torch.zeros(2, 3), corners, torch.tensor([0, 1]), meta)
assert result.gt_inds.tolist() == [2, 1]
import scipy.optimize, scipy.stats
assert scipy.optimize.linear_sum_assignment([[1, 0], [0, 1]])[1].tolist() == [1, 0]
""",
    """
import numpy as np
from mmdet.core.visualization import imshow_det_bboxes
image, boxes = np.zeros((40, 40, 3), "uint8"), np.array([[5.0, 5, 30, 30, 0.9]])
drawn = imshow_det_bboxes(image, boxes, np.array([0]), class_names=["x"], show=False)
assert drawn.any()
import matplotlib.pyplot as plt
from matplotlib.patches import Polygon
assert isinstance(plt.gca().add_patch(Polygon([[0, 0], [1, 0], [1, 1]])), Polygon)
""",
    """
import torch, torchvision
features, rois = torch.rand(1, 2, 8, 8), torch.tensor([[0, 1.0, 1, 5, 5]])
roi_align = torchvision.ops.roi_align
for function in (torch.jit.script(roi_align), torch.compile(roi_align, backend="eager")):
    torch.testing.assert_close(function(features, rois, 3), roi_align(features, rois, 3))
import sys
module = sys.modules["torchvision.ops.roi_align"]
import torch._dynamo.utils
for device in ("cpu", "cuda", "mps"):
    assert module.is_compile_supported(device) == torch._dynamo.utils.is_compile_supported(device)
""",
    """
import torchvision
from mmcv.runner.checkpoint import get_torchvision_models
assert "resnet50" in get_torchvision_models()
assert type(torchvision.models.resnet18()).__module__ == "torchvision.models.resnet"
assert len(torchvision.datasets.FakeData(3)) == 3
import torchvision.models.detection as detection
assert torchvision.models.detection is detection
""",
    """
import setuptools
from mmcv.utils import CppExtension
assert isinstance(CppExtension("name", ["file.cpp"]), setuptools.Extension)
""",
)


@pytest.mark.slow
def test_the_real_ones_work_after_the_plug_in():
    assert loaded_after("\n".join(["import gol.models", *USES])) == list(HEAVY)


PAA = """
import torch, gol.models
from mmcv import ConfigDict
from mmdet.models import build_head
torch.manual_seed(0)
head = build_head(ConfigDict(
    type="PAAHead", num_classes=3, in_channels=8, feat_channels=32, stacked_convs=1, topk=9,
    anchor_generator=dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=2,
                          scales_per_octave=1, strides=[8]),
    bbox_coder=dict(type="DeltaXYWHBBoxCoder"), reg_decoded_bbox=True,
    loss_bbox=dict(type="GIoULoss"),
    train_cfg=dict(assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1,
                                 min_pos_iou=0, ignore_iof_thr=-1),
                   allowed_border=-1, pos_weight=-1, debug=False)))
boxes, labels = [torch.tensor([[4.0, 4, 30, 30], [30, 20, 60, 60]])], [torch.tensor([0, 2])]
meta = [{"img_shape": (64, 64, 3), "pad_shape": (64, 64, 3)}]
losses = head.loss(*head([torch.randn(1, 8, 8, 8)]), boxes, labels, meta)
print(*[f"{name} {value.item():.6f}" for name, value in losses.items()])
"""


@pytest.mark.slow
def test_mmdets_paa_head_trains_as_without_the_stand_ins():
    assert run(PAA) == run(EAGER["imports"] + PAA) != ""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``heavy`` with a module ``part``, both deferred."""
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy/__init__.py").write_text("")
    (tmp_path / "heavy/part.py").write_text("LIMIT = 7\ndef double(x):\n    return 2 * x\n")
    (tmp_path / "heavy/other.py").write_text("NAME = 'other'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(deferred, "UNUSED", ("heavy", "heavy.part", "absent_package"))
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


def test_a_function_and_a_module_from_a_stand_in(package):
    with deferred.deferred_imports():
        import heavy.part as early
        from heavy.part import double
    assert not any(name.startswith("heavy") for name in sys.modules)
    assert double(4) == 8
    import heavy.part as late

    assert type(late) is types.ModuleType and early.LIMIT == late.LIMIT == 7
    assert early.double is late.double


def test_a_stand_in_that_is_used_at_once_gives_way(package):
    with deferred.deferred_imports():
        from heavy.part import double

        assert double(4) == 8
        from heavy.part import LIMIT

        assert LIMIT == 7
    assert type(sys.modules["heavy.part"]) is types.ModuleType


def test_another_module_of_a_package_with_a_stand_in(package):
    with deferred.deferred_imports():
        import heavy.other

        assert heavy.other.NAME == "other" and type(heavy) is types.ModuleType
    assert sys.modules["heavy"] is heavy


def test_what_is_loaded_or_not_installed_is_left_alone(package):
    import heavy.part as real

    with deferred.deferred_imports():
        import heavy.part

        assert heavy.part is real
        with pytest.raises(ModuleNotFoundError, match="absent_package"):
            import absent_package  # noqa: F401


def test_an_error_leaves_no_stand_in(package):
    with pytest.raises(RuntimeError), deferred.deferred_imports():
        assert "heavy.part" in sys.modules
        raise RuntimeError
    assert "heavy" not in sys.modules and "heavy.part" not in sys.modules
