"""Training that starts from a whole detector: what is taken, to where, and what is refused."""

import pytest
import torch
from torch.nn.functional import logsigmoid

import gol
from gol.activations import ACTIVATIONS
from gol.cli import main
from gol.config.resolve import fingerprint
from gol.data.store import AnnotationStore
from gol.errors import UserError
from gol.models.init import compare, load_init

PER_CLASS = {
    "model.roi_head.bbox_head.reg_class_agnostic": False,
    "model.roi_head.mask_head.class_agnostic": False,
}
HEAD, MASK = "roi_head.bbox_head", "roi_head.mask_head"


@pytest.fixture(scope="module")
def zoo(demo_data, tmp_path_factory):
    """A detector in the form of mmdet's zoo: its state dict, its classes, and its file."""
    state = gol.build_detector(
        gol.load_experiment("demo/softmax", PER_CLASS, demo_data)
    ).state_dict()
    state = {k: torch.rand_like(v) + 0.5 if v.is_floating_point() else v for k, v in state.items()}
    classes = [c["name"] for c in AnnotationStore.open(demo_data / "train.store").categories]
    classes = [name.upper().replace("_", " ") for name in reversed(classes)]
    classes[3] = "potato"  # so one of the model's has no rows
    path = tmp_path_factory.mktemp("zoo") / "zoo.pth"
    torch.save({"meta": {"CLASSES": tuple(classes)}, "state_dict": state}, path)
    return state, classes, path


def mine(demo_data, name, init):
    """The detector of an experiment that starts from a file, and the model's classes."""
    config = gol.load_experiment(f"demo/{name}", {**PER_CLASS, "init": str(init)}, demo_data)
    return config, gol.build_detector(config).state_dict()


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "gumbel", "gol"])
def test_rows_go_to_the_class_of_their_name(name, zoo, demo_data):
    """Not to the one of their number; the file lists the classes in the reverse order."""
    state, classes, path = zoo
    _, found = mine(demo_data, name, path)
    count, lost = len(classes), len(classes) - 1 - 3
    for layer, rows in ((f"{HEAD}.fc_reg", 4), (f"{MASK}.conv_logits", 1)):
        theirs = state[f"{layer}.weight"].unflatten(0, (count, rows)).flip(0)
        ours = found[f"{layer}.weight"].unflatten(0, (count, rows))
        same = [torch.equal(a, b) for a, b in zip(theirs, ours, strict=True)]
        assert same == [row != lost for row in range(count)]
    for part in ("backbone.conv1", "neck.fpn_convs.0.conv", "rpn_head.rpn_cls"):
        assert torch.equal(found[f"{part}.weight"], state[f"{part}.weight"])


def test_seesaws_two_rows_of_objectness_are_no_background(zoo, demo_data, tmp_path):
    """From a softmax: the rows of classes alone; from another Seesaw: these two as well."""
    state, classes, path = zoo
    config = gol.load_experiment(
        "demo/gumbel", {**PER_CLASS, "classifier": "seesaw", "init": str(path)}, demo_data
    )
    layer, count = f"{HEAD}.fc_cls.weight", len(classes)
    found = gol.build_detector(config).state_dict()
    kept = [row for row in range(count) if row != count - 4]
    assert torch.equal(found[layer][:count][kept], state[layer][:-1].flip(0)[kept])
    assert not torch.equal(found[layer][-1], state[layer][-1])

    again = tmp_path / "again.pth"
    theirs = {**found, layer: torch.rand_like(found[layer])}
    counted = f"{HEAD}.loss_cls.cum_samples"
    theirs[counted] = theirs[counted] + 9
    torch.save({"meta": {"CLASSES": tuple(classes)}, "state_dict": theirs}, again)
    config = gol.load_experiment(
        "demo/gumbel", {**PER_CLASS, "classifier": "seesaw", "init": str(again)}, demo_data
    )
    begun = gol.build_detector(config).state_dict()
    assert torch.equal(begun[layer][-2:], theirs[layer][-2:])
    assert not begun[counted].any()  # a training counts its own regions


