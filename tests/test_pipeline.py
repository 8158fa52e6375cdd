"""Pipeline files: every shipped one is right, and what is wrong is named."""

import pytest

from gol.axes import configs_folder, read_yaml
from gol.errors import UserError
from gol.pipeline import read_pipeline

GOOD = {"name": "mine", "dataset": "demo", "experiments": ["demo/gumbel"]}


@pytest.fixture
def schema(root):
    return root / "workflow/schemas/pipeline.schema.yaml"


@pytest.mark.parametrize(
    "path",
    sorted(
        set(configs_folder().glob("*.yaml"))
        - {configs_folder() / "axes.yaml", configs_folder() / "experiments.yaml"}
    ),
    ids=lambda path: path.stem,
)
def test_shipped_pipeline_files_are_right(path, schema):
    pipeline = read_pipeline(read_yaml(path), schema)
    assert pipeline.name == path.stem
    assert pipeline.experiments and len(pipeline.seeds) >= 1


def test_defaults(schema):
    pipeline = read_pipeline(GOOD, schema)
    assert (list(pipeline.seeds), pipeline.threads, pipeline.settings) == (
        [0],
        1,
        ["gol.threads=1"],
    )
    assert pipeline.drawn and pipeline.scorings("demo/sigmoid") == ["softmax", "sigmoid"]
    assert pipeline.annotation_files("d") == ["d/raw/train.json", "d/raw/val.json"]


BAD = {
    "unknown key": ({"expochs": 3}, "unknown key 'expochs'; allowed: name, dataset, experiments"),
    "unknown experiment": ({"experiments": ["demo/gumble"]}, "unknown experiment 'demo/gumble'"),
    "unknown dataset": ({"dataset": "coco"}, "unknown dataset 'coco'; allowed: demo"),
    "wrong type": ({"seeds": "three"}, "key 'seeds': 'three' is not of type 'integer'"),
    "no seed": ({"seeds": 0}, "key 'seeds': 0 is less than the minimum of 1"),
    "no experiment": ({"experiments": []}, "key 'experiments'"),
    "twice": ({"experiments": ["demo/gumbel"] * 2}, "key 'experiments'"),
    "unsafe name": ({"name": "../up"}, "key 'name'"),
    "unknown config key": ({"set": {"optimizer.lrr": 1}}, "unknown key 'lrr' in optimizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case, schema):
    values, words = BAD[case]
    with pytest.raises(UserError) as raised:
        read_pipeline({**GOOD, **values}, schema)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key, schema):
    with pytest.raises(UserError, match=f"'{key}' is a required property"):
        read_pipeline({name: value for name, value in GOOD.items() if name != key}, schema)
