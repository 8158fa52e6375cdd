"""Constructor arguments: the original's, the published class counts, and what is refused."""

import inspect

import pytest
import torch
from loss_oracles import C

from gol.errors import UserError
from gol.losses import EQL, LOSSES, ClassRelativeActivations, DropLoss, GumbelCE


@pytest.mark.parametrize(
    ("loss", "classes", "selected"),
    [
        (DropLoss(lambda_=0.0011, version="v1"), 1203, 815),
        (DropLoss(num_classes=1230), 1230, 915),
        (EQL(lambda_=0.0011, version="v1", use_classif="sigmoid"), 1203, 815),
        (EQL(num_classes=1230, use_sigmoid=True, loss_weight=1.0), 1230, 915),
    ],
)
def test_published_thresholds_select_the_published_numbers_of_classes(loss, classes, selected):
    assert int((loss.freq_info < loss.lambda_).sum()) == int(loss.rare.sum()) == selected
    assert loss.get_cls_channels(classes) == classes


def test_class_relative_takes_the_frequent_classes_of_lvis():
    assert int(ClassRelativeActivations().frequent.sum()) == 405
    assert int(ClassRelativeActivations(num_classes=1230).frequent.sum()) == 315
    original = ClassRelativeActivations(use_sigmoid=False, lvis_file="./idf_1204.csv", extra=1)
    assert original.get_cls_channels(1203) == 1204


def test_version_and_num_classes_must_agree_when_the_loss_is_used():
    """The original's own defaults (v0.5 with 1,203 classes) can be built but not used."""
    loss = DropLoss()
    with pytest.raises(UserError, match=r"1,203 classes.*1,230.*'v0_5'"):
        loss.get_cls_channels(1203)
    with pytest.raises(UserError, match="1,203 classes"):
        loss(torch.zeros(2, 1203), torch.tensor([0, 1203]))


@pytest.mark.parametrize("name", LOSSES.own)
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"mode": "fast"}, r"mode is 'fast'; allowed: paper, exact, clamped"),
        ({"reduction": "max"}, r"reduction is 'max'; allowed: none, mean, sum"),
        ({"num_classes": 5}, r"classes.json has 7 classes, num_classes=5"),
        ({"class_statistics": "absent.json"}, r"absent.json"),
    ],
)
def test_wrong_arguments_are_named(name, argument, message, statistics):
    arguments = {"num_classes": C, **argument}
    if "class_statistics" in inspect.signature(LOSSES[name]).parameters:
        arguments = {"class_statistics": statistics, **arguments}
    elif "mode" not in argument and "reduction" not in argument:
        pytest.skip("asks for no class statistics")
    with pytest.raises(UserError, match=message):
        LOSSES[name](**arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EQL(use_classif="cosine"), "allowed: gumbel, sigmoid, normal, cls_rel"),
        (lambda: DropLoss(use_classif="softmax"), "allowed: gumbel, sigmoid, normal, cls_rel"),
        (lambda: DropLoss(use_iif=True), "use_iif is True; allowed: False"),
        (lambda: DropLoss(version="openimage"), "'openimage'; allowed: v1, v0_5"),
        (lambda: ClassRelativeActivations(num_classes=80), "num_classes=80 needs class_stat"),
        (lambda: GumbelCE()(torch.zeros(1, 4), torch.tensor([0]), None, None, "max"), "'max'"),
    ],
)
def test_wrong_arguments_of_one_loss_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