def test_an_activation_that_learns_its_form_starts_like_the_one_it_is_at_first(zoo, demo_data):
    found = [
        gol.build_detector(
            gol.load_experiment(
                "demo/gumbel", {**PER_CLASS, "classifier": name, "init": str(zoo[2])}, demo_data
            )
        ).state_dict()[f"{HEAD}.fc_cls.weight"]
        for name in ("apa", "gumbel")
    ]
    count = len(zoo[1])
    kept = [row for row in range(count) if row != count - 4]
    assert torch.equal(found[0][:count][kept], found[1][:count][kept])


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "gumbel", "gol"])
def test_the_classifier_scores_as_the_file_did(name, zoo, demo_data):
    """A softmax stays the same; others begin with each class's odds against the background."""
    state, classes, path = zoo
    config, found = mine(demo_data, name, path)
    weight, bias = (state[f"{HEAD}.fc_cls.{part}"] for part in ("weight", "bias"))
    features = torch.randn(8, weight.shape[1]) / 50
    theirs = features @ weight.T + bias
    ours = features @ found[f"{HEAD}.fc_cls.weight"].T + found[f"{HEAD}.fc_cls.bias"]
    kept = [row for row in range(len(classes)) if row != len(classes) - 4]
    theirs = torch.cat([theirs[:, :-1].flip(1), theirs[:, -1:]], 1)
    if name == "softmax":
        torch.testing.assert_close(ours[:, [*kept, -1]], theirs[:, [*kept, -1]])
        return
    odds = (theirs[:, :-1] - theirs[:, -1:])[:, kept]
    activation = ACTIVATIONS[config.gol.scorings[-1]]
    even = activation.bias(0.5)
    slope = (even - activation.bias(float(logsigmoid(torch.tensor(-6.5)).exp()))) / 6.5
    torch.testing.assert_close(ours[:, kept], odds * slope + even, rtol=1e-3, atol=1e-3)


def test_other_content_is_another_training(zoo, demo_data, tmp_path):
    state, classes, path = zoo
    copy = tmp_path / "copy.pth"
    copy.write_bytes(path.read_bytes())
    first, _ = mine(demo_data, "softmax", copy)
    torch.save({"meta": {"CLASSES": classes}, "state_dict": state}, copy)
    with pytest.raises(UserError, match="not the file that the run was configured with"):
        gol.build_detector(first)
    second, _ = mine(demo_data, "softmax", copy)
    assert fingerprint(first) != fingerprint(second)
    assert "init" not in gol.load_experiment("demo/softmax", None, demo_data).gol


@pytest.mark.parametrize("form", ["mmengine", "wrapped", "averaged", "bare with names"])
def test_forms_of_other_programs(form, zoo, demo_data, tmp_path):
    state, classes, _ = zoo
    changed = {f"module.{name}": value for name, value in state.items()}
    meta, stated = {"CLASSES": classes}, None
    content = {"meta": meta, "state_dict": changed}
    if form == "mmengine":
        content = {"meta": {"dataset_meta": {"classes": classes}}, "state_dict": state}
    elif form == "averaged":
        content = {"meta": meta, "ema_state_dict": {**changed, "steps": torch.tensor(3)}}
    elif form == "bare with names":
        content, stated = state, ",".join(classes)
    file = tmp_path / "file.pth"
    torch.save(content, file)
    names = [name.lower() for name in classes]
    start = compare(file, state, stated, names, "softmax")
    assert start.classes == names and start.fresh == ([], [])
    assert all(torch.equal(start.tensors[name], state[name]) for name in state)


def test_own_classes_of_the_same_number_take_no_rows_by_position(zoo, demo_data):
    state, classes, path = zoo
    fresh = {name: torch.zeros_like(value) for name, value in state.items()}
    start = compare(path, fresh, None, [f"own {i}" for i in range(len(classes))], "softmax")
    assert start.classes == [] and not start.tensors[f"{MASK}.conv_logits.weight"].any()
    assert not start.tensors[f"{HEAD}.fc_reg.weight"].any()
    assert torch.equal(start.tensors[f"{HEAD}.fc_cls.bias"][-1], state[f"{HEAD}.fc_cls.bias"][-1])
    none = compare(path, fresh, "none", classes, "softmax")
    assert f"{HEAD}.fc_reg.weight" in none.fresh[1] and f"{HEAD}.shared_fcs.0.bias" in none.tensors


def wrong(state, classes):
    """Kind of file → its content, and what is said of it."""
    meta, resnet = {"CLASSES": classes}, {"conv1.weight": torch.ones(1)}
    deeper = {**state, "backbone.layer3.9.conv1.weight": torch.ones(1)}
    torchvision = {"backbone.body.conv1.weight": torch.ones(1)}
    nan = {**state, "neck.fpn_convs.0.conv.bias": torch.full((64,), torch.nan)}
    return {
        "page": (b"<!DOCTYPE html><html>", "is a web page, not a checkpoint"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        "no classes": ({"state_dict": state}, "does not name its classes: state their order"),
        "fewer classes": ({"meta": {"CLASSES": classes[:9]}, "state_dict": state}, "for 9 classes"),
        "mmdet 1": ({"meta": {**meta, "mmdet_version": "1.2"}, "state_dict": state}, "mmdet 1"),
        "other backbone": ({"meta": meta, "state_dict": deeper}, "another backbone: unexpected"),
        "backbone": (resnet, "holds a backbone alone, which `gol config --weights` takes"),
        "torchvision": (torchvision, "is a detector of torchvision"),
        "nothing in common": ({"a": torch.ones(1)}, "has no tensor by a name of this detector's"),
        "not finite": ({"meta": meta, "state_dict": nan}, "is not finite"),
    }


@pytest.mark.parametrize("kind", wrong({}, []))
def test_what_cannot_be_a_start_is_refused_in_one_line(kind, zoo, demo_data, tmp_path, capsys):
    content, words = wrong(*zoo[:2])[kind]
    file, run = tmp_path / "file.pth", tmp_path / "run"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    settings = [f"{key}={str(value).lower()}" for key, value in PER_CLASS.items()]
    command = ["config", "demo/gumbel", "--data", str(demo_data), "--init", str(file)]
    assert main([*command, "--run", str(run), "--set", *settings]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert words in line and not run.exists()


def test_without_network_it_says_which_file_to_put_where(demo_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("gol.sources.download._PAUSE", 0.001)
    run = tmp_path / "run"
    assert main(["config", "own/gol", "--data", str(demo_data), "--run", str(run)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    name = "mask_rcnn_r50_fpn_2x_coco_bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40.pth"
    assert f"put it at {tmp_path}/hub/checkpoints/{name}" in line and "--init FILE" in line
    assert main(["config", "own/gol", "--init", "no.pth", "--run", str(run)]) == 2
    assert "allowed: none, mask_rcnn_r50_coco, an http" in capsys.readouterr().err


def test_an_address_without_a_digest_is_not_trained_from(zoo, demo_data):
    with pytest.raises(UserError, match="has no sha256: write the config"):
        load_init(torch.nn.Module(), {"file": str(zoo[2])}, [], "softmax")


@pytest.mark.parametrize("target", ["softmax", "sigmoid", "gumbel"])
@pytest.mark.parametrize("source", ["softmax", "sigmoid", "gumbel", None])
def test_rows_of_a_run_of_ours_mean_the_same_to_another_activation(source, target, tmp_path):
    """Classes as likely as not, or rare, stay so; of a run that does not say it, rows stay."""
    wanted = [0.5, float(torch.sigmoid(torch.tensor(-6.5)))]
    said = source or target
    if said == "softmax":  # each against the background, whose logit may be any
        logits = torch.tensor([0, -6.5]) + 2
    else:
        logits = torch.tensor([ACTIVATIONS[said].bias(chance) for chance in wanted])
    layers = {"weight": torch.rand(3, 4), "bias": torch.tensor([*logits, 2.0])}
    state = {f"{HEAD}.fc_cls.{name}": value for name, value in layers.items()}
    meta = {"CLASSES": ["a", "b"], "gol": "0"} | ({"scoring": source} if source else {})
    torch.save({"meta": meta, "state_dict": state}, tmp_path / "ours.pth")
    start = compare(tmp_path / "ours.pth", state, None, ["a", "b"], target)
    bias = start.tensors[f"{HEAD}.fc_cls.bias"]
    if target == "softmax":
        found = torch.sigmoid(bias[:2] - bias[2])
    else:
        found = ACTIVATIONS[target].probability(bias[:2])
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=0)
    kept = torch.equal(start.tensors[f"{HEAD}.fc_cls.weight"], layers["weight"])
    assert kept == (said == target)
    assert ("made those of" in start.report()) == (said != target)
    assert ("does not say" in start.report()) == (source is None)
